"""What figures share beside their lines: legend, caption, what training has cost, axis of rates."""

import itertools
import textwrap
from collections.abc import Iterable, Sequence

from matplotlib.artist import Artist
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.legend_handler import HandlerBase
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.transforms import Transform

from diffc_jax.evaluation.rate_point import DIFFC_METHODS
from diffc_jax.evaluation.results import RatePoint
from diffc_jax.plotting import style

_CAPTION_CHARACTERS_PER_INCH = 19.5


def legend_height(series: Sequence[style.Series]) -> float:
    """Inches that the legend of these series takes."""
    headings = {line.group for line in series}
    return 0.9 + 0.18 * (len(series) + sum(len(heading.splitlines()) for heading in headings))


def add_legend(figure: Figure, series: Sequence[style.Series]) -> None:
    """Adds a legend right of the panels, with a heading for each group."""
    handles: list[Line2D | _Heading] = []
    for group, members in itertools.groupby(series, key=lambda line: line.group):
        handles += [_Heading(text=line) for line in group.splitlines()]
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


def add_caption(figure: Figure, text: str) -> None:
    """Adds small print along the bottom edge, below the area that the constrained layout may use."""
    lines = wrap_caption(text, figure.get_figwidth())
    height = caption_height(lines) / figure.get_figheight()
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    layout.set(w_pad=0.06, rect=(0.0, height, 1.0, 0.985 - height))
    draw_caption(figure, lines)


def wrap_caption(text: str, width: float) -> list[str]:
    """Lines of small print that fit into `width` inches."""
    return textwrap.wrap(text, int(_CAPTION_CHARACTERS_PER_INCH * width))


def caption_height(lines: Sequence[str]) -> float:
    """Inches that lines of small print take, with the space around them."""
    return (len(lines) + 0.8) * 9.5 / 72


def draw_caption(figure: Figure, lines: Sequence[str]) -> None:
    """Draws lines of small print at the bottom edge."""
    figure.text(
        0.09 / figure.get_figwidth(),
        6.5 / 72 / figure.get_figheight(),
        "\n".join(lines),
        fontsize=7.0,
        color=style.CAPTION_GREY,
        verticalalignment="bottom",
        linespacing=1.25,
        in_layout=False,
    )


def label_axis(axis: Axis, scale: str, nbins: int) -> None:
    """Plain numbers as tick labels: 1, 2, 5, 10, ... on a log axis, at most `nbins` on a linear one."""
    if scale == "linear":
        axis.set_major_locator(MaxNLocator(nbins=nbins, steps=[1, 2, 5, 10]))
        return
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(LogLocator(subs=range(1, 10)))
    axis.set_minor_formatter(NullFormatter())


def describe_training(points: Iterable[RatePoint]) -> str:
    """One sentence on all points that say what their training cost, or an empty text."""
    networks: dict[str, set[RatePoint]] = {}
    for point in points:
        if point.trained_parameters:
            is_ours = point.method in DIFFC_METHODS
            name = (
                f"DiffC, {point.model}" if is_ours else style.codec_label(point.method, point.model)
            )
            networks.setdefault(name, set()).add(point)
    described = "; ".join(map(_describe_network, networks, networks.values()))
    return f"Trained: {described}." if described else ""


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


def _describe_network(name: str, points: set[RatePoint]) -> str:
    facts = (
        _value_range([point.trained_parameters for point in points], "parameters"),
        _value_range([point.images_seen for point in points], "images"),
        _value_range([point.train_cpu_hours for point in points], "CPU hours"),
    )
    rates = {point.level for point in points if point.method in style.NEURAL}
    each = f" for each of {len(rates)} rates" if len(rates) > 1 else ""
    return f"{name}: {', '.join(filter(None, facts))}{each}"


def _value_range(values: Sequence[int | float | None], name: str) -> str:
    """Smallest to largest of the known values, with what they count; empty if none is known."""
    known = [value for value in values if value is not None]
    ends = dict.fromkeys(_short(end(known)) for end in (min, max) if known)
    return f"{' to '.join(ends)} {name}" if ends else ""


def _short(value: int | float) -> str:
    rounded = float(f"{value:.3g}")  # 999,936 is 1 M, and not 1e+03 k
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if rounded >= size:
            return f"{rounded / size:.3g}{letter}"
    return f"{rounded:.3g}"
