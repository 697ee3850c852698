"""Gauss-Legendre rules for densities with details of very different sizes, and truncated Gaussians."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, " n"]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_FINE_NODES, _FINE_WEIGHTS = np.polynomial.legendre.leggauss(64)
# An integrand is negligible where it is exp(-40) = 4e-18 of its peak.
NEGLIGIBLE = 40.0


class Feature(NamedTuple):
    """A place near which a density varies quickly: where, over what length, and how far it matters."""

    centre: float
    scale: float
    reach: float


def quadrature(features: Sequence[Feature], low: float, high: float) -> tuple[Values, Values]:
    """Nodes and weights of a composite Gauss-Legendre rule.

    Panels are half a scale wide up to ten scales from each feature, then grow by 1.5.

    Args:
        features: Where panels must be fine.
        low: The interval reaches at least from here ...
        high: ... to here, and over the reach of every feature.
    """
    low = min(low, *(feature.centre - feature.reach for feature in features))
    high = max(high, *(feature.centre + feature.reach for feature in features))
    edges = [np.array([low, high])]
    for centre, scale, _ in features:
        growth = np.log((high - low) / (10.0 * scale)) / np.log(1.5)
        far = 1.5 ** np.arange(1, max(0, int(growth)) + 1)
        distances = scale * np.concatenate([np.arange(0.0, 10.5, 0.5), 10.0 * far])
        edges += [centre - distances, centre + distances]
    grid = np.unique(np.concatenate(edges))
    grid = grid[(grid >= low) & (grid <= high)]
    half = np.diff(grid)[:, None] / 2.0
    nodes = grid[:-1, None] + half + half * _NODES
    return nodes.ravel(), (half * _WEIGHTS).ravel()


class Truncated(NamedTuple):
    """W >= 0 with density proportional to exp(-(w + start)^2 / 2) up to a width; see `truncate`."""

    log_mass: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def truncate(start: Values, width: float) -> Truncated:
    """Mass, mean and variance of N(0, 1) truncated to [start, start + width], measured from start.

    By Gauss-Legendre where the density is not negligible, so that no digits cancel far out in the tail or
    on a short interval.

    Args:
        start: Any real numbers, at most half the width below zero.
        width: Positive; may be infinite.

    Returns:
        The log of P(start <= N <= start + width), and mean and variance of N - start.
    """
    above, below = np.maximum(start, 0.0), np.maximum(-start, 0.0)
    reach = 2.0 * NEGLIGIBLE / (above + np.sqrt(above**2 + 2.0 * NEGLIGIBLE))
    low = np.maximum(below - reach, 0.0)
    high = np.minimum(below + reach, width)
    half = (high - low) / 2.0
    offsets = half[:, None] * _FINE_NODES
    centre = low + half
    # The exponent less that of the peak, -start^2 / 2 if start > 0.
    exponent = -(((centre - below)[:, None] + offsets) ** 2) / 2.0
    exponent -= above[:, None] * (centre[:, None] + offsets)
    density = np.exp(exponent) * _FINE_WEIGHTS
    mass = density.sum(axis=1)
    offset = np.einsum("nq,nq->n", density, offsets) / mass
    variance = np.einsum("nq,nq->n", density, (offsets - offset[:, None]) ** 2) / mass
    log_mass = np.log(mass * half) - above**2 / 2.0 - 0.5 * np.log(2.0 * np.pi)
    return Truncated(log_mass, centre + offset, variance)
