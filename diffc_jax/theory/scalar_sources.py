"""Scalar sources X seen through Gaussian noise, Y = X + noise U with U ~ N(0, 1).

A source knows its own statistics, the density of Y, the posterior of X given Y, and how the probability flow
pairs Y with X; `scalar` turns these into rates and distortions. In one dimension the flow is the increasing
map T with F_X(T(y)) = F_Y(y) (Theis et al. 2022, section 4). `noise` is the standard deviation s > 0 of the
noise, in the unit of X. Everything is vectorised and keeps its digits in the tails.
"""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.optimize.elementwise
import scipy.special
from jaxtyping import Float

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
_REACH = 12.0


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

    @property
    @abc.abstractmethod
    def fisher_information(self) -> float:
        """J = E[((log p)'(X))^2], in 1 / X^2; infinite where the density jumps."""

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
        """T(y) = F_X^-1(F_Y(y)), where the probability flow takes y."""

    def nodes(self, noise: float) -> tuple[Values, Values]:
        """Nodes and weights of integrals over y that p_Y or the Gaussian of the same moments weighs."""
        reach = _REACH * np.hypot(noise, np.sqrt(self.variance))
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


def _finite_tuple(name: str, values: Sequence[Any]) -> tuple[float, ...]:
    """The values as floats, or a UsageError unless they are a sequence of finite numbers."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.ndim != 1 or array.size == 0 or not np.all(np.isfinite(array)):
        raise UsageError(
            f"{values!r} is not a sequence of finite numbers; give one for each component",
            field=name,
        )
    return tuple(array.tolist())


@dataclasses.dataclass(frozen=True)
class GaussianMixture(ScalarSource):
    """Mixture of Gaussians, sum_k weights_k N(means_k, stds_k^2).

    Attributes:
        weights: Positive numbers, summing to one within 1e-9.
        means: Of the components.
        stds: Standard deviations of the components, positive.

    Raises:
        UsageError: For other values, and for sequences of different lengths.
    """

    weights: Sequence[Any]
    means: Sequence[Any]
    stds: Sequence[Any]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            values = _finite_tuple(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, values)
        for name in ("means", "stds"):
            if len(getattr(self, name)) != len(self.weights):
                raise UsageError(
                    f"{len(getattr(self, name))} values for {len(self.weights)} weights; "
                    "give one for each component",
                    field=name,
                )
        for name in ("weights", "stds"):
            if min(getattr(self, name)) <= 0.0:
                raise UsageError(
                    f"{getattr(self, name)} are not all positive; "
                    "leave out components without weight or width",
                    field=name,
                )
        if abs(sum(self.weights) - 1.0) > 1e-9:
            raise UsageError(
                f"{self.weights} sum to {sum(self.weights):.10g}, not to 1; "
                "divide them by their sum",
                field="weights",
            )

    @functools.cached_property
    def _components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, means and standard deviations, sorted by mean."""
        order = np.argsort(self.means)
        weights, means, stds = (
            np.array(values)[order] for values in (self.weights, self.means, self.stds)
        )
        return weights / weights.sum(), means, stds

    @property
    def mean(self) -> float:
        """See base class."""
        weights, means, _ = self._components
        return float(weights @ means)

    @property
    def variance(self) -> float:
        """See base class."""
        weights, means, stds = self._components
        return float(weights @ (stds**2 + (means - self.mean) ** 2))

    @functools.cached_property
    def entropy(self) -> float:
        """See base class; by quadrature."""
        x, steps = self.nodes(0.0)
        log_density = self.log_density(x, 0.0)
        return float(-steps @ (np.exp(log_density) * log_density) / np.log(2.0))

    @functools.cached_property
    def fisher_information(self) -> float:
        """See base class; by quadrature."""
        _, means, stds = self._components
        x, steps = self.nodes(0.0)
        log_joint = self._log_joint(x, 0.0)
        log_density = np.logaddexp.reduce(log_joint, axis=1)
        responsibilities = np.exp(log_joint - log_density[:, None])
        score = np.sum(responsibilities * (means - x[:, None]) / stds**2, axis=1)
        return float(steps @ (np.exp(log_density) * score**2))

    def features(self, noise: float) -> list[Feature]:
        """See base class; one for each component."""
        _, means, stds = self._components
        scales = np.hypot(stds, noise)
        return [Feature(m, s, _REACH * s) for m, s in zip(means, scales, strict=True)]

    def _log_joint(self, y: Values, noise: float) -> Float[np.ndarray, "n k"]:
        """Log of weight times density of y for each component."""
        weights, means, stds = self._components
        total = np.hypot(stds, noise)
        constant = np.log(weights) - np.log(total) - 0.5 * np.log(2.0 * np.pi)
        return constant - 0.5 * ((y[:, None] - means) / total) ** 2

    def log_density(self, y: Values, noise: float) -> Values:
        """See base class."""
        return np.logaddexp.reduce(self._log_joint(y, noise), axis=1)

    def posterior(self, y: Values, noise: float) -> tuple[Values, Values]:
        """See base class; itself a mixture of Gaussians."""
        _, means, stds = self._components
        total = np.hypot(stds, noise)
        log_joint = self._log_joint(y, noise)
        responsibilities = np.exp(log_joint - np.logaddexp.reduce(log_joint, axis=1)[:, None])
        centres = means + (y[:, None] - means) * (stds / total) ** 2
        mean = np.sum(responsibilities * centres, axis=1)
        spread = (stds * (noise / total)) ** 2 + (centres - mean[:, None]) ** 2
        return mean, np.sum(responsibilities * spread, axis=1)

    def flow(self, y: Values, noise: float) -> Values:
        """See base class; by root finding."""
        return self._same_quantile(y, noise, 0.0)

    def coupling(self, noise: float) -> tuple[Values, Values, Values]:
        """See base class; integrates over x, because T is steep where x is rare (between components)."""
        x, steps = self.nodes(0.0)
        probabilities = steps * np.exp(self.log_density(x, 0.0))
        matters = probabilities > 1e-30
        x = x[matters]
        return self._same_quantile(x, 0.0, noise), x, probabilities[matters]

    def _same_quantile(self, values: Values, noise: float, new_noise: float) -> Values:
        """The values at new noise whose cdf is that of the given values at the old noise.

        Cdfs are compared after subtracting the total weight of the components to the left of the value:
        what remains is small, with all its digits, in the tails and in the gaps between components.
        """
        weights, means, stds = self._components
        old, new = np.hypot(stds, noise), np.hypot(stds, new_noise)
        index = np.arange(len(weights))

        def tails(
            x: Values, left: np.ndarray | int, widths: Float[np.ndarray, " k"]
        ) -> Float[np.ndarray, "n k"]:
            """Minus the upper tails of the components to the left, the lower tails of the others."""
            sign = np.where(index < np.expand_dims(left, -1), -1.0, 1.0)
            return sign * weights * scipy.special.ndtr(sign * (x[:, None] - means) / widths)

        lefts = range(len(weights) + 1)
        left = np.argmin([np.abs(tails(values, n, old)).sum(axis=1) for n in lefts], axis=0)
        level = tails(values, left, old).sum(axis=1)

        # The maps of the single components enclose that of the mixture, and so do nodes of a quadrature.
        maps = means + (values[:, None] - means) * (new / old)
        slack = 1e-9 * new.min() + 4.0 * np.spacing(np.abs(maps).max(axis=1))
        low, high = maps.min(axis=1) - slack, maps.max(axis=1) + slack
        grid = np.pad(self.nodes(new_noise)[0], 2, constant_values=(-np.inf, np.inf))
        for n in lefts:
            above = np.searchsorted(tails(grid[2:-2], n, new).sum(axis=1), level[left == n]) + 2
            low[left == n] = np.maximum(low[left == n], grid[above - 2])
            high[left == n] = np.minimum(high[left == n], grid[above + 1])

        def excess(x: Values, left: np.ndarray, level: Values) -> Values:
            return tails(x, left, new).sum(axis=1) - level

        return scipy.optimize.elementwise.find_root(
            excess, (low, high), args=(left, level), tolerances={"xatol": 1e-13 * new.min()}
        ).x


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

    @property
    def fisher_information(self) -> float:
        """See base class."""
        return self.scale**-2

    def features(self, noise: float) -> list[Feature]:
        """See base class; the kink, blurred by the noise, with exponential tails."""
        return [Feature(0.0, noise, _REACH * noise + 1.5 * NEGLIGIBLE * self.scale)]

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

    @property
    def fisher_information(self) -> float:
        """See base class."""
        return np.inf

    def features(self, noise: float) -> list[Feature]:
        """See base class; the two jumps, blurred by the noise."""
        return [Feature(end, noise, _REACH * noise) for end in (-self.half_width, self.half_width)]

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
        near, far = (
            self._mean_above((np.abs(y) + shift) / noise)
            for shift in (-self.half_width, self.half_width)
        )
        return np.copysign(self.half_width - noise * (near - far), y)

    @staticmethod
    def _mean_above(threshold: Values) -> Values:
        """E max(U - threshold, 0), the integral of the survival function of U ~ N(0, 1)."""
        density = np.exp(-(threshold**2) / 2.0) / np.sqrt(2.0 * np.pi)
        return density - threshold * scipy.special.ndtr(-threshold)
