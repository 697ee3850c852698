"""Figures of the chain's rate: bounds against the ideal, and which noise levels cost how much."""

import dataclasses
import itertools
import os
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffc_jax.channel_simulation.rate_bound import chunked_rate_bound, stepwise_rate_bound
from diffc_jax.errors import InputError
from diffc_jax.evaluation.results import read_table
from diffc_jax.plotting import layout, style

CHUNKS = (4, 16, 64)
_CHUNK_LINES = (
    (style.ORANGE, (0, (2.5, 1))),
    (style.GREEN, style.DASHED),
    (style.SKY, style.MIXED),
)
_RUN_LINES = (
    (style.VERMILION, "-"),
    (style.BLUE, style.DASHED),
    (style.GREEN, style.MIXED),
    (style.PURPLE, style.DOTTED),
)
_LOWEST_BPP, _LARGEST_RATIO = 0.006, 6.0
_FORMULA = "k + log2(k + 1) + 5".replace(" ", "\N{NO-BREAK SPACE}")


@dataclasses.dataclass(frozen=True)
class RateCurve:
    """The rate of a chain at every noise level, from pure noise down.

    Attributes:
        name: what figures call the run.
        steps: steps of the chain so far, from 0 to T.
        gammas: negative log signal-to-noise ratio, decreasing.
        bpp_kl: ideal rate C, bits per pixel.
        bpp: the bound C + log2(C + 1) + 5 (Li & El Gamal 2018), bits per pixel.
        step_bits: mean ideal rate of the steps since the level before, bits per image.
        n_pixels: pixels of an image.
    """

    name: str
    steps: Int[np.ndarray, " t"]
    gammas: Float[np.ndarray, " t"]
    bpp_kl: Float[np.ndarray, " t"]
    bpp: Float[np.ndarray, " t"]
    step_bits: Float[np.ndarray, " t"]
    n_pixels: int

    def chunked_bpp(self, chunk_bits: int | float) -> Float[np.ndarray, " t"]:
        """Bound in bits per pixel if chunks of `chunk_bits` were messages of their own."""
        return chunked_rate_bound(self.bpp_kl * self.n_pixels, chunk_bits) / self.n_pixels

    def stepwise_bpp(self) -> Float[np.ndarray, " t"]:
        """Bound in bits per pixel if the steps were messages of their own."""
        # The prior is one more message.
        n_steps = np.diff(self.steps, prepend=self.steps[0] - 1)
        return stepwise_rate_bound(self.step_bits, n_steps) / self.n_pixels

    def density(self) -> Float[np.ndarray, " _"]:
        """Bits per pixel and unit of gamma, between neighbouring noise levels."""
        return self.step_bits[1:] / -np.diff(self.gammas) / self.n_pixels


def load_rate_curve(path: str | os.PathLike[str], name: str) -> RateCurve:
    """Reads `rate_curve.csv`.

    Raises:
        InputError: a missing or broken file, or one that is not a chain from noise down.
    """
    fields = ("step", "gamma", "bpp_kl", "bpp", "step_bits")
    rows = list(read_table(path, numbers=fields))
    columns = {field: np.array([row[field] for row in rows], np.float64) for field in fields}
    if len(rows) < 2:
        raise InputError(f"{path}: has {len(rows)} rows; a chain has at least two noise levels")
    if not all(np.isfinite(column).all() for column in columns.values()):
        raise InputError(f"{path}: holds a number that is not finite")
    if (np.diff(columns["gamma"]) >= 0).any():
        raise InputError(f"{path}: gamma does not fall from row to row")
    if columns["step"][0] != 0 or (np.diff(columns["step"]) < 1).any():
        raise InputError(f"{path}: step does not rise from 0 from row to row")
    total = columns["step_bits"].sum()
    if total <= 0 or columns["bpp_kl"][-1] <= 0:
        raise InputError(f"{path}: the chain carries no information")
    return RateCurve(
        name=name,
        steps=columns["step"].astype(int),
        gammas=columns["gamma"],
        bpp_kl=columns["bpp_kl"],
        bpp=columns["bpp"],
        step_bits=columns["step_bits"],
        n_pixels=round(total / columns["bpp_kl"][-1]),
    )


