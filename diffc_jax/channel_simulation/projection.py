"""Projections of exact samples, drawn by shared randomness: what makes a sample of the trellis exact.

The best of the samples that k bits can name goes about R(k) in the direction of mu, hardly more or less,
where one of N(mu, I) goes a = |mu| give or take 1. So the randomness that both sides share chooses how far
the sample shall go, and the length of the path follows: k is the number of bits for which R(k) is nearest to
a target T.

T is a with subtractive dither: with U uniform in the unit interval, h a random half width, and j the whole
number for which T_j = 2 h (j + U) is nearest to a, the error T_j - a is uniform in +- h. A Gaussian is a
mixture of such uniform distributions, with h^2 / sigma^2 of the chi-squared distribution with three degrees
of freedom, so that the error is N(0, sigma^2), independent of a. What the projection of the best path varies
about R(k) comes on top: sigma^2 = 1 - v(k).

Everything here is integers, because the format depends on it: lengths have 16 bits after the point.
"""

import bisect
import dataclasses
import functools
import itertools
import math

import numpy as np
from scipy.special import gammaincinv

from diffc_jax.channel_simulation.open_trellis_reach import (
    LEAST_BITS,
    REACH_BITS,
    mean_projections,
    spreads,
)

UNIT = 1 << REACH_BITS
# Random bits of the dither and of the half width.
OFFSET_BITS, WIDTH_BITS = 16, 12


@dataclasses.dataclass(frozen=True, slots=True)
class Grid:
    """The targets of one step: T_j = 2 h (j + U).

    Attributes:
        half_width: h, 16 bits after the point.
        offset: U, 16 bits, all after the point.
    """

    half_width: int
    offset: int

    def target(self, j: int) -> int:
        """T_j, 16 bits after the point."""
        return self.half_width * ((j << OFFSET_BITS) + self.offset) >> (OFFSET_BITS - 1)

    def below(self, j: int) -> int:
        """T_j - h, where the cell of j begins, 16 bits after the point."""
        return self.half_width * (((2 * j - 1) << OFFSET_BITS) + 2 * self.offset) >> OFFSET_BITS

    def last_up_to(self, length: int) -> int:
        """The greatest j whose T_j is not beyond a length, 16 bits after the point."""
        return ((length << OFFSET_BITS) // (2 * self.half_width) - self.offset) >> OFFSET_BITS

    def nearest(self, length: float) -> int:
        """The j for which T_j is nearest to a length."""
        width = 2 * self.half_width / UNIT
        return math.floor(length / width - self.offset / (1 << OFFSET_BITS) + 0.5)


def make_grid(word: int, path_bits: int, memory: int) -> Grid:
    """The grid that 32 random bits choose for a step of about so many path bits."""
    quantile = (word >> OFFSET_BITS) & ((1 << WIDTH_BITS) - 1)
    sigma = spreads(memory)[path_bits]
    half_width = max(_widths()[quantile] * sigma >> REACH_BITS, 1)
    return Grid(half_width, word & ((1 << OFFSET_BITS) - 1))


def bits_for(target: int, memory: int) -> int:
    """k, the number of path bits whose mean projection is nearest to a target; at least `LEAST_BITS`."""
    return bisect.bisect_left(_boundaries(memory), target) + LEAST_BITS


@functools.cache
def _boundaries(memory: int) -> list[int]:
    reach = mean_projections(memory)[LEAST_BITS:]
    return [(low + high) // 2 for low, high in itertools.pairwise(reach)]


@functools.cache
def _widths() -> list[int]:
    """Roots of quantiles of chi-squared with 3 degrees of freedom, 16 bits after the point."""
    quantiles = (np.arange(1 << WIDTH_BITS) + 0.5) / (1 << WIDTH_BITS)
    return [int(value) for value in np.rint(np.sqrt(2 * gammaincinv(1.5, quantiles)) * UNIT)]
