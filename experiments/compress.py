"""Encodes images as .diffc files with a trained model.

python experiments/compress.py --input=a.png --output=a.diffc --bpp=1
"""

from absl import flags, logging

from diffc_jax import cli
from diffc_jax.channel_simulation.open_trellis_reach import MEMORIES
from diffc_jax.codec.files import compress
from diffc_jax.codec.header import DEFAULT_MEMORY
from diffc_jax.codec.stream import LARGEST_SEED
from diffc_jax.codec.targets import Target
from diffc_jax.config.sources import MOST_PIXELS
from diffc_jax.errors import DiffcError
from diffc_jax.runtime.files import split_names
from diffc_jax.runtime.optional import require

_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Folder of a finished run, or its params.safetensors; without it the weights of the repository.",
)
_INPUT = flags.DEFINE_multi_string(
    "input",
    None,
    "Images, folders of images or quoted patterns, separated by commas; may be given several times.",
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "A .diffc file, or a folder for several inputs; what ends in / is a folder."
)
_BPP = flags.DEFINE_float("bpp", None, "Largest size in bits per pixel, all bytes counted.")
_PSNR = flags.DEFINE_float("psnr", None, "Least PSNR in dB of the image of the flow decoder.")
_PACKETS = flags.DEFINE_integer("packets", None, "Number of packets.")
_GAMMA = flags.DEFINE_float("gamma", None, "Noise level to go down to: -log of the SNR.")
_LOSSLESS = flags.DEFINE_bool("lossless", False, "Exact pixels.")
_MEMORY = flags.DEFINE_integer(
    "memory",
    DEFAULT_MEMORY,
    f"Bits of the trellis' register, one of {MEMORIES}: smaller is faster, larger denser.",
    lower_bound=MEMORIES[0],
    upper_bound=MEMORIES[-1],
)
_SEED = flags.DEFINE_integer(
    "seed",
    None,
    "Of the shared randomness; without it one that depends on the image.",
    lower_bound=0,
    upper_bound=LARGEST_SEED,
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 16, "Most windows or small images in one call of the network.", lower_bound=1
)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels", MOST_PIXELS, "Largest image to encode, width times height.", lower_bound=1
)
_REPORT = flags.DEFINE_string(
    "report",
    None,
    "A .html file to write, too: the images from rising beginnings of their files, beside JPEG, WebP and "
    "AVIF of the same sizes.",
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Check everything, say what would be done, and stop."
)


def main() -> None:
    """Does what the flags ask for."""
    target = Target(_BPP.value, _PSNR.value, _PACKETS.value, _GAMMA.value, _LOSSLESS.value)
    inputs, report = split_names(_INPUT.value), None
    if _REPORT.value is not None:
        require("matplotlib")  # which the next import needs
        from diffc_jax.baselines.picture_report import plan_report

        report = plan_report(_REPORT.value, inputs, _OUTPUT.value, max_pixels=_MAX_PIXELS.value)
    try:
        compress(
            _MODEL.value,
            inputs,
            _OUTPUT.value,
            target,
            memory=_MEMORY.value,
            seed=_SEED.value,
            batch_size=_BATCH_SIZE.value,
            max_pixels=_MAX_PIXELS.value,
            dry_run=_DRY_RUN.value,
        )
    except DiffcError:
        if report is not None and not _DRY_RUN.value:
            logging.warning("%s: is not written, as not all files are", _REPORT.value)
        raise
    if report is not None and _DRY_RUN.value:
        print(report.description)
    elif report is not None:
        report.write(_MODEL.value, _BATCH_SIZE.value)


if __name__ == "__main__":
    flags.mark_flags_as_required(["input", "output"])
    cli.run(main)
