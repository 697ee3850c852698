"""The codec on files: what experiments/compress.py and experiments/decompress.py run."""
