"""Rate-distortion figures: `bpp` of rate points against a quality measure."""

import dataclasses
import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.legend_handler import HandlerBase
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Transform

from diffc_jax.errors import InputError, UsageError
from diffc_jax.plotting import style
from diffc_jax.results import RatePoint

SCALES = ("log", "linear")
_DEFAULT_RANGES = {"log": (0.02, 10.0), "linear": (0.0, 5.0)}


@dataclasses.dataclass(frozen=True)
class Measure:
    """A column of the results as a y axis.

    Attributes:
        axis: label of the axis, with its unit.
        title: the quantity in the figure's title.
        stderr: column with its standard error, if there is one.
    """

    axis: str
    title: str
    stderr: str | None = None


MEASURES: Mapping[str, Measure] = {
    "psnr": Measure("PSNR of the mean squared error (dB)", "PSNR"),
    "psnr_mean": Measure("mean PSNR of the images (dB)", "mean PSNR", "psnr_mean_stderr"),
}


def plot_rate_psnr(
    points: Sequence[RatePoint],
    *,
    measure: str = "psnr",
    scale: str = "log",
    bpp_range: tuple[int | float, int | float] | None = None,
    show_ideal: bool = False,
    allow_mixed_data: bool = False,
) -> Figure:
    """Draws bits per pixel against PSNR, one line per method, model and decoder.

    Points without the measure are left out; those with infinite PSNR become triangles on the top
    edge. Standard errors, where the points have them, are drawn as bars.

    Args:
        points: from any methods.
        measure: `psnr` or `psnr_mean`.
        scale: of the rate axis, `log` or `linear`.
        bpp_range: limits of the rate axis in bits per pixel; None shows the data within 0.02..10
            (log) or 0..5 (linear).
        show_ideal: also draws each bound's ideal rate `bpp_kl` as a faint dotted line.
        allow_mixed_data: draws points of different images together; the caption names the data.

    Raises:
        UsageError: unknown measure or scale, an empty range, or points of different images.
        InputError: no point has the measure.
    """
    if measure not in MEASURES:
        raise UsageError(f"measure: {measure!r} is not one of {', '.join(MEASURES)}")
    if scale not in SCALES:
        raise UsageError(f"scale: {scale!r} is not one of {', '.join(SCALES)}")
    drawn = [p for p in points if not math.isnan(_value(p, measure))]
    if not drawn:
        raise InputError(f"nothing to draw: none of the {len(points)} rate points has {measure}")
    if not allow_mixed_data:
        check_same_images(drawn)
    limits = _limits(drawn, scale, bpp_range)
    series = style.series_of(drawn)
    legend_rows = len(series) + len({line.group for line in series})
    height = max(4.5, 0.9 + 0.18 * legend_rows)
    with matplotlib.rc_context(dict(style.RC)):
        figure = Figure(figsize=(7.4, height), dpi=200, layout="constrained")
        axes = figure.add_subplot()
        for line in series:
            _draw(axes, line, measure, limits, show_ideal)
        _format_axes(axes, drawn, measure, scale, limits)
        axes.set_title(f"Rate against {MEASURES[measure].title}", loc="left")
        _add_legend(figure, series)
        _add_caption(figure, _caption(drawn, measure, limits, show_ideal))
    return figure


def check_same_images(points: Sequence[RatePoint]) -> None:
    """Refuses points that were measured on different images.

    Raises:
        UsageError: more than one data set, split or number of images, each named with its methods.
    """
    methods: dict[str, set[str]] = {}
    for point in points:
        methods.setdefault(_data_name(point), set()).add(point.method)
    if len(methods) > 1:
        found = "; ".join(f"{name} [{', '.join(sorted(methods[name]))}]" for name in methods)
        raise UsageError(
            f"inputs: rates and PSNRs of different images do not compare: {found}; "
            "evaluate all methods on the same images, or set allow_mixed_data"
        )


def _data_name(point: RatePoint) -> str:
    plural = "" if point.n_images == 1 else "s"
    return f"{' '.join(filter(None, (point.dataset, point.split)))}, {point.n_images} image{plural}"


def _value(point: RatePoint, column: str) -> float:
    value = getattr(point, column)
    return math.nan if value is None else float(value)


def _limits(
    points: Sequence[RatePoint], scale: str, bpp_range: tuple[int | float, int | float] | None
) -> tuple[float, float]:
    if bpp_range is not None:
        low, high = bpp_range
        if not (0 <= low < high < math.inf) or (scale == "log" and low == 0):
            raise UsageError(
                f"bpp_range: {low:g}..{high:g} is not a range of rates on a {scale} axis"
            )
        return float(low), float(high)
    low, high = _DEFAULT_RANGES[scale]
    rates = [p.bpp for p in points if p.bpp > 0] or [low]
    if scale == "linear":
        return low, min(high, 1.05 * max(rates))
    low, high = max(low, min(rates) / 1.15), min(high, max(rates) * 1.15)
    return (low, high) if low < high else (min(rates) / 1.15, max(rates) * 1.15)


