"""Bjøntegaard deltas: BD-PSNR and BD-rate of one rate-distortion curve against another.

Bjøntegaard (VCEG-M33, 2001) fits a cubic through four rate points of each method and takes the mean
difference of the two over their common range: of PSNR over the logarithm of the rate (BD-PSNR, dB), or of
the logarithm of the rate over PSNR (BD-rate, %). Here curves are piecewise linear through all their points,
so that they never overshoot and any number of points will do; nothing is extrapolated.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from diffc_jax.errors import InputError
from diffc_jax.evaluation.results import RatePoint
from diffc_jax.plotting.measures import value_of


class Curve(NamedTuple):
    """A piecewise linear function through points with rising x; comparable from two points on."""

    name: str
    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]

    @property
    def inverse(self) -> "Curve":
        """Axes exchanged, where y rises too: what BD-rate compares."""
        return Curve(self.name, self.y, self.x)


class BjontegaardDelta(NamedTuple):
    """Two curves at all points of either in their common range, and the difference between them.

    With y a PSNR over the logarithm of the rate `mean` is the BD-PSNR; of inverse curves expm1(`mean`) is the
    BD-rate.
    """

    at: Float[np.ndarray, " m"]
    first: Float[np.ndarray, " m"]
    second: Float[np.ndarray, " m"]

    @property
    def difference(self) -> Float[np.ndarray, " m"]:
        """First less second; its extremes over the common range are among these values."""
        return self.first - self.second

    @property
    def swapped(self) -> "BjontegaardDelta":
        """The second against the first."""
        return self._replace(first=self.second, second=self.first)

    @property
    def mean(self) -> float:
        """Mean of the difference over the common range, the Bjøntegaard delta."""
        return float(np.trapezoid(self.difference, self.at) / np.ptp(self.at))

    def ranges_above(self) -> list[tuple[float, float]]:
        """Where the first lies above the second."""
        before, after = self.difference[:-1], self.difference[1:]
        crosses = before * after < 0
        fraction = before[crosses] / (before - after)[crosses]
        at = np.union1d(self.at, self.at[:-1][crosses] + fraction * np.diff(self.at)[crosses])
        above = np.interp((at[:-1] + at[1:]) / 2, self.at, self.difference) > 0
        ends = at[np.flatnonzero(np.diff(above, prepend=False, append=False))].tolist()
        return list(zip(ends[::2], ends[1::2], strict=True))


def bjontegaard_delta(
    first: Curve, second: Curve, within: tuple[float, float] = (-np.inf, np.inf)
) -> BjontegaardDelta:
    """Compares two curves where their ranges of x and the limits `within` overlap.

    Raises:
        InputError: no x there at which both are defined.
    """
    low = max(first.x[0], second.x[0], within[0])
    high = min(first.x[-1], second.x[-1], within[1])
    if low >= high:
        raise InputError(f"{first.name} and {second.name} have no range in common")
    at = np.unique(np.concatenate([first.x, second.x]).clip(low, high))
    return BjontegaardDelta(at, np.interp(at, first.x, first.y), np.interp(at, second.x, second.y))


def rate_curve(
    name: str, points: Iterable[RatePoint], measure: str, headerless: bool = False
) -> Curve:
    """A measure, key of `MEASURES`, over the logarithm of the rate in bits per pixel, in order of rate.

    Points without a rate above 0 or a finite value are left out; `headerless` takes the rates of files
    without the constant bytes of their containers.
    """
    pairs = set()
    for point in points:
        rate, value = point.bpp, value_of(point, measure)
        if headerless and point.bpp_headerless is not None:
            rate = point.bpp_headerless
        if rate > 0 and math.isfinite(value):
            pairs.add((rate, value))
    rates, values = np.array(sorted(pairs)).reshape(-1, 2).T
    return Curve(name, np.log(rates), values)
