"""`claims.md`: the paper's claims as numbers, computed from result files only.

Between rate points measures are linear in the logarithm of the rate, and so is the logarithm of a Fréchet
distance, as in the figures; beyond them nothing is compared.
"""

import contextlib
import math
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from diffc_jax.errors import InputError
from diffc_jax.evaluation.rate_point import DIFFC_CODEC, DIFFC_METHODS, HIFIC, HYPERPRIOR
from diffc_jax.evaluation.results import RatePoint, read_table
from diffc_jax.plotting import style
from diffc_jax.plotting.bd_rate import BjontegaardDelta, Curve, bjontegaard_delta, rate_curve
from diffc_jax.plotting.inputs import check_same_pixels, collect_rate_points
from diffc_jax.plotting.measures import (
    check_same_images,
    data_name,
    describe_measure,
    has_measure,
    set_basis,
    value_of,
)
from diffc_jax.runtime.files import atomic_write

COMPARED_BPP = (0.1, 2.0)
# Rates at which the classifier's areas under the curve are compared.
CLASSIFIER_BPP = (0.1, 0.3, 1.0)
_NONE = "-"
# Decimals of each measure at equal rates.
_DECIMALS = {"psnr": 2, "lpips": 4, "fid": 1, "kid": 4, "auc": 3}
# Standard errors on each side of a 95 % interval.
_INTERVAL = 1.96
_HEAD = (
    *("method", "compared, bpp", "distance lower over", "ratio of distances"),
    *("PSNR higher over", "by, dB"),
)

Row = Sequence[str]


def write_claims(
    inputs: Sequence[str | os.PathLike[str]], theory: pathlib.Path, output: pathlib.Path
) -> None:
    """Writes DiffC-F against every method, A and D, files against the bound, and the Gaussian analysis.

    Args:
        inputs: workdirs with `eval/rd.csv`, all of the same images.
        theory: folder of `studies.gaussian_analysis.run.analyse_theory`.
        output: a Markdown file; an older one is replaced.

    Raises:
        UsageError: points of different images.
        InputError: missing or broken results.
    """
    points = collect_rate_points(inputs)
    check_same_images(points)
    check_same_pixels(inputs)
    series = style.series_of(points)
    text = "\n".join(
        (
            f"# Claims in numbers: {data_name(points[0])}",
            *_against_others(series),
            *_flow_and_ancestral(series),
            *_flow_and_mean(series),
            *_classifier(series),
            *_at_rates_of_trained_codecs(series),
            *_files_and_bound(series),
            *_theory(theory / "gaussian" / "curves.csv"),
        )
    )
    with atomic_write(output) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


def _against_others(series: Sequence[style.Series]) -> Iterator[str]:
    """Tables for each DiffC-F, of a network or its files: all other methods at equal rate."""
    low, high = COMPARED_BPP
    for own in series:
        if own.points[0].decoder != "flow" or own.points[0].model in style.GAUSSIAN_BASELINES:
            continue
        yield f"\n## {_name(own)} against others at equal rate, {low:g} to {high:g} bpp\n"
        if basis := next((p for p in own.points if has_measure(p, "fid")), None):
            yield f"{describe_measure('fid', [basis]).title}: {set_basis(basis)}."
        yield (
            "Percentages are of the compared range of rates on a logarithmic axis. Ratio: the other's Fréchet"
            " distance over this one's."
        )
        others = [other for other in series if other is not own]
        yield "\nWhole files:\n"
        yield from _table(_HEAD, [_row_against(own, other, headerless=False) for other in others])
        if bare := [o for o in others if any(p.bpp_headerless is not None for p in o.points)]:
            yield "\nFiles without the constant bytes of their containers:\n"
            yield from _table(_HEAD, [_row_against(own, other, headerless=True) for other in bare])


