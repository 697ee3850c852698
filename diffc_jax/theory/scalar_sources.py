"""Scalar sources X seen through Gaussian noise, Y = X + noise U with U ~ N(0, 1).

A source knows its own statistics, the density of Y, the posterior of X given Y, and how the probability flow
pairs Y with X; `scalar` turns these into rates and distortions. In one dimension the flow is the increasing
map T with F_X(T(y)) = F_Y(y) (Theis et al. 2022, section 4). `noise` is the standard deviation s > 0 of the
noise, in the unit of X. Everything is vectorised and keeps its digits in the tails.
"""

import abc
import dataclasses

import numpy as np
import scipy.special

from diffc_jax.errors import UsageError
from diffc_jax.theory.scalar_quadrature import (
    NEGLIGIBLE,
    Feature,
    Truncated,
    Values,
    quadrature,
    truncate,
)

# A Gaussian is below exp(-12^2 / 2) = 5e-32 of its peak beyond 12 standard deviations.
REACH = 12.0


class ScalarSource(abc.ABC):
    """A real random variable with a density."""

    @property
    @abc.abstractmethod
    def mean(self) -> float:
        """E[X]."""

    @property
    @abc.abstractmethod
    def variance(self) -> float:
        """Var[X]."""

    @property
    @abc.abstractmethod
    def entropy(self) -> float:
        """Differential entropy h(X) in bits."""

    @abc.abstractmethod
    def features(self, noise: float) -> list[Feature]:
        """Where an integral over y must be fine."""

    @abc.abstractmethod
    def log_density(self, y: Values, noise: float) -> Values:
        """Log of the density of Y, in nats."""

    @abc.abstractmethod
    def posterior(self, y: Values, noise: float) -> tuple[Values, Values]:
        """E[X | Y = y] and Var[X | Y = y]."""

    @abc.abstractmethod
    def flow(self, y: Values, noise: float) -> Values:
        """T(y) = F_X^-1(F_Y(y)), where the probability flow of DiffC-F takes y (section 4)."""

    def nodes(self, noise: float) -> tuple[Values, Values]:
        """Nodes and weights of integrals over y that p_Y or the Gaussian of the same moments weighs."""
        reach = REACH * np.hypot(noise, np.sqrt(self.variance))
        return quadrature(self.features(noise), self.mean - reach, self.mean + reach)

    def coupling(self, noise: float) -> tuple[Values, Values, Values]:
        """Nodes y, T(y) and probabilities of expectations over the pair (Y, T(Y))."""
        y, weights = self.nodes(noise)
        return y, self.flow(y, noise), weights * np.exp(self.log_density(y, noise))


def _positive(name: str, value: int | float) -> float:
    """The value as a float, or a UsageError unless it is positive and finite."""
    if not 0.0 < value < np.inf:
        raise UsageError(f"{value!r} is not a positive, finite number; give one", field=name)
    return float(value)