def plot_bounds(curve: RateCurve, data: str) -> Figure:
    """Draws the ideal rate, the bound, and what it would be for chunks and steps sent on their own.

    The left panel has the rates over the noise level, the right one how many times the ideal rate they
    are. The caption begins with `data`.
    """
    lines: list[tuple[str, Float[np.ndarray, " t"], dict[str, Any]]] = [
        (
            "every step alone",
            curve.stepwise_bpp(),
            {"color": style.PURPLE, "linestyle": style.DOTTED},
        )
    ]
    for chunk, (color, dashes) in zip(CHUNKS, _CHUNK_LINES, strict=True):
        look = {"color": color, "linestyle": dashes, "linewidth": 1.2}
        lines.append((f"chunks of {chunk} bits alone", curve.chunked_bpp(chunk), look))
    bound = {"color": style.VERMILION, "linewidth": 2.2}
    lines.append(("one message (the rate\nin other figures)", curve.bpp, bound))
    lines.append(("ideal rate C", curve.bpp_kl, {"color": style.BLACK, "linewidth": 0.9}))
    with matplotlib.rc_context(dict(style.RC)):
        figure = Figure(figsize=(11.4, 4.5), dpi=200, layout="constrained")
        left, right = figure.subplots(1, 2)
        lowest = min(_LOWEST_BPP, curve.bpp_kl.max() / 2)
        visible = curve.bpp_kl >= lowest
        for label, bpp, look in lines:
            left.plot(curve.gammas, bpp, label=label, **look)
            right.plot(curve.bpp_kl[visible], bpp[visible] / curve.bpp_kl[visible], **look)
        left.set_yscale("log")
        layout.label_axis(left.yaxis, "log", nbins=9)
        left.set_ylim(bottom=lowest)
        _label_gamma(left, [curve])
        left.set_ylabel("rate (bits per pixel)")
        left.set_title(f"Bounds on the rate, {curve.name}", loc="left")
        right.set_xscale("log")
        layout.label_axis(right.xaxis, "log", nbins=10)
        layout.label_axis(right.yaxis, "linear", nbins=9)
        right.set_xlim(lowest, curve.bpp_kl.max())
        ratios = np.concatenate([bpp[visible] / curve.bpp_kl[visible] for _, bpp, _ in lines])
        right.set_ylim(0.95, min(1.05 * ratios.max(), _LARGEST_RATIO))
        right.set_xlabel("ideal rate C (bits per pixel)")
        right.set_ylabel("rate / ideal rate")
        right.set_title("Price of messages of their own", loc="left")
        figure.legend(loc="outside right upper", frameon=False, handlelength=3.4, borderaxespad=1.2)
        layout.add_caption(
            figure,
            f"{data}. C: ideal rate of the model's chain of T = {curve.steps[-1]} steps, mean over "
            f"the images. A message of k bits is bounded by {_FORMULA} bits.",
        )
    return figure


def bounds_rows(curve: RateCurve) -> list[dict[str, Any]]:
    """The table behind `plot_bounds`: one row for each noise level, rates in bits per pixel."""
    return _rows(
        gamma=curve.gammas,
        bpp_kl=curve.bpp_kl,
        bpp=curve.bpp,
        **{f"bpp_chunks_{chunk}": curve.chunked_bpp(chunk) for chunk in CHUNKS},
        bpp_steps=curve.stepwise_bpp(),
    )


def plot_coding_cost(curves: Sequence[RateCurve], data: str) -> Figure:
    """Draws bits per pixel and unit of gamma at every noise level; the area is the ideal rate.

    One line for each run; the caption begins with `data`.
    """
    with matplotlib.rc_context(dict(style.RC)):
        figure = Figure(figsize=(7.4, 4.5), dpi=200, layout="constrained")
        axes = figure.add_subplot()
        for curve, (color, dashes) in zip(curves, itertools.cycle(_RUN_LINES), strict=False):
            axes.plot(
                (curve.gammas[1:] + curve.gammas[:-1]) / 2,
                curve.density(),
                color=color,
                linestyle=dashes,
                linewidth=1.4,
                label=f"{curve.name}, T = {curve.steps[-1]}",
            )
        axes.set_ylim(bottom=0.0)
        layout.label_axis(axes.yaxis, "linear", nbins=9)
        _label_gamma(axes, curves)
        axes.set_ylabel("bits per pixel and unit of γ")
        axes.set_title("Coding cost of noise levels", loc="left")
        figure.legend(loc="outside right upper", frameon=False, handlelength=3.4, borderaxespad=1.2)
        layout.add_caption(
            figure,
            f"{data}. Mean ideal rate of each step of the chain, divided by its length in γ, so that the "
            "curve does not depend on T. The area below it is the ideal rate C, but for that of the first "
            "noise level.",
        )
    return figure


def coding_cost_rows(curves: Sequence[RateCurve]) -> list[dict[str, Any]]:
    """The table behind `plot_coding_cost`: one row for each step of each run."""
    return [
        {"run": curve.name, **row}
        for curve in curves
        for row in _rows(
            gamma_from=curve.gammas[:-1],
            gamma_to=curve.gammas[1:],
            bpp_per_gamma=curve.density(),
        )
    ]


def _label_gamma(axes: Axes, curves: Sequence[RateCurve]) -> None:
    gammas = np.concatenate([curve.gammas for curve in curves])
    axes.set_xlim(gammas.max(), gammas.min())
    layout.label_axis(axes.xaxis, "linear", nbins=10)
    axes.set_xlabel("γ, negative log signal-to-noise ratio of z (noise falls to the right)")


def _rows(**columns: np.ndarray) -> list[dict[str, Any]]:
    return [
        dict(zip(columns, map(float, values), strict=True))
        for values in zip(*columns.values(), strict=True)
    ]