def _row_against(own: style.Series, other: style.Series, *, headerless: bool) -> Row:
    psnr = _delta(*(_curve(series, "psnr", headerless) for series in (own, other)))
    distance = _delta(*(_log_distance(series, headerless) for series in (own, other)))
    compared = [
        f"{np.exp(found.at[0]):.2f} to {np.exp(found.at[-1]):.2f}"
        for found in (distance, psnr)
        if found
    ]
    return (
        _name(other),
        ", PSNR ".join(dict.fromkeys(compared)) or _NONE,
        _where_higher(distance.swapped) if distance else _NONE,
        _span(np.exp(-distance.difference), ".2f") if distance else _NONE,
        _where_higher(psnr) if psnr else _NONE,
        _span(psnr.difference, "+.2f") if psnr else _NONE,
    )


def _curve(series: style.Series, measure: str, headerless: bool = False) -> Curve:
    return rate_curve(_name(series), series.points, measure, headerless)


def _log_distance(series: style.Series, headerless: bool) -> Curve:
    distance = _curve(series, "fid", headerless)
    known = distance.y > 0
    return Curve(distance.name, distance.x[known], np.log(distance.y[known]))


def _delta(first: Curve, second: Curve) -> BjontegaardDelta | None:
    """Within the compared rates; None where the two have none in common."""
    if min(len(first.x), len(second.x)) < 2:
        return None
    low, high = map(math.log, COMPARED_BPP)
    with contextlib.suppress(InputError):
        return bjontegaard_delta(first, second, (low, high))
    return None


def _where_higher(delta: BjontegaardDelta) -> str:
    """Over how much of the rates, on a logarithmic axis, the first is higher, and where it is not."""
    below = delta.swapped.ranges_above()
    above = sum(high - low for low, high in delta.ranges_above())
    spans = ", ".join(f"{np.exp(low):.2f} to {np.exp(high):.2f}" for low, high in below)
    return f"{above / np.ptp(delta.at):.0%}" + (f" (not at {spans} bpp)" if spans else "")


def _flow_and_ancestral(series: Sequence[style.Series]) -> Iterator[str]:
    """A table for each denoiser: both decoders of the same z."""
    for flow in series:
        if (flow.points[0].method, flow.points[0].decoder) != ("diffc", "flow"):
            continue
        partner = _bound(series, flow, "ancestral")
        if partner is None:
            continue
        # The label of a flow with what tells its run from others.
        _, *differing = flow.label.split(", ", 1)
        denoiser = ", ".join((str(flow.points[0].model), *differing))
        yield f"\n## DiffC-F and DiffC-A with the denoiser {denoiser}\n"
        psnrs = {point.gamma: value_of(point, "psnr") for point in partner.points}
        rows = []
        for point in flow.points:
            if point.gamma in psnrs:
                a, f = psnrs[point.gamma], value_of(point, "psnr")
                numbers = f"{point.bpp:.3f}", f"{a:.2f}", f"{f:.2f}"
                compared = f"{f - a:+.2f}", f"{10 ** ((a - f) / 10):.3f}"
                if math.isnan(f - a):  # both are exact
                    compared = _NONE, _NONE
                rows.append((f"{value_of(point, 'gamma'):.2f}", *numbers, *compared))
        yield from _table(("-log SNR", "bpp", "A, dB", "F, dB", "F over A, dB", "D_F / D_A"), rows)


