"""Rate-distortion figures: `bpp` of rate points against quality measures."""

import math
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.results import RatePoint
from diffc_jax.plotting import layout, style
from diffc_jax.plotting.layout import describe_training
from diffc_jax.plotting.measures import (
    MEASURES,
    SCALES,
    SET_MEASURES,
    Measure,
    check_same_features,
    check_same_images,
    data_name,
    describe_measure,
    has_measure,
    set_basis,
    value_of,
)

_DEFAULT_RANGES = {"log": (0.02, 10.0), "linear": (0.0, 5.0)}
_LEGEND_WIDTH, _PANEL_WIDTH = 2.5, 4.9


def plot_rates(
    points: Sequence[RatePoint],
    *,
    measures: Sequence[str] = ("psnr",),
    scale: str = "log",
    y_scale: str | None = None,
    bpp_range: tuple[int | float, int | float] | None = None,
    show_ideal: bool = False,
    allow_mixed_data: bool = False,
) -> Figure:
    """Draws bits per pixel against one or more measures, one line per method, model and decoder.

    Each measure has a panel of its own, from left to right, and all share one legend. Points without
    a measure are left out of its panel; infinite PSNRs become triangles on the top edge, and
    distances of 0 triangles on the bottom edge of a log axis. Standard errors, where the points have
    them, are drawn as bars.

    Args:
        points: from any methods.
        measures: keys of `MEASURES`.
        scale: of the rate axis, `log` or `linear`.
        y_scale: of measures of which less is better; None is log for Fréchet distances, linear for others.
        bpp_range: limits of the rate axis in bits per pixel; None shows the data within 0.02..10
            (log) or 0..5 (linear).
        show_ideal: also draws each bound's ideal rate `bpp_kl` as a faint dotted line.
        allow_mixed_data: draws points of different images together; the caption names the data.

    Raises:
        UsageError: unknown measure or scale, an empty range, points of different images, or, whatever
            `allow_mixed_data`, measures of sets in different features or of different numbers of images.
        InputError: no point has one of the measures.
    """
    _check_arguments(measures, scale, y_scale)
    by_measure = {
        name: [p for p in points if has_measure(p, name)] for name in dict.fromkeys(measures)
    }
    for name, having in by_measure.items():
        if not having:
            raise InputError(f"nothing to draw: none of the {len(points)} rate points has {name}")
        check_same_features(name, having)
    drawn = [p for p in points if any(has_measure(p, name) for name in by_measure)]
    if not allow_mixed_data:
        check_same_images(drawn)
    limits = _limits(drawn, scale, bpp_range)
    series = style.series_of(drawn)
    described = {
        name: describe_measure(name, having, y_scale) for name, having in by_measure.items()
    }
    size = (_LEGEND_WIDTH + _PANEL_WIDTH * len(described), max(4.5, layout.legend_height(series)))
    with matplotlib.rc_context(dict(style.RC)):
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        panels = figure.subplots(1, len(described), squeeze=False)[0]
        for axes, (name, measure) in zip(panels, described.items(), strict=True):
            for line in series:
                _draw(axes, line, name, measure, limits, show_ideal)
            _format_axes(axes, by_measure[name], name, measure, scale, limits)
            axes.set_title(f"Rate against {measure.title}", loc="left")
        layout.add_legend(figure, series)
        layout.add_caption(figure, _caption(by_measure, described, limits, show_ideal))
    return figure


def _check_arguments(measures: Sequence[str], scale: str, y_scale: str | None) -> None:
    if not measures:
        raise UsageError(f"empty; name some of {', '.join(MEASURES)}", field="measures")
    for name in measures:
        if name not in MEASURES:
            raise UsageError(f"{name!r} is not one of {', '.join(MEASURES)}", field="measures")
    if scale not in SCALES:
        raise UsageError(f"{scale!r} is not one of {', '.join(SCALES)}", field="scale")
    if y_scale not in (None, *SCALES):
        raise UsageError(f"{y_scale!r} is not one of {', '.join(SCALES)}", field="y_scale")


def _limits(
    points: Sequence[RatePoint], scale: str, bpp_range: tuple[int | float, int | float] | None
) -> tuple[float, float]:
    if bpp_range is not None:
        low, high = bpp_range
        if not (0 <= low < high < math.inf) or (scale == "log" and low == 0):
            raise UsageError(
                f"{low:g}..{high:g} is not a range of rates on a {scale} axis", field="bpp_range"
            )
        return float(low), float(high)
    low, high = _DEFAULT_RANGES[scale]
    rates = [p.bpp for p in points if p.bpp > 0] or [low]
    if scale == "linear":
        return low, 1.05 * max(rates) if min(rates) > high else min(high, 1.05 * max(rates))
    low, high = max(low, min(rates) / 1.15), min(high, max(rates) * 1.15)
    return (low, high) if low < high else (min(rates) / 1.15, max(rates) * 1.15)


