"""Figures of the analysis, drawn from the rows of its tables."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from diffc_jax.plotting import style

Row = Mapping[str, Any]

# (label, colour, dashes, marker of simulated points)
_CURVES: Mapping[str, tuple[str, str, Any, str]] = {
    "rd": ("R(D): limit of any code", style.BLACK, "-", ""),
    "diffc_d": ("DiffC-D (posterior mean)", style.GREEN, "-", "^"),
    "diffc_f_star": ("DiffC-F*: limit with realism", style.ORANGE, style.DASHED, "D"),
    "diffc_f": ("DiffC-F (flow)", style.VERMILION, "-", "o"),
    "rd_half": ("R(D/2): limit of posterior samples", "0.65", "-", ""),
    "diffc_a_star": ("DiffC-A* (optimal noise)", style.SKY, style.DASHED, "P"),
    "diffc_a": ("DiffC-A (ancestral)", style.BLUE, "-", "s"),
}
_GAINS = (
    ("diffc_a", "diffc_f", "F over A", style.VERMILION, "-"),
    ("diffc_a", "diffc_a_star", "A* over A (optimal noise)", style.SKY, style.DASHED),
    ("diffc_f", "diffc_f_star", "F* over F (optimal noise)", style.ORANGE, style.DASHED),
    ("diffc_f_star", "rd", "R(D) over F* (price of realism)", style.BLACK, style.DOTTED),
)
# Curves that share their noise, and so their rates, are drawn once.
_RATE_CURVES = {
    "diffc_f": "DiffC, isotropic noise",
    "diffc_f_star": "DiffC-F*",
    "rd": "R(D) and DiffC-A*",
}
_SNR_CURVES = ("rd", "diffc_f_star", "diffc_f", "diffc_a")
_SOURCE_LINES = (
    (style.VERMILION, "-", "o"),
    (style.PURPLE, style.DASHED, "D"),
    (style.BLUE, style.MIXED, "s"),
    (style.GREEN, style.DOTTED, "^"),
)
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_HALF_DB = 10.0 * np.log10(2.0)


def plot_curves(curves: Sequence[Row], simulated: Sequence[Row], source: str) -> Figure:
    """The paper's analysis figure: SNR, and gains in it, against bits per pixel.

    Drawn from the rows of curves.csv and of simulation.csv, if any; the title names the source.
    """
    with matplotlib.rc_context(style.ONE_FONT):
        figure, axes_grid = _figure((10.4, 4.6), 1, 2)
        left, right = axes_grid[0]
        by_curve = _grouped(curves, "curve")
        bpp, snr_a = _columns(by_curve["diffc_a"], "bits_per_pixel", "snr_db")
        shown = (bpp >= 0.01) & (bpp <= 10.0)
        shown |= not shown.any()
        snr = {name: _columns(rows, "snr_db")[0] for name, rows in by_curve.items()}
        for name, (label, colour, dashes, _) in _CURVES.items():
            left.plot(bpp, snr[name], color=colour, linestyle=dashes, lw=1.6, label=label)
        for name, rows in _grouped(simulated, "curve").items():
            if name in _CURVES:
                x, y, error = _columns(rows, "bits_per_pixel", "snr_db", "snr_db_stderr")
                _draw_points(left, x, y, error, _CURVES[name][1], _CURVES[name][3])
        if simulated:
            _label_points(left)
        left.set_ylim(snr_a[shown].min() - 1.0, snr["rd"][shown].max() + 1.0)
        left.set(ylabel="signal-to-noise ratio (dB)")
        left.set_title("Signal-to-noise ratio", loc="left")
        for lower, upper, label, colour, dashes in _GAINS:
            gain = snr[upper] - snr[lower]
            right.plot(bpp, gain, color=colour, linestyle=dashes, lw=1.6, label=label)
        right.axhline(_HALF_DB, color="0.6", lw=0.8, zorder=0)
        right.set(ylabel="gain at the same rate (dB)", ylim=(0.0, 4.0), yticks=[0, 1, 2, 3])
        right.set_title("Gains (grey line: 3.01 dB)", loc="left")
        for axes in (left, right):
            axes.set(
                xscale="log", xlabel="bits per pixel", xlim=(bpp[shown].min(), bpp[shown].max())
            )
            _format_logs(axes)
            axes.legend(frameon=False)
        _add_title(figure, f"DiffC on a Gaussian source: {source}")
    return figure


def plot_components(components: Sequence[Row], source: str) -> Figure:
    """How bits and SNR spread over the principal components (components.csv), a column for each rate."""
    by_rate = _grouped(components, "bits_per_pixel")
    with matplotlib.rc_context(style.ONE_FONT):
        size = (3.5 * len(by_rate), 5.6)
        figure, grid = _figure(size, 2, len(by_rate), sharex=True, sharey="row")
        for (bits, snr), (bpp, rows) in zip(grid.T, by_rate.items(), strict=True):
            by_curve = _grouped(rows, "curve")
            for name, label in _RATE_CURVES.items():
                index, value = _columns(by_curve[name], "component", "bits")
                _, colour, dashes, _ = _CURVES[name]
                bits.plot(index, value, color=colour, linestyle=dashes, lw=1.5, label=label)
            for name in _SNR_CURVES:
                index, value = _columns(by_curve[name], "component", "snr_db")
                label, colour, dashes, _ = _CURVES[name]
                snr.plot(index, value, color=colour, linestyle=dashes, lw=1.5, label=label)
            bits.set_title(f"{bpp:g} bits per pixel", loc="left")
            snr.set(xlabel="principal component", xscale="log")
            _format_logs(snr)
        for axes, label in zip(grid[:, 0], ("bits", "SNR of the component (dB)"), strict=True):
            axes.set_ylabel(label)
            axes.legend(frameon=False)
        _add_title(figure, f"Spread over components: {source}")
    return figure


def plot_realism(realism: Sequence[Row], source: str) -> Figure:
    """Distortion against distance from the source, from DiffC-F to DiffC-D (realism.csv)."""
    by_rate = _grouped(realism, "bits_per_pixel")
    with matplotlib.rc_context(style.ONE_FONT):
        figure, grid = _figure((3.5 * len(by_rate), 3.4), 1, len(by_rate))
        for axes, (bpp, rows) in zip(grid[0], by_rate.items(), strict=True):
            families = _grouped(rows, "family")
            for family, label, colour, dashes in (
                ("kappa", "score scaled by κ in the flow", style.PURPLE, "-"),
                ("mix", "mix of flow and mean (optimal)", style.BLACK, style.DASHED),
            ):
                x, y = _columns(families[family], "squared_wasserstein", "distortion")
                axes.plot(np.sqrt(x), y, color=colour, linestyle=dashes, lw=1.5, label=label)
            kappa = families["kappa"]
            for name, row, (_, colour, _, marker) in (
                ("F", kappa[0], _CURVES["diffc_f"]),
                ("D", kappa[-1], _CURVES["diffc_d"]),
            ):
                x, y = _columns([row], "squared_wasserstein", "distortion")
                axes.plot(np.sqrt(x), y, marker, color=colour, ms=7, clip_on=False, zorder=3)
                axes.annotate(name, (np.sqrt(x[0]), y[0]), (6, 4), textcoords="offset points")
            axes.set(xlabel="Wasserstein-2 distance to the source", xlim=(0, None))
            axes.set_title(f"{bpp:g} bits per pixel", loc="left")
        first = figure.axes[0]
        first.set_ylabel("distortion E|X − Y|²")
        first.legend(frameon=False)
        _add_title(figure, f"Between realism and distortion: {source}")
    return figure


def plot_scalar(curves: Sequence[Row], simulated: Sequence[Row]) -> Figure:
    """Scalar sources: the ratio of distortions, its way to 1/2, and the distance to both bounds.

    Drawn from the rows of scalar/curves.csv and of scalar/simulation.csv, if any.
    """
    with matplotlib.rc_context(style.ONE_FONT):
        figure, ((ratio, excess), (shannon, gauss)) = _figure((10.4, 7.6), 2, 2)
        measured = _grouped(simulated, "source")
        looks = itertools.cycle(_SOURCE_LINES)
        for (name, rows), (colour, dashes, marker) in zip(
            _grouped(curves, "source").items(), looks, strict=False
        ):
            sigma2, bits, value, low, kl = _columns(
                rows, "sigma2", "bits", "ratio", "shannon_lower_bound", "kl_bits"
            )
            look = {"color": colour, "linestyle": dashes, "lw": 1.6, "label": name}
            ratio.plot(sigma2, value, **look)
            odds = sigma2 / (1.0 - sigma2)
            excess.plot(odds, value - 0.5, **look)
            told = low > 0
            shannon.plot(bits[told], (bits - low)[told], **look)
            gauss.plot(sigma2, kl, **look)
            if name in measured:
                x, y, error = _ratio_points(measured[name])
                _draw_points(ratio, x, y, error, colour, marker)
        if measured:
            _label_points(ratio)
        ratio.axhline(0.5, color="0.6", lw=0.8, zorder=0)
        ratio.axhline(2 / np.pi, color="0.6", lw=0.8, zorder=0, linestyle=style.DOTTED)
        ratio.set(xscale="log", xlabel="noise variance σ²", ylabel="D_F / D_A", ylim=(0.45, 1.02))
        ratio.set_title("Flow against ancestral (grey: 1/2, and 2/π of two points)", loc="left")
        excess.set(xscale="log", yscale="log", ylim=(1e-8, 1))
        excess.set(xlabel="noise-to-signal ratio s² = σ²/(1 − σ²)", ylabel="D_F / D_A − 1/2")
        excess.set_title("Like s² for smooth densities, like s for the uniform", loc="left")
        shannon.set(xlabel="rate of DiffC-F (bits)", ylabel="bits above the Shannon bound")
        shannon.set(yscale="log", ylim=(1e-8, 1), xlim=(0, None))
        shannon.set_title("DiffC-F reaches the Shannon lower bound", loc="left")
        gauss.set(xscale="log", xlabel="noise variance σ²", ylabel="bits below the Gaussian")
        gauss.set_title("Rate = rate of the Gaussian − KL of the marginals", loc="left")
        for axes in (ratio, excess, shannon, gauss):
            _format_logs(axes)
            axes.legend(frameon=False)
    return figure


def plot_vector(simulated: Sequence[Row]) -> Figure:
    """A mixture in several dimensions (vector/curves.csv): rate between two bounds, ratio of distortions."""
    with matplotlib.rc_context(style.ONE_FONT):
        figure, ((left, right),) = _figure((8.6, 3.8), 1, 2)
        sigma2, bits, error, high, low = _columns(
            simulated, "sigma2", "bits", "bits_stderr", "gaussian_bits", "shannon_lower_bound"
        )
        left.plot(
            sigma2, high, color="0.5", linestyle=style.DASHED, label="Gaussian of its covariance"
        )
        _draw_points(left, sigma2, bits, error, style.VERMILION, "o")
        left.plot([], [], "o", color=style.VERMILION, label="mixture, simulated")
        left.plot(sigma2, low, color=style.BLACK, label="Shannon lower bound at D_F")
        left.set(ylabel="bits")
        left.legend(frameon=False)
        left.set_title("Rate", loc="left")
        x, y, error = _ratio_points(simulated)
        _draw_points(right, x, y, error, style.VERMILION, "o")
        right.axhline(0.5, color="0.6", lw=0.8, zorder=0)
        right.set(ylabel="D_F / D_A")
        right.set_title("Flow against ancestral", loc="left")
        for axes in (left, right):
            axes.set(xscale="log", xlabel="noise variance σ²")
            _format_logs(axes)
    return figure


def _figure(
    size: tuple[float, float], rows: int, columns: int, **options: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its (rows, columns) panels, with margins in inches: a computed layout takes time."""
    width, height = size
    figure = Figure(figsize=size, dpi=160)
    panels = figure.subplots(rows, columns, squeeze=False, **options)
    figure.subplots_adjust(
        left=0.6 / width,
        right=1 - 0.12 / width,
        bottom=0.5 / height,
        top=1 - 0.55 / height,
        wspace=0.2 if columns == 2 else 0.16,
        hspace=0.28 if "sharex" not in options else 0.12,
    )
    return figure, panels


