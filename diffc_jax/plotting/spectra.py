"""The figure of power spectra: what reconstructions have of each frequency, and how much of it is wrong."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffc_jax.evaluation.results import RatePoint, read_table
from diffc_jax.evaluation.spectra import FIELDS
from diffc_jax.plotting import layout, style

# Rates of the panels, bits per pixel; of each line the point that is nearest, if it is near enough.
_RATES = (0.1, 0.3, 1.0, 2.0)
_NEAR = math.log(1.5)
_LOWEST_RATIO = 1e-3
_NUMBERS = ("frequency", "power", "original_power", "error_power")
_TEXTS = ("method", "model", "decoder")

# Of a rate point: frequencies, and the power of reconstructions and of their errors over that of originals.
Spectrum = tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"], Float[np.ndarray, " f"]]
# By method, model, decoder and level.
Key = tuple[str, str | None, str | None, float | None]


def load_spectra(path: str | os.PathLike[str]) -> dict[Key, Spectrum]:
    """Reads `spectra.csv` or `spectra_baselines.csv`.

    Raises:
        InputError: a missing or broken file.
    """
    rows: dict[Key, list[tuple[float, ...]]] = {}
    for row in read_table(path, numbers=("level", *_NUMBERS), texts=_TEXTS):
        key = row["method"], row["model"] or None, row["decoder"] or None, row["level"]
        rows.setdefault(key, []).append(tuple(row[name] for name in _NUMBERS))
    found = {}
    for key, values in rows.items():
        frequency, power, original, error = np.array(values, np.float64).T
        with np.errstate(divide="ignore", invalid="ignore"):
            found[key] = frequency, power / original, error / original
    return found


def key_of(point: RatePoint) -> Key:
    """What tells the spectrum of a rate point from others of its run."""
    return point.method, point.model, point.decoder, point.level


def plot_spectra(points: Sequence[RatePoint], spectra: Mapping[RatePoint, Spectrum]) -> Figure:
    """Draws the spectra of rate points near a few rates, one panel for each rate.

    Above, the power over that of the originals; below, the power of the error over it.
    """
    series = [line for line in style.series_of(points) if any(p in spectra for p in line.points)]
    with matplotlib.rc_context(dict(style.RC)):
        size = (3.0 + 2.9 * len(_RATES), max(6.4, layout.legend_height(series)))
        figure = Figure(figsize=size, dpi=200, layout="constrained")
        panels = figure.subplots(2, len(_RATES), sharex=True, sharey="row")
        for column, rate in enumerate(_RATES):
            for line in series:
                if (near := _nearest(line.points, rate, spectra)) is not None:
                    frequency, power, error = spectra[near]
                    for axes, ratio in zip(panels[:, column], (power, error), strict=True):
                        look = {**line.line, "marker": "", "linewidth": 1.2}
                        # The mean colour, at frequency 0, has no texture.
                        axes.plot(frequency[1:], np.maximum(ratio, _LOWEST_RATIO)[1:], **look)
            _format(panels[0, column], panels[1, column], rate)
        panels[0, 0].set_ylabel("power over that of the originals")
        panels[1, 0].set_ylabel("power of the error over it")
        layout.add_legend(figure, series)
        layout.add_caption(
            figure,
            "Mean power of the images at each spatial frequency. 1 above: as much detail as the originals "
            "have; less is blur. 1 below: the error of an image without this detail; 2: that of detail as "
            "strong as the original's that has nothing to do with it. Points whose rates are within a factor "
            f"{math.exp(_NEAR):.1f} of that of the panel.",
        )
    return figure


def spectra_rows(
    points: Sequence[RatePoint], spectra: Mapping[RatePoint, Spectrum]
) -> list[dict[str, Any]]:
    """The table behind `plot_spectra`, of all rate points."""
    return list(_rows(points, spectra))


def _rows(
    points: Sequence[RatePoint], spectra: Mapping[RatePoint, Spectrum]
) -> Iterator[dict[str, Any]]:
    for point in points:
        if point in spectra:
            for frequency, power, error in zip(*spectra[point], strict=True):
                yield {
                    **{name: getattr(point, name) for name in FIELDS[:5]},
                    "frequency": float(frequency),
                    "power_ratio": float(power),
                    "error_ratio": float(error),
                }


def _nearest(
    points: Sequence[RatePoint], rate: float, spectra: Mapping[RatePoint, Spectrum]
) -> RatePoint | None:
    near = [p for p in points if p in spectra and p.bpp > 0]
    best = min(near, key=lambda p: abs(math.log(p.bpp / rate)), default=None)
    return best if best and abs(math.log(best.bpp / rate)) <= _NEAR else None


def _format(above: Axes, below: Axes, rate: float) -> None:
    above.set_title(f"{rate:g} bpp", loc="left")
    for axes, whole in ((above, 1.0), (below, 2.0)):
        axes.set_yscale("log")
        axes.axhline(whole, color=style.BLACK, linewidth=0.6, zorder=1)
        layout.label_axis(axes.yaxis, "log", nbins=9)
    below.axhline(1.0, color=style.BLACK, linewidth=0.6, linestyle=style.DOTTED, zorder=1)
    below.set_xlabel("frequency (cycles per pixel)")
    layout.label_axis(below.xaxis, "linear", nbins=6)