def _draw(
    axes: Axes,
    series: style.Series,
    name: str,
    measure: Measure,
    limits: tuple[float, float],
    show_ideal: bool,
) -> None:
    inside = [p for p in series.points if _edge(p, name, measure) is None and has_measure(p, name)]
    rates = [p.bpp for p in inside]
    values = [value_of(p, name) for p in inside]
    column = measure.stderr
    axes.plot(rates, values, **series.line)
    axes.errorbar(
        rates,
        values,
        xerr=[0.0 if p.bpp_stderr is None else p.bpp_stderr for p in inside],
        yerr=None if column is None else [_stderr(p, column) for p in inside],
        linestyle="none",
        color=series.line["color"],
        elinewidth=0.7,
        alpha=0.45,
        zorder=1.8,
    )
    ideal = [(p.bpp_kl, value_of(p, name)) for p in inside if p.bpp_kl is not None]
    if show_ideal and ideal:
        axes.plot(
            *zip(*ideal, strict=True),
            color=series.line["color"],
            linestyle=":",
            linewidth=0.9,
            alpha=0.6,
            zorder=1.9,
        )
    for height, marker in ((1.0, "^"), (0.0, "v")):
        rates = [p.bpp for p in series.points if _on_edge(p, name, measure, limits) == height]
        if rates:
            axes.plot(
                rates,
                [height] * len(rates),
                transform=axes.get_xaxis_transform(),
                linestyle="none",
                marker=marker,
                markersize=6,
                color=series.line["color"],
                clip_on=False,
            )


def _edge(point: RatePoint, name: str, measure: Measure) -> float | None:
    """Top (1) or bottom (0) of the axes, for values that have no place between."""
    value = value_of(point, name)
    if math.isinf(value):
        return 1.0
    return 0.0 if measure.scale == "log" and value <= 0 else None


def _on_edge(
    point: RatePoint, name: str, measure: Measure, limits: tuple[float, float]
) -> float | None:
    return _edge(point, name, measure) if limits[0] <= point.bpp <= limits[1] else None


def _stderr(point: RatePoint, column: str) -> float:
    value = value_of(point, column)
    return value if math.isfinite(value) else 0.0


def _format_axes(
    axes: Axes,
    points: Sequence[RatePoint],
    name: str,
    measure: Measure,
    scale: str,
    limits: tuple[float, float],
) -> None:
    axes.set_xscale(scale)
    axes.set_xlim(limits)
    layout.label_axis(axes.xaxis, scale, nbins=10)
    axes.set_yscale(measure.scale)
    layout.label_axis(axes.yaxis, measure.scale, nbins=9)
    # On a linear axis the steep start of every curve is left to the log figure.
    low, high = max(limits[0], limits[1] / 100 if scale == "linear" else 0.0), limits[1]
    visible = [
        value_of(p, name)
        for p in points
        if low <= p.bpp <= high and _edge(p, name, measure) is None
    ]
    if measure.scale == "log" and visible:
        axes.set_ylim(min(visible) / 1.25, max(visible) * 1.25)
    elif measure.scale == "log":
        axes.set_ylim(1.0, 10.0)  # matplotlib chooses no limits where nothing is above 0
    elif visible:
        margin = 0.04 * max(max(visible) - min(visible), measure.least_span) or 0.1
        axes.set_ylim(min(visible) - margin, max(visible) + margin)
    axes.set_xlabel("rate (bits per pixel)")
    axes.set_ylabel(measure.axis)
    axes.set_axisbelow(True)


def _caption(
    by_measure: Mapping[str, Sequence[RatePoint]],
    described: Mapping[str, Measure],
    limits: tuple[float, float],
    show_ideal: bool,
) -> str:
    points = list(dict.fromkeys(p for having in by_measure.values() for p in having))
    sentences = ["; ".join(dict.fromkeys(data_name(p) for p in points)) + "."]
    own = [p for p in points if not style.is_published(p)]
    steps = sorted({p.n_rate_steps for p in own if p.n_rate_steps is not None})
    if any(p.rate_kind == "bound" for p in own):
        chain = f", C over T = {' and '.join(map(str, steps))} steps" if steps else ""
        sentences.append(f"Upper bound: C + log2(C + 1) + 5 bits per image{chain}.")
    if any(p.rate_kind == "file" for p in own):
        sentences.append("File bytes: whole files, headers counted.")
    if training := describe_training(own):
        sentences.append(training)
    for name in SET_MEASURES:
        if name in by_measure:
            basis = set_basis(by_measure[name][0], name)
            sentences.append(f"{described[name].title}: {basis}.")
    if "auc" in by_measure:
        sentences.append(
            "AUC: of telling reconstructions from photographs, 0.5 if that is impossible."
        )
    if "lpips" in by_measure:
        sentences.append("LPIPS: with AlexNet; of published points as published.")
    if len(own) < len(points):
        sentences.append(
            "Thin pale lines: published by others on the images named, see "
            "diffc_jax/baselines/published/README.md."
        )
    if show_ideal and any(p.bpp_kl is not None for p in points):
        sentences.append("Dotted: ideal rate C.")
    columns = [measure.stderr for measure in described.values() if measure.stderr]
    if any(p.bpp_stderr or any(getattr(p, column) for column in columns) for p in points):
        sentences.append("Bars: standard error over the images.")
    edges = {
        (_on_edge(p, name, measure, limits), name == "psnr_mean")
        for name, measure in described.items()
        for p in by_measure[name]
    }
    if (1.0, False) in edges:
        sentences.append("Triangles on the top edge: lossless.")
    elif (1.0, True) in edges:  # the mean is infinite as soon as one PSNR is
        sentences.append("Triangles on the top edge: an image that is exact.")
    if (0.0, False) in edges:
        sentences.append("Triangles on the bottom edge: distance 0 or less.")
    return " ".join(sentences)
