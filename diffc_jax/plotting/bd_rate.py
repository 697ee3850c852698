"""Lines between rate points, compared where both are defined."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from diffc_jax.errors import InputError
from diffc_jax.evaluation.results import RatePoint
from diffc_jax.plotting.measures import value_of


class Margin(NamedTuple):
    """Two piecewise linear functions at all points of either that lie where both are defined."""

    at: Float[np.ndarray, " m"]
    first: Float[np.ndarray, " m"]
    second: Float[np.ndarray, " m"]

    @property
    def difference(self) -> Float[np.ndarray, " m"]:
        """First less second."""
        return self.first - self.second

    @property
    def swapped(self) -> "Margin":
        """The second against the first."""
        return self._replace(first=self.second, second=self.first)

    @property
    def mean(self) -> float:
        """Mean of the difference over the common range."""
        return float(np.trapezoid(self.difference, self.at) / np.ptp(self.at))

    def ranges_above(self) -> list[tuple[float, float]]:
        """Where the first lies above the second."""
        before, after = self.difference[:-1], self.difference[1:]
        crosses = before * after < 0
        share = before[crosses] / (before - after)[crosses]
        at = np.union1d(self.at, self.at[:-1][crosses] + share * np.diff(self.at)[crosses])
        above = np.interp((at[:-1] + at[1:]) / 2, self.at, self.difference) > 0
        ends = at[np.flatnonzero(np.diff(above, prepend=False, append=False))].tolist()
        return list(zip(ends[::2], ends[1::2], strict=True))


class Line(NamedTuple):
    """A piecewise linear function through points with rising x; comparable from two points on."""

    name: str
    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]

    @property
    def inverse(self) -> "Line":
        """Axes exchanged, where y rises too."""
        return Line(self.name, self.y, self.x)


def compare(first: Line, second: Line, within: tuple[float, float] = (-np.inf, np.inf)) -> Margin:
    """Both lines where both are defined.

    Args:
        first: a line.
        second: another.
        within: x that are of interest.

    Raises:
        InputError: no x there at which both are defined.
    """
    low = max(first.x[0], second.x[0], within[0])
    high = min(first.x[-1], second.x[-1], within[1])
    if low >= high:
        raise InputError(f"{first.name} and {second.name} have no range in common")
    at = np.unique(np.concatenate([first.x, second.x]).clip(low, high))
    return Margin(at, np.interp(at, first.x, first.y), np.interp(at, second.x, second.y))


def line_over_rate(
    name: str, points: Iterable[RatePoint], measure: str, headerless: bool = False
) -> Line:
    """A measure over the logarithm of the rate in bits per pixel, in order of rate.

    Args:
        name: of the line.
        points: those without a rate above 0 or a finite value are left out.
        measure: key of `measures.MEASURES`.
        headerless: takes rates of files without what their containers say about any image.
    """
    pairs = set()
    for point in points:
        rate, value = point.bpp, value_of(point, measure)
        if headerless and point.bpp_headerless is not None:
            rate = point.bpp_headerless
        if rate > 0 and math.isfinite(value):
            pairs.add((rate, value))
    rates, values = np.array(sorted(pairs)).reshape(-1, 2).T
    return Line(name, np.log(rates), values)