def _draw(
    axes: Axes,
    series: style.Series,
    measure: str,
    limits: tuple[float, float],
    show_ideal: bool,
) -> None:
    finite = [p for p in series.points if math.isfinite(_value(p, measure))]
    rates = [p.bpp for p in finite]
    values = [_value(p, measure) for p in finite]
    column = MEASURES[measure].stderr
    axes.plot(rates, values, **series.line)
    axes.errorbar(
        rates,
        values,
        xerr=[0.0 if p.bpp_stderr is None else p.bpp_stderr for p in finite],
        yerr=None if column is None else [_stderr(p, column) for p in finite],
        linestyle="none",
        color=series.line["color"],
        elinewidth=0.7,
        alpha=0.45,
        zorder=1.8,
    )
    ideal = [(p.bpp_kl, _value(p, measure)) for p in finite if p.bpp_kl is not None]
    if show_ideal and ideal:
        axes.plot(
            *zip(*ideal, strict=True),
            color=series.line["color"],
            linestyle=":",
            linewidth=0.9,
            alpha=0.6,
            zorder=1.9,
        )
    lossless = [p.bpp for p in series.points if _is_lossless(p, measure, limits)]
    if lossless:
        axes.plot(
            lossless,
            [1.0] * len(lossless),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker="^",
            markersize=6,
            color=series.line["color"],
            clip_on=False,
        )


def _is_lossless(point: RatePoint, measure: str, limits: tuple[float, float]) -> bool:
    return math.isinf(_value(point, measure)) and limits[0] <= point.bpp <= limits[1]


def _stderr(point: RatePoint, column: str) -> float:
    value = _value(point, column)
    return value if math.isfinite(value) else 0.0


def _format_axes(
    axes: Axes,
    points: Sequence[RatePoint],
    measure: str,
    scale: str,
    limits: tuple[float, float],
) -> None:
    axes.set_xscale(scale)
    axes.set_xlim(limits)
    if scale == "log":
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        axes.xaxis.set_minor_locator(LogLocator(subs=range(1, 10)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 5, 10]))
    # On a linear axis the steep start of every curve is left to the log figure.
    low, high = max(limits[0], limits[1] / 100 if scale == "linear" else 0.0), limits[1]
    visible = [
        _value(p, measure)
        for p in points
        if low <= p.bpp <= high and math.isfinite(_value(p, measure))
    ]
    if visible:
        margin = 0.04 * max(max(visible) - min(visible), 5.0)
        axes.set_ylim(min(visible) - margin, max(visible) + margin)
    axes.set_xlabel("rate (bits per pixel)")
    axes.set_ylabel(MEASURES[measure].axis)
    axes.set_axisbelow(True)


def _add_legend(figure: Figure, series: Sequence[style.Series]) -> None:
    handles: list[Line2D | _Heading] = []
    for group, members in itertools.groupby(series, key=lambda line: line.group):
        handles.append(_Heading(text=group))
        handles += [Line2D([], [], label=line.label, **line.line) for line in members]
    figure.legend(
        handles=handles,
        labels=["" if isinstance(h, _Heading) else str(h.get_label()) for h in handles],
        handler_map={_Heading: _HeadingHandler()},
        loc="outside right upper",
        frameon=False,
        handlelength=3.4,
        labelspacing=0.55,
        borderaxespad=1.2,
    )


def _add_caption(figure: Figure, text: str) -> None:
    """Small print along the bottom edge, below the area that the layout may use."""
    lines = textwrap.wrap(text, 145)
    height = (len(lines) + 0.8) * 9.5 / 72 / figure.get_figheight()
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    layout.set(w_pad=0.06, rect=(0.0, height, 1.0, 0.985 - height))
    figure.text(
        0.012,
        0.02,
        "\n".join(lines),
        fontsize=7,
        color=style.CAPTION_GREY,
        verticalalignment="bottom",
        linespacing=1.25,
        in_layout=False,
    )


class _Heading(Text):
    """Bold line of a legend that begins where the line samples begin."""


class _HeadingHandler(HandlerBase):
    def create_artists(
        self,
        legend: Legend,
        orig_handle: Artist,
        xdescent: float,
        ydescent: float,
        width: float,
        height: float,
        fontsize: float,
        trans: Transform,
    ) -> list[Artist]:
        del legend, width, height
        assert isinstance(orig_handle, _Heading)
        heading = orig_handle.get_text()
        return [
            Text(
                -xdescent, -ydescent, heading, fontsize=fontsize, fontweight="bold", transform=trans
            )
        ]


def _caption(
    points: Sequence[RatePoint], measure: str, limits: tuple[float, float], show_ideal: bool
) -> str:
    sentences = ["; ".join(dict.fromkeys(_data_name(p) for p in points)) + "."]
    steps = sorted({p.n_rate_steps for p in points if p.n_rate_steps is not None})
    if any(p.rate_kind == "bound" for p in points):
        chain = f", C over T = {' and '.join(map(str, steps))} steps" if steps else ""
        sentences.append(f"Upper bound: C + log2(C + 1) + 5 bits per image{chain}.")
    if any(p.rate_kind == "file" for p in points):
        sentences.append("File bytes: whole files, headers counted.")
    if show_ideal and any(p.bpp_kl is not None for p in points):
        sentences.append("Dotted: ideal rate C.")
    column = MEASURES[measure].stderr
    if any(p.bpp_stderr or (column and getattr(p, column)) for p in points):
        sentences.append("Bars: standard error over the images.")
    if any(_is_lossless(p, measure, limits) for p in points):
        sentences.append("Triangles on the top edge: lossless.")
    return " ".join(sentences)
