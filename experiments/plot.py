"""Draws figures and report.html from result files; runs no model.

python experiments/plot.py --inputs=W1,W2 --output=DIR
"""

import os

from absl import flags, logging

from diffc_jax import cli
from diffc_jax.baselines.published import load_published
from diffc_jax.config.checks import finite
from diffc_jax.errors import UsageError
from diffc_jax.plotting.measures import MEASURES, SCALES
from diffc_jax.runtime.files import local_path, split_names
from diffc_jax.runtime.optional import require

_INPUTS = flags.DEFINE_multi_string(
    "inputs", None, "Workdirs or rd.csv files, separated by commas; may be given several times."
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the figures.")
_MEASURE = flags.DEFINE_enum(
    "measure", None, list(MEASURES), "What to draw over the rate; default: psnr, fid, auc, lpips."
)
_Y_SCALE = flags.DEFINE_enum(
    "y_scale", None, SCALES, "Axis of distances; default: log for fid, linear for others."
)
_BPP_RANGE = flags.DEFINE_list("bpp_range", None, "Lowest and highest rate shown: 0.05,5")
_SHOW_IDEAL = flags.DEFINE_bool("show_ideal", False, "Draw the ideal rates beside the bounds.")
_MIXED = flags.DEFINE_bool("allow_mixed_data", False, "Draw results of different images together.")
_PUBLISHED = flags.DEFINE_list(
    "published",
    [],
    "Others' points to draw too, by method or data set: imagenet64-chrabaszcz/bpg,hific (see "
    "diffc_jax/baselines/published/README.md).",
)


def _bpp_range() -> tuple[float, float] | None:
    if _BPP_RANGE.value is None:
        return None
    try:
        low, high = (float(end) for end in _BPP_RANGE.value)
    except ValueError:
        raise UsageError(f"{_BPP_RANGE.value} is not two numbers", field="--bpp_range") from None
    finite("--bpp_range", low, high)
    return low, high


def main() -> None:
    """Draws what the flags ask for."""
    require("matplotlib")  # which the next import needs
    from diffc_jax.plotting.figures import make_figures
    from diffc_jax.plotting.html_report import make_report

    inputs = [os.path.expanduser(name) for name in split_names(_INPUTS.value)]
    output = local_path(_OUTPUT.value)
    more_points = load_published(_PUBLISHED.value) if _PUBLISHED.value else []
    written = make_figures(
        inputs,
        output,
        measures=None if _MEASURE.value is None else [_MEASURE.value],
        y_scale=_Y_SCALE.value,
        bpp_range=_bpp_range(),
        show_ideal=_SHOW_IDEAL.value,
        allow_mixed_data=_MIXED.value,
        more_points=more_points,
    )
    report = make_report(
        inputs,
        output / "report.html",
        measure_default=_MEASURE.value or "psnr",
        allow_mixed_data=_MIXED.value,
        more_points=more_points,
    )
    logging.info("wrote %s", ", ".join(map(str, [report, *written])))


if __name__ == "__main__":
    flags.mark_flags_as_required(["inputs", "output"])
    cli.run(main)