def _flow_and_mean(series: Sequence[style.Series]) -> Iterator[str]:
    """A table for each denoiser: which of two decoders of the same z is the more realistic one."""
    for flow in series:
        own = flow.points[0]
        differing = [point for point in flow.points if point.fid_minus_mean is not None]
        mean = _bound(series, flow, "mean")
        if (own.method, own.decoder) != ("diffc", "flow") or not differing or mean is None:
            continue
        yield f"\n## Realism of {_name(flow)} against the posterior mean\n"
        yield (
            f"{set_basis(differing[0])}. Negative differences, here with 95 % intervals over the images: F is"
            " closer to the reference. AUC: of a classifier that tells reconstructions from photographs, 0.5"
            " if it cannot.\n"
        )
        of_mean = {point.gamma: point for point in mean.points}
        rows = [
            (
                f"{point.bpp:.3f}",
                _of_both(point, of_mean[point.gamma], "psnr"),
                _of_both(point, of_mean[point.gamma], "fid"),
                _with_interval(point, "fid_minus_mean"),
                _with_interval(point, "kid_minus_mean"),
                *(
                    "" if one.auc is None else f"{one.auc:.3f}"
                    for one in (point, of_mean[point.gamma])
                ),
                _of_both(point, of_mean[point.gamma], "lpips"),
            )
            for point in differing
            if point.gamma in of_mean
        ]
        differences = "Fréchet distance, F - D", "kernel distance, F - D"
        heads = (
            *("bpp", "PSNR of F, D, dB", "Fréchet distance of F, D", *differences),
            *("AUC of F", "AUC of D", "LPIPS of F, D"),
        )
        yield from _table(heads, rows)


def _of_both(flow: RatePoint, mean: RatePoint, measure: str) -> str:
    return ", ".join(_number(value_of(point, measure), measure) for point in (flow, mean))


def _at_rates_of_trained_codecs(series: Sequence[style.Series]) -> Iterator[str]:
    """A table for each size of files of HiFiC and the hyper-prior: all other methods at that rate."""
    for own in series:
        if own.points[0].method not in (HIFIC, HYPERPRIOR):
            continue
        measures = [name for name in _DECIMALS if any(has_measure(p, name) for p in own.points)]
        for point in own.points:
            rows = [(own.label, *(_number(value_of(point, name), name) for name in measures))]
            for other in series:
                values = [_value_at(other, name, point.bpp) for name in measures]
                if other is not own and not np.isnan(values).all():
                    numbers = map(_number, values, measures)
                    rows.append((_name(other), *numbers))
            yield f"\n## At the rate of {own.label}, {point.bpp:.3f} bpp\n"
            yield (
                "Whole files and bounds. Between points measures, and the logarithm of the Fréchet distance,"
                " are linear in the logarithm of the rate.\n"
            )
            titles = [describe_measure(name, [point]).title for name in measures]
            yield from _table(("method", *titles), rows)


def _value_at(series: style.Series, measure: str, bpp: float) -> float:
    """Between two rate points; NaN beyond them."""
    _, x, y = _log_distance(series, False) if measure == "fid" else _curve(series, measure)
    if not x.size or not x[0] <= math.log(bpp) <= x[-1]:
        return math.nan
    value = float(np.interp(math.log(bpp), x, y))
    return math.exp(value) if measure == "fid" else value


def _number(value: float, measure: str) -> str:
    return f"{value:.{_DECIMALS[measure]}f}" if math.isfinite(value) else _NONE


def _classifier(series: Sequence[style.Series]) -> Iterator[str]:
    """How well the images of each method can be told from photographs at the same rates."""
    rows = []
    for one in series:
        found = [_value_at(one, "auc", bpp) for bpp in CLASSIFIER_BPP]
        areas = [_NONE if math.isnan(value) else f"{value:.2f}" for value in found]
        if {*areas} != {_NONE}:
            rows.append((_name(one), *areas))
    if rows:
        yield "\n## Told from photographs by a classifier\n"
        yield (
            "Area under the ROC curve of whole files and of bounds: 0.5 if it cannot tell, 1 if it"
            " always can. Between points it is linear in the logarithm of the rate.\n"
        )
        yield from _table(("method", *(f"{bpp:g} bpp" for bpp in CLASSIFIER_BPP)), rows)


