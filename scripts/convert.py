r"""Converts a checkpoint of another project: docs/converted.md has the table of those that can be used.

    python scripts/convert.py --config=configs/diffusers_converted.py --workdir=W --input=ddpm-cifar10-32

writes W/params.safetensors and its card, W/params.json; with --dry_run it only checks the checkpoint. The
config says which network it has to be. Files are read without executing what they contain.
"""

from diffc_jax.conversion.command import main

if __name__ == "__main__":
    main()
