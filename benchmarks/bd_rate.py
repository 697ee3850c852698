"""BD-PSNR and BD-rate of one method against another: in dB at equal rate, in bits at equal PSNR.

    python benchmarks/bd_rate.py --inputs=runs/quickstart/unet,runs/quickstart/baselines \
        --first=hevc --second=diffc/flow

Reads workdirs or rd.csv files, as experiments/plot.py does. A method is named as in their columns, with model
and decoder where the method alone leaves a choice: hevc, jpeg/4:2:0, diffc/flow, diffc_codec/unet/flow; and
with the name of its workdir where two inputs have it: diffc/flow/W1.
--headerless takes the rates of files without the constant bytes of their containers.

PSNR is that of the mean squared error. Between rate points it is linear in the logarithm of the rate, beyond
them there is nothing, and nothing is printed. The difference of two such lines is straight between the rate
points of both, which are the rows of the tables: the extremes and the rates where it changes its sign are
exact. Means are over the logarithm of the rate (BD-PSNR) and over PSNR (BD-rate), see
diffc_jax/plotting/bd_rate.py.
"""

import collections
import itertools
from collections.abc import Sequence

import numpy as np
from absl import flags

from diffc_jax import cli
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.results import RatePoint
from diffc_jax.plotting.bd_rate import Curve, bjontegaard_delta, rate_curve
from diffc_jax.plotting.inputs import check_same_pixels, collect_rate_points
from diffc_jax.plotting.measures import check_same_images, data_name
from diffc_jax.plotting.style import run_of, series_of

_INPUTS = flags.DEFINE_list("inputs", None, "Workdirs or rd.csv files, separated by commas.")
_FIRST = flags.DEFINE_string("first", None, "The method whose gain is printed: hevc.")
_SECOND = flags.DEFINE_string("second", None, "The method it is compared with: diffc/flow.")
_HEADERLESS = flags.DEFINE_bool(
    "headerless", False, "Take bpp_headerless where a method has it, instead of bpp."
)


def name_of(point: RatePoint) -> str:
    """Method, model and decoder, and the run if others have the same."""
    return "/".join(filter(None, (point.method, point.model, point.decoder, run_of(point))))


def select_curve(points: Sequence[RatePoint], name: str, headerless: bool = False) -> Curve:
    """PSNR in dB over the logarithm of the rate in bits per pixel, of the one method that `name` fits.

    Raises:
        UsageError: it fits none or several.
        InputError: PSNR is missing, or falls somewhere although the rate rises.
    """
    method, *parts = name.split("/")
    every = series_of(points)
    # A run may be called as its model is.
    wanted = collections.Counter(parts)
    found = [
        line.points
        for line in every
        if line.points[0].method == method
        and wanted <= collections.Counter(name_of(line.points[0]).split("/")[1:])
    ]
    if len(found) != 1:
        fits = [name_of(line[0]) for line in found]
        choice = fits or sorted({name_of(line.points[0]) for line in every})
        raise UsageError(
            f"{name!r} fits {len(found)} methods of the inputs; choose one of {', '.join(choice)}"
        )
    (line,) = found
    curve = rate_curve(name_of(line[0]), line, "psnr", headerless)
    if len(curve.x) < 2:
        raise InputError(f"{curve.name}: fewer than two points with a rate and a PSNR")
    pairs = zip(np.exp(curve.x).tolist(), curve.y.tolist(), strict=True)
    for (bpp, psnr), (more, psnr_there) in itertools.pairwise(pairs):
        if more == bpp or psnr_there <= psnr:
            raise InputError(
                f"{curve.name}: {psnr:.3f} dB at {bpp:.4g} bpp, but {psnr_there:.3f} dB at {more:.4g}"
                " bpp; only curves that rise are compared"
            )
    return curve


def _spans(ranges: Sequence[tuple[float, float]]) -> str:
    return ", ".join(f"{low:.3g} to {high:.3g}" for low, high in ranges) or "nowhere"


def report(first: Curve, second: Curve) -> str:
    """Both tables, each with its extremes, its mean and where the first is better."""
    equal_rate = bjontegaard_delta(first, second)
    equal_psnr = bjontegaard_delta(first.inverse, second.inverse)
    gains, bpp = equal_rate.difference, np.exp(equal_rate.at)
    ratio = np.exp(equal_psnr.difference)
    better = [(np.exp(low), np.exp(high)) for low, high in equal_rate.ranges_above()]
    lines = [
        f"at equal rate: {first.name} less {second.name}",
        *(
            f"{rate:10.4f} bpp {a:8.3f} dB {b:8.3f} dB {a - b:+8.3f} dB"
            for rate, a, b in zip(bpp, equal_rate.first, equal_rate.second, strict=True)
        ),
        f"{gains.min():+.2f} to {gains.max():+.2f} dB, mean {equal_rate.mean:+.2f} dB; "
        f"above at {_spans(better)} of {bpp[0]:.3g} to {bpp[-1]:.3g} bpp",
        "",
        f"at equal PSNR: rate of {first.name} against {second.name}",
        *(
            f"{psnr:10.3f} dB {np.exp(a):8.4f} bpp {np.exp(b):8.4f} bpp {np.expm1(a - b):+9.1%}"
            for psnr, a, b in zip(*equal_psnr, strict=True)
        ),
        f"{ratio.min() - 1:+.1%} to {ratio.max() - 1:+.1%}, mean {np.expm1(equal_psnr.mean):+.1%}, of "
        f"{equal_psnr.at[0]:.1f} to {equal_psnr.at[-1]:.1f} dB",
    ]
    return "\n".join(lines)


def main() -> None:
    points = collect_rate_points(_INPUTS.value)
    check_same_images(points)
    check_same_pixels(_INPUTS.value)
    first, second = (
        select_curve(points, name, _HEADERLESS.value) for name in (_FIRST.value, _SECOND.value)
    )
    kind = "rates of files without headers" if _HEADERLESS.value else "whole files"
    print(f"{data_name(points[0])}; {kind}; PSNR linear in log bpp\n")
    print(report(first, second))


if __name__ == "__main__":
    flags.mark_flags_as_required(["inputs", "first", "second"])
    cli.run(main)
