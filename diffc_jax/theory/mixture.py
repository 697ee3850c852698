"""Mixtures of normal densities in any number of dimensions."""

import dataclasses

import numpy as np
from jaxtyping import Float

from diffc_jax.errors import UsageError


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
        """Of the whole."""
        centred = self.means - self.weights @ self.means
        between = np.einsum("k,ki,kj->ij", self.weights, centred, centred)
        return np.einsum("k,kij->ij", self.weights, self.covariances) + between

    def sample(self, count: int, generator: np.random.Generator) -> Float[np.ndarray, "n m"]:
        """Independent draws."""
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
