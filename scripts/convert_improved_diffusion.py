r"""Converts an unconditional checkpoint of github.com/openai/improved-diffusion; its README has the links.

    python scripts/convert_improved_diffusion.py --config=configs/imagenet64_converted.py --workdir=W \
        --input=imagenet64_uncond_100M_1500K.pt

writes W/params.safetensors and its card, W/params.json; with --dry_run it only checks the file, which is read
without executing what it contains. See docs/converted.md.
"""

from diffc_jax.conversion.command import run_conversion
from diffc_jax.conversion.improved_diffusion import convert_improved_diffusion

if __name__ == "__main__":
    run_conversion(convert_improved_diffusion)
