"""Draws rate-distortion figures from result files; runs no model.

python experiments/plot.py --inputs=W1,W2 --output=DIR
"""

from absl import flags, logging

from diffc_jax import cli
from diffc_jax.errors import UsageError
from diffc_jax.plotting.figures import make_figures
from diffc_jax.plotting.rate_distortion import MEASURES

_INPUTS = flags.DEFINE_list("inputs", None, "Workdirs or rd.csv files, separated by commas.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the figures.")
_MEASURE = flags.DEFINE_enum("measure", "psnr", list(MEASURES), "What to draw over the rate.")
_BPP_RANGE = flags.DEFINE_list("bpp_range", None, "Lowest and highest rate shown: 0.05,5")
_SHOW_IDEAL = flags.DEFINE_bool("show_ideal", False, "Draw the ideal rates beside the bounds.")
_MIXED = flags.DEFINE_bool("allow_mixed_data", False, "Draw results of different images together.")


def _bpp_range() -> tuple[float, float] | None:
    if _BPP_RANGE.value is None:
        return None
    try:
        low, high = (float(end) for end in _BPP_RANGE.value)
    except ValueError:
        raise UsageError(f"--bpp_range: {_BPP_RANGE.value} is not two numbers") from None
    return low, high


def main() -> None:
    """Draws the figures that the flags ask for."""
    written = make_figures(
        _INPUTS.value,
        _OUTPUT.value,
        measure=_MEASURE.value,
        bpp_range=_bpp_range(),
        show_ideal=_SHOW_IDEAL.value,
        allow_mixed_data=_MIXED.value,
    )
    logging.info("wrote %s", ", ".join(map(str, written)))


if __name__ == "__main__":
    flags.mark_flags_as_required(["inputs", "output"])
    cli.run(main)
