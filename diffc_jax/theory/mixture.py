"""Mixtures of normal densities: a scalar source with exact quadrature, and vectors to be sampled."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.optimize.elementwise
import scipy.special
from jaxtyping import Float

from diffc_jax.errors import UsageError
from diffc_jax.theory.scalar_quadrature import Feature, Values
from diffc_jax.theory.scalar_sources import REACH, ScalarSource


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

    def features(self, noise: float) -> list[Feature]:
        """See base class; one for each component."""
        _, means, stds = self._components
        scales = np.hypot(stds, noise)
        return [Feature(m, s, REACH * s) for m, s in zip(means, scales, strict=True)]

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


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """sum_k weights_k N(means_k, covariances_k) in m dimensions.

    Attributes:
        weights: (k,), positive, sum one.
        means: (k, m).
        covariances: (k, m, m), symmetric, positive semidefinite.

    Raises:
        UsageError: other values, or shapes that do not belong together.
    """

    weights: Float[np.ndarray, "..."]
    means: Float[np.ndarray, "..."]
    covariances: Float[np.ndarray, "..."]

    def __post_init__(self) -> None:
        for name, ndim in (("weights", 1), ("means", 2), ("covariances", 3)):
            array = getattr(self, name)
            if array.ndim != ndim or not np.isfinite(array).all():
                raise UsageError(
                    f"an array of shape {array.shape} is not one of {ndim} dimensions "
                    "with finite numbers",
                    field=name,
                )
        count, dimension = self.means.shape
        shapes = {"weights": (count,), "covariances": (count, dimension, dimension)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise UsageError(
                    f"shape is {getattr(self, name).shape}, and that of means asks for {shape}",
                    field=name,
                )
        if np.any(self.weights <= 0) or abs(self.weights.sum() - 1.0) > 1e-6:
            raise UsageError(
                f"{self.weights.tolist()} are not positive numbers that sum to one", field="weights"
            )
        object.__setattr__(self, "weights", self.weights / self.weights.sum())
        if not np.allclose(self.covariances, self.covariances.transpose(0, 2, 1)):
            raise UsageError("not symmetric", field="covariances")
        eigenvalues = np.linalg.eigvalsh(self.covariances)
        if np.any(eigenvalues < -1e-9 * np.abs(eigenvalues).max(initial=0.0)):
            raise UsageError("not positive semidefinite", field="covariances")

    def principal_components(self) -> tuple[Float[np.ndarray, "k m"], Float[np.ndarray, "k m m"]]:
        """Eigenvalues, at least 0, and eigenvectors (columns) of the components' covariances."""
        values, vectors = np.linalg.eigh(self.covariances)
        return np.maximum(values, 0.0), vectors

    def covariance(self) -> Float[np.ndarray, "m m"]:
        """Covariance of the mixture."""
        centred = self.means - self.weights @ self.means
        between = np.einsum("k,ki,kj->ij", self.weights, centred, centred)
        return np.einsum("k,kij->ij", self.weights, self.covariances) + between

    def sample(self, count: int, generator: np.random.Generator) -> Float[np.ndarray, "n m"]:
        """Draws `count` independent vectors."""
        labels = generator.choice(len(self.weights), count, p=self.weights)
        values, vectors = self.principal_components()
        scaled = np.sqrt(values)[labels] * generator.standard_normal((count, self.means.shape[1]))
        return self.means[labels] + np.einsum("nij,nj->ni", vectors[labels], scaled)

    def entropy(self, count: int, generator: np.random.Generator) -> tuple[float, float]:
        """Differential entropy in bits by Monte Carlo, and its standard error.

        It is -inf, exactly, if a covariance is singular.
        """
        values, vectors = self.principal_components()
        if values.min() <= 0:
            return -np.inf, 0.0
        centred = self.sample(count, generator)[:, None] - self.means
        rotated = np.einsum("nkj,kji->nki", centred, vectors)
        exponents = -0.5 * (rotated**2 / values + np.log(2 * np.pi * values)).sum(-1)
        log_density = np.logaddexp.reduce(exponents + np.log(self.weights), axis=1)
        bits = -log_density / np.log(2.0)
        return float(bits.mean()), float(bits.std(ddof=1) / np.sqrt(count))


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
