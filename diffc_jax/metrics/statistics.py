"""Means, standard errors and covariances, in float64: of values at hand or of batches in one pass."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from diffc_jax.errors import InputError

_BLOCK = 2048


def standard_error(values: Float[np.ndarray, " n"]) -> float:
    """Standard error of the mean; not a number for one value, or where one is infinite."""
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan
    return float(values.std(ddof=1) / math.sqrt(len(values)))


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """A number that comes from whole sets of images, with what each image does to it.

    Attributes:
        value: the number.
        influences: of each image of each independent set, as of `jackknife`. Images that come in pairs are
            one set, and their influences are those of the pairs.
    """

    value: float
    influences: tuple[Float[np.ndarray, " _"], ...]

    @property
    def stderr(self) -> float:
        """Standard error over the images; not a number for a set of one."""
        return math.hypot(*map(standard_error, self.influences))

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference of two estimates from the same images, whose common errors cancel."""
        pairs = zip(self.influences, other.influences, strict=True)
        return Estimate(self.value - other.value, tuple(a - b for a, b in pairs))


def blocks(count: int) -> Iterator[slice]:
    """Rows of a matrix of pairs that is too large to be in memory as a whole, some at a time."""
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def jackknife(without_each: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Influences of n images from the values without each of them.

    The standard error of the value is that of the mean of its influences (Efron & Tibshirani 1993, An
    Introduction to the Bootstrap, chapter 11).
    """
    return (len(without_each) - 1) * (without_each.mean() - without_each)


@dataclasses.dataclass(frozen=True, eq=False)
class RunningCovariance:
    """Mean and scatter of vectors; sums over any batches agree with those of the whole to rounding.

    Attributes:
        count: number of vectors.
        mean: (d,).
        scatter: (d, d), the sum of outer products of deviations from the mean.
    """

    count: int
    mean: Float[np.ndarray, " d"]
    scatter: Float[np.ndarray, "d d"]

    @classmethod
    def of(cls, vectors: Float[np.ndarray, "n d"]) -> "RunningCovariance":
        """Statistics of one batch, at least one vector."""
        vectors = np.asarray(vectors, np.float64)
        mean = vectors.mean(0)
        centred = vectors - mean
        return cls(len(vectors), mean, centred.T @ centred)

    def __add__(self, other: "RunningCovariance") -> "RunningCovariance":
        """Statistics of both sets together (Chan, Golub, LeVeque 1979)."""
        count = self.count + other.count
        shift = other.mean - self.mean
        weight = self.count * other.count / count
        return RunningCovariance(
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


@dataclasses.dataclass(frozen=True, eq=False)
class RunningMean:
    """Means of values that come in batches, with their standard errors; sums as for `RunningCovariance`.

    Attributes:
        count: number of samples.
        total: sum over the samples, of the shape of one.
        scatter: sum of squared deviations from the mean.
    """

    count: int
    total: Float[np.ndarray, "*s"]
    scatter: Float[np.ndarray, "*s"]

    @classmethod
    def of(cls, samples: Float[np.ndarray, "n *s"] | Int[np.ndarray, "n *s"]) -> "RunningMean":  # noqa: F821
        """Statistics of one batch, at least one sample; infinite values have no scatter."""
        samples = np.asarray(samples, np.float64)
        with np.errstate(invalid="ignore"):
            scatter = np.square(samples - samples.mean(0)).sum(0)
        return cls(len(samples), np.asarray(samples.sum(0)), np.asarray(scatter))

    def __add__(self, other: "RunningMean") -> "RunningMean":
        """Statistics of both sets together."""
        count = self.count + other.count
        with np.errstate(invalid="ignore"):
            between = np.square(self.mean - other.mean) * (self.count * other.count / count)
            scatter = self.scatter + other.scatter + between
        return RunningMean(count, np.asarray(self.total + other.total), np.asarray(scatter))

    @property
    def mean(self) -> Float[np.ndarray, "*s"]:
        """Mean of the samples."""
        return np.asarray(self.total / self.count)

    @property
    def stderr(self) -> Float[np.ndarray, "*s"]:
        """Standard error of the mean; not a number for one sample, or where values are infinite."""
        if self.count < 2:
            return np.full_like(self.scatter, np.nan)
        return np.asarray(np.sqrt(self.scatter / (self.count - 1) / self.count))