def _with_interval(point: RatePoint, measure: str) -> str:
    """With two digits of the interval's half."""
    value, error = (getattr(point, name) for name in (measure, f"{measure}_stderr"))
    if value is None:
        return _NONE
    if not error:
        return f"{value:.3g}"
    half = _INTERVAL * error
    decimals = max(0, 1 - math.floor(math.log10(half)))
    return f"{value:.{decimals}f} ± {half:.{decimals}f}"


def _files_and_bound(series: Sequence[style.Series]) -> Iterator[str]:
    """Bits of files over bits of the bound at equal PSNR, for each decoder that has both."""
    rows = []
    for files in series:
        if files.points[0].method != DIFFC_CODEC:
            continue
        bound = _bound(series, files, files.points[0].decoder)
        least = _curve(bound, "psnr") if bound else None
        if least is None or len(least.x) < 2 or (np.diff(least.y) <= 0).any():
            continue
        for point in files.points:
            psnr = value_of(point, "psnr")
            if least.y[0] <= psnr <= least.y[-1]:
                bpp = math.exp(np.interp(psnr, least.y, least.x))
                numbers = f"{psnr:.2f}", f"{point.bpp:.3f}", f"{bpp:.3f}", f"{point.bpp / bpp:.3f}"
                rows.append((_name(files), *numbers))
    if rows:
        yield "\n## Files against the bound at equal PSNR\n"
        yield from _table(("files", "PSNR, dB", "files, bpp", "bound, bpp", "ratio"), rows)


_GAINS = {
    "F over A, isotropic noise": ("diffc_f", "diffc_a"),
    "best noise over isotropic noise, F": ("diffc_f_star", "diffc_f"),
    "best noise over isotropic noise, A": ("diffc_a_star", "diffc_a"),
    "R(D) over F": ("rd", "diffc_f"),
}


def _theory(curves: pathlib.Path) -> Iterator[str]:
    """Gains between curves of the paper's Gaussian, which has all of them at the same rates."""
    table: dict[str, dict[float, float]] = {}
    for row in read_table(curves, numbers=("bits_per_pixel", "snr_db"), texts=("curve",)):
        # Each curve was solved for its rates, so that their last digits differ.
        rate = float(f"{row['bits_per_pixel']:.6g}")
        table.setdefault(row["curve"], {})[rate] = row["snr_db"]
    if missing := {one for pair in _GAINS.values() for one in pair} - table.keys():
        raise InputError(
            f"{curves}: has no curve {min(missing)!r}; run experiments/gaussian.py again"
        )

    def gains(first: str, second: str, chosen: Callable[[float], bool]) -> str:
        rates = [bpp for bpp in table[first] if bpp in table[second] and chosen(bpp)]
        return _span(np.array([table[first][r] - table[second][r] for r in rates]), "+.3f")

    low, high = COMPARED_BPP
    yield "\n## A Gaussian fitted to patches of the training images: closed forms\n"
    yield from _table(
        ("SNR, dB", "all rates", f"{low:g} to {high:g} bpp"),
        [
            (name, gains(*pair, lambda _: True), gains(*pair, lambda bpp: low <= bpp <= high))
            for name, pair in _GAINS.items()
        ],
    )


def _bound(
    series: Sequence[style.Series], line: style.Series, decoder: str | None
) -> style.Series | None:
    """The bound of the same denoiser in the same run with this decoder."""
    own = line.points[0]
    wanted = ("diffc", own.model, own.checkpoint, decoder, style.run_of(own))
    for other in series:
        found = other.points[0]
        run = style.run_of(found)
        if (found.method, found.model, found.checkpoint, found.decoder, run) == wanted:
            return other
    return None


def _name(series: style.Series) -> str:
    """As in the legends; a decoder's with its denoiser."""
    point = series.points[0]
    return f"{series.label}, {point.model}" if point.method in DIFFC_METHODS else series.label


def _span(values: np.ndarray, form: str) -> str:
    return f"{values.min():{form}} to {values.max():{form}}" if values.size else _NONE


def _table(head: Row, rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
