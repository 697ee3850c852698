"""The codec on files: the `.diffc` container, the chain that fills it, tiles, and the lossless last mile."""
