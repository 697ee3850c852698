r"""Converts a checkpoint of github.com/google-research/vdm; its README has the addresses.

    python scripts/convert_vdm.py --config=configs/cifar10_converted.py --workdir=W \
        --input=checkpoints-0/ckpt-N.flax

writes W/params.safetensors and its card, W/params.json; with --dry_run it only checks the file, which is read
without executing what it contains. See docs/converted.md.
"""

from diffc_jax.conversion.command import run_conversion
from diffc_jax.conversion.vdm import convert_vdm

if __name__ == "__main__":
    run_conversion(convert_vdm)
