"""Mean and covariance of vectors that come in batches, in one pass and float64."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from diffc_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Of `count` vectors; sums of parts made anywhere agree with those of the whole to rounding.

    Attributes:
        count: number of vectors.
        mean: (d,).
        scatter: (d, d), the sum of outer products of deviations from the mean.
    """

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, vectors: Float[np.ndarray, "n d"]) -> Moments:
        """Of one batch, at least one vector."""
        vectors = np.asarray(vectors, np.float64)
        mean = vectors.mean(0)
        centred = vectors - mean
        return cls(len(vectors), mean, centred.T @ centred)

    def __add__(self, other: Moments) -> Moments:
        """Of both sets together (Chan, Golub, LeVeque 1979)."""
        count = self.count + other.count
        shift = other.mean - self.mean
        weight = self.count * other.count / count
        return Moments(
            count,
            self.mean + shift * (other.count / count),
            self.scatter + other.scatter + weight * np.outer(shift, shift),
        )

    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Unbiased estimate.

        Raises:
            InputError: fewer than two vectors.
        """
        if self.count < 2:
            raise InputError(f"a covariance needs at least 2 vectors, and there are {self.count}")
        return self.scatter / (self.count - 1)
