"""Decodes .diffc files, whole or a prefix, to PNG.

python experiments/decompress.py --input=a.diffc --output=a.png --decoder=flow --at=0.5
"""

from absl import flags

from diffc_jax import cli
from diffc_jax.codec.files import decompress
from diffc_jax.config.sources import MOST_PIXELS
from diffc_jax.diffusion.decoders import describe_decoders
from diffc_jax.runtime.files import split_names

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Folder of the run that encoded, or its params.safetensors; without it the weights of the "
    "repository.",
)
_INPUT = flags.DEFINE_multi_string(
    "input",
    None,
    ".diffc files, folders of them or quoted patterns, separated by commas; may be given several times.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "A .png file, or a folder for several inputs; what ends in / is a folder."
)
_DECODER = flags.DEFINE_string("decoder", "flow", describe_decoders())
_STEPS = flags.DEFINE_integer(
    "steps",
    None,
    "Denoiser evaluations; without it as many as a sweep takes at the noise level of the file.",
    lower_bound=1,
)
_AT = flags.DEFINE_float("at", None, "Decode only the packets within so many bits per pixel.")
_SALVAGE = flags.DEFINE_bool("salvage", False, "Decode damaged files up to the damage.")
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 16, "Most windows or small images in one call of the network.", lower_bound=1
)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", MOST_PIXELS, "Largest image to decode, width times height.", lower_bound=1
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Describe the files and stop.")


def main() -> None:
    """Does what the flags ask for."""
    decompress(
        _MODEL.value,
        split_names(_INPUT.value),
        _OUTPUT.value,
        decoder=_DECODER.value,
        n_steps=_STEPS.value,
        at_bpp=_AT.value,
        salvage=_SALVAGE.value,
        batch_size=_BATCH_SIZE.value,
        max_pixels=_MAX_PIXELS.value,
        dry_run=_DRY_RUN.value,
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["input", "output"])
    cli.run(main)
