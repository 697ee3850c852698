"""Figures of the comparison of schemes that send Gaussian samples, drawn from the rows of schemes.csv."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from diffc_jax.plotting import style

Row = Mapping[str, Any]

# (label, colour, marker)
_SCHEMES: Mapping[str, tuple[str, str, str]] = {
    "poisson": ("Poisson functional representation", style.BLUE, "s"),
    "poisson_truncated": ("the same, truncated", style.SKY, "P"),
    "ordered": ("ordered random coding", style.GREEN, "^"),
    "minimal": ("minimal random coding", style.ORANGE, "D"),
    "dithered": ("dithered quantisation", style.PURPLE, "v"),
    "trellis": ("trellis-coded codebook", style.VERMILION, "o"),
    "open_trellis": ("open trellis, exact", "0.0", "X"),
    "bound": ("suffices for a message", "0.75", ""),
    "codewords": ("best of 2^k codewords", "0.55", ""),
    "any_code": ("limit of exact schemes", "0.35", ""),
}
_WITHOUT_CHUNKS = ("trellis", "open_trellis", "dithered")
_DASHES = ("-", style.DASHED, style.DOTTED, style.MIXED)
_TICKS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


def plot_overhead(rows: Sequence[Row]) -> Figure:
    """Bits over KL, and over the KL of the shift that arrives, against the KL of what is sent at once."""
    with matplotlib.rc_context(style.ONE_FONT):
        figure, (plain, credited) = _panels(2)
        _draw(plain, rows, "overhead")
        _draw(credited, rows, "credited_overhead")
        plain.set_title("Bits over KL", loc="left")
        plain.set_ylabel("overhead")
        credited.set_title("Bits over the KL of what arrives", loc="left")
        low = min(0.04, *(row["credited_overhead"] for row in rows if row["credited_overhead"] > 0))
        high = max(row["credited_overhead"] for row in rows)
        for axes in (plain, credited):
            axes.set_yscale("log")
            axes.set_yticks(_TICKS, minor=False)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.set_ylim(0.9 * low, 1.2 * high)
        _add_legend(figure)
    return figure


def plot_distribution(rows: Sequence[Row]) -> Figure:
    """Distribution of samples along mu: mean, variance and Kolmogorov-Smirnov distance of the projection."""
    with matplotlib.rc_context(style.ONE_FONT):
        figure, panels = _panels(3)
        for axes, column, title, true in zip(
            panels,
            ("shift", "variance_along", "ks_along"),
            ("Mean along μ over |μ|", "Variance along μ", "Distance from N(0, 1) along μ"),
            (1.0, 1.0, None),
            strict=True,
        ):
            _draw(axes, rows, column)
            if true is not None:
                axes.axhline(true, color="0.6", lw=0.8, zorder=0)
            axes.set_title(title, loc="left")
        _log_scale(panels[2])
        x, y = (np.array([row[name] for row in rows]) for name in ("kl_bits", "ks_along_true"))
        panels[2].plot(x, y, "_", color="0.6", zorder=0, label="as many true samples")
        _add_legend(figure)
    return figure


def plot_work(rows: Sequence[Row]) -> Figure:
    """Candidates for a chunk or message, and seconds for each bit of KL that is sent."""
    with matplotlib.rc_context(style.ONE_FONT):
        figure, (candidates, seconds) = _panels(2)
        _draw(candidates, rows, "log2_candidates")
        candidates.set_title("Candidates for a chunk (mean)", loc="left")
        candidates.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"2^{value:g}"))
        timed = []
        for row in rows:
            if row["encode_seconds"] is not None:
                per_kilobit = 1e3 * row["encode_seconds"] / (row["kl_bits"] * row["chunks"])
                timed.append({**row, "per_kilobit": per_kilobit * (12288 / row["size"])})
        _draw(seconds, timed, "per_kilobit")
        _log_scale(seconds)
        seconds.set_title("Seconds to encode 1000 bits in 12288 dimensions", loc="left")
        _add_legend(figure)
    return figure


# By the names of their files.
FIGURES: Mapping[str, Callable[[Sequence[Row]], Figure]] = {
    "overhead": plot_overhead,
    "distribution": plot_distribution,
    "work": plot_work,
}


def _panels(number: int) -> tuple[Figure, Sequence[Axes]]:
    """A figure with panels side by side and room for a legend; margins in inches, as a layout takes time."""
    width, height = 4.7 * number, 5.6
    figure = Figure(figsize=(width, height), dpi=160)
    panels = figure.subplots(1, number)
    figure.subplots_adjust(
        left=0.65 / width,
        right=1 - 0.12 / width,
        bottom=1.8 / height,
        top=1 - 0.3 / height,
        wspace=0.2,
    )
    return figure, list(panels)


def _log_scale(axes: Axes) -> None:
    """Plain numbers at powers of ten: mathematical text takes most of the time of a figure."""
    axes.set_yscale("log")
    _plain_ticks(axes.yaxis)


def _plain_ticks(axis: Axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _draw(axes: Axes, rows: Sequence[Row], column: str) -> None:
    """A line for each setting; filled markers are races in one dimension, open ones whole messages.

    What nothing is simulated for has no markers.
    """
    for scheme, (label, colour, marker) in _SCHEMES.items():
        own = [row for row in rows if row["scheme"] == scheme and row[column] is not None]
        settings = list(dict.fromkeys(row["setting"] for row in own))
        for source in dict.fromkeys(row["source"] for row in own):
            for i, setting in enumerate(settings):
                shown = [r for r in own if (r["source"], r["setting"]) == (source, setting)]
                x, y = (
                    np.array([row[name] for row in shown], float) for name in ("kl_bits", column)
                )
                joined = source != "channel" or scheme in _WITHOUT_CHUNKS
                axes.plot(
                    x,
                    y,
                    marker=marker,
                    ms=4.5,
                    lw=1.4 if joined else 0,
                    color=colour,
                    linestyle=_DASHES[i % len(_DASHES)],
                    mfc=colour if source == "race" else "white",
                    label=": ".join(filter(None, (label, setting))) if joined else None,
                )
    axes.set(xscale="log", xlabel="KL of a chunk, or of a message without chunks (bits)")
    _plain_ticks(axes.xaxis)


def _add_legend(figure: Figure) -> None:
    """All lines of all panels, each once, and what markers mean."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    look: dict[str, Any] = {"marker": "o", "ms": 4.5, "lw": 0, "color": "0.4"}
    found["whole messages, real bytes"] = Line2D([], [], mfc="white", **look)
    found["simulated in one dimension"] = Line2D([], [], **look)
    figure.legend(
        [*found.values()], [*found], loc="lower center", ncols=3, frameon=False, fontsize=7.5
    )