@dataclasses.dataclass(frozen=True)
class Laplace(ScalarSource):
    """Density exp(-|x| / scale) / (2 scale).

    Attributes:
        scale: Positive; the variance is 2 scale^2.

    Raises:
        UsageError: For another scale.
    """

    scale: int | float

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", _positive("scale", self.scale))

    @property
    def mean(self) -> float:
        """See base class."""
        return 0.0

    @property
    def variance(self) -> float:
        """See base class."""
        return 2.0 * self.scale**2

    @property
    def entropy(self) -> float:
        """See base class."""
        return float(np.log2(2.0 * np.e * self.scale))

    def features(self, noise: float) -> list[Feature]:
        """See base class; the kink, blurred by the noise, with exponential tails."""
        return [Feature(0.0, noise, REACH * noise + 1.5 * NEGLIGIBLE * self.scale)]

    def _log_half(self, y: Values, noise: float) -> Values:
        """Log of the part of the density of Y that comes from X > 0; from X < 0 it is that of -y."""
        start = noise / self.scale - y / noise
        inside = (noise / self.scale) ** 2 / 2.0 - y / self.scale + scipy.special.log_ndtr(-start)
        far = np.maximum(start, 0.0)
        outside = np.log(scipy.special.erfcx(far / np.sqrt(2.0)) / 2.0) - (y / noise) ** 2 / 2.0
        return np.where(start > 0.0, outside, inside) - np.log(2.0 * self.scale)

    def log_density(self, y: Values, noise: float) -> Values:
        """See base class."""
        return np.logaddexp(self._log_half(y, noise), self._log_half(-y, noise))

    def posterior(self, y: Values, noise: float) -> tuple[Values, Values]:
        """See base class; a Gaussian truncated to X > 0 and one truncated to X < 0."""
        log_odds = self._log_half(y, noise) - self._log_half(-y, noise)
        above, below = scipy.special.expit(log_odds), scipy.special.expit(-log_odds)
        right = truncate(noise / self.scale - y / noise, np.inf)
        left = truncate(noise / self.scale + y / noise, np.inf)
        mean = above * right.mean - below * left.mean
        between = above * below * (right.mean + left.mean) ** 2
        variance = above * right.variance + below * left.variance + between
        return noise * mean, noise**2 * variance

    def flow(self, y: Values, noise: float) -> Values:
        """See base class; through P(Y > |y|) = P(U > |y| / noise) + scale (p_+ - p_-)."""
        distance = np.abs(y)
        log_above, log_below = self._log_half(distance, noise), self._log_half(-distance, noise)
        difference = -np.expm1(np.minimum(log_below - log_above, 0.0))
        with np.errstate(divide="ignore"):  # no difference at y = 0
            log_difference = np.log(self.scale * difference) + log_above
        log_survival = np.logaddexp(scipy.special.log_ndtr(-distance / noise), log_difference)
        return -np.sign(y) * self.scale * (np.log(2.0) + log_survival)


@dataclasses.dataclass(frozen=True)
class Uniform(ScalarSource):
    """Uniform on [-half_width, half_width].

    Attributes:
        half_width: Positive; the variance is half_width^2 / 3.

    Raises:
        UsageError: For another half width.
    """

    half_width: int | float

    def __post_init__(self) -> None:
        object.__setattr__(self, "half_width", _positive("half_width", self.half_width))

    @property
    def mean(self) -> float:
        """See base class."""
        return 0.0

    @property
    def variance(self) -> float:
        """See base class."""
        return self.half_width**2 / 3.0

    @property
    def entropy(self) -> float:
        """See base class."""
        return float(np.log2(2.0 * self.half_width))

    def features(self, noise: float) -> list[Feature]:
        """See base class; the two jumps, blurred by the noise."""
        return [Feature(end, noise, REACH * noise) for end in (-self.half_width, self.half_width)]

    def _from_edge(self, y: Values, noise: float) -> Truncated:
        """The posterior of (half_width - X) / noise given |y|."""
        return truncate((np.abs(y) - self.half_width) / noise, 2.0 * self.half_width / noise)

    def log_density(self, y: Values, noise: float) -> Values:
        """See base class."""
        return self._from_edge(y, noise).log_mass - np.log(2.0 * self.half_width)

    def posterior(self, y: Values, noise: float) -> tuple[Values, Values]:
        """See base class; a Gaussian truncated to the interval."""
        edge = self._from_edge(y, noise)
        mean = np.copysign(self.half_width - noise * edge.mean, y)
        return mean, noise**2 * edge.variance

    def flow(self, y: Values, noise: float) -> Values:
        """See base class; P(Y > |y|) is an integral of the Gaussian's survival function."""

        def integral(threshold: Values) -> Values:
            """E max(U - threshold, 0) for U ~ N(0, 1)."""
            density = np.exp(-(threshold**2) / 2.0) / np.sqrt(2.0 * np.pi)
            return density - threshold * scipy.special.ndtr(-threshold)

        near = integral((np.abs(y) - self.half_width) / noise)
        far = integral((np.abs(y) + self.half_width) / noise)
        return np.copysign(self.half_width - noise * (near - far), y)