def _add_title(figure: Figure, title: str) -> None:
    figure.suptitle(title, fontsize=10, x=0.01, y=0.99, ha="left", va="top")


def _format_logs(axes: Axes) -> None:
    """Plain powers of ten without minor ticks: mathematical text takes most of the time of a figure."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(FuncFormatter(_power_of_ten))
            axis.set_minor_locator(NullLocator())


def _power_of_ten(value: float, _position: int | None = None) -> str:
    return "10" + str(round(math.log10(value))).translate(_SUPERSCRIPTS)


def _ratio_points(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """sigma2, ratio and a bound on its standard error: both distortions come from the same samples."""
    sigma2, ratio, d_a, error_a, d_f, error_f = _columns(
        rows, "sigma2", "ratio", "d_a", "d_a_stderr", "d_f", "d_f_stderr"
    )
    return sigma2, ratio, ratio * np.hypot(error_a / d_a, error_f / d_f)


def _draw_points(
    axes: Axes, x: np.ndarray, y: np.ndarray, stderr: np.ndarray, colour: str, marker: str
) -> None:
    look: dict[str, Any] = {"color": colour, "ms": 5, "mec": "white", "mew": 0.6, "capsize": 2}
    axes.errorbar(x, y, 2.0 * stderr, fmt=marker, zorder=3, **look)


def _label_points(axes: Axes) -> None:
    axes.plot([], [], "o", color="0.4", ms=5, label="simulated, ± 2 standard errors")


def _grouped(rows: Sequence[Row], key: str) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def _columns(rows: Sequence[Row], *names: str) -> tuple[np.ndarray, ...]:
    """Columns as float arrays; None is not a number."""
    return tuple(np.array([row[name] for row in rows], np.float64) for name in names)
