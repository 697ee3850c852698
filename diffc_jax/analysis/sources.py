"""Sources that are not Gaussian: quadrature in one dimension, the sweep with exact scores in any number."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from diffc_jax import rng
from diffc_jax.analysis.simulation import Estimate, SimulationSettings, simulate
from diffc_jax.errors import UsageError
from diffc_jax.models import mixture
from diffc_jax.theory import gaussian
from diffc_jax.theory.scalar import analyse
from diffc_jax.theory.scalar_sources import GaussianMixture, Laplace, ScalarSource, Uniform

Row = dict[str, Any]

_DECODERS = {"ancestral": "d_a", "flow": "d_f", "mean": "d_d"}
# Samples from which a differential entropy is estimated, to about 0.003 bits.
_ENTROPY_SAMPLES = 200_000


def scalar_source(name: str, config: ConfigDict) -> ScalarSource:
    """The source called `name` in config.scalar.

    Raises:
        UsageError: unknown, or with parameters that cannot be.
    """
    try:
        if name == "laplace":
            return Laplace(config.laplace_scale)
        if name == "uniform":
            return Uniform(config.uniform_half_width)
        if name in config.mixtures:
            return GaussianMixture(**config.mixtures[name])
    except UsageError as error:
        place = f"mixtures.{name}." if name in config.mixtures else f"{name}_"
        raise UsageError(f"scalar.{place}{error}") from error
    raise UsageError(
        f"scalar.sources: unknown {name!r}; choose among laplace, uniform, {', '.join(config.mixtures)}"
    )


def scalar_rows(config: ConfigDict) -> list[Row]:
    """Rows of scalar/curves.csv, by quadrature.

    Args:
        config: config.scalar.
    """
    sigma2s = _noise_levels(config.min_sigma2, config.points_per_decade)
    return [
        {"source": name} | dataclasses.asdict(analyse(scalar_source(name, config), sigma2))
        for name in config.sources
        for sigma2 in sigma2s
    ]


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """Of normal densities in d dimensions.

    Attributes:
        weights: (k,), sum one.
        means: (k, d).
        covariances: (k, d, d).
    """

    weights: Float[np.ndarray, " k"]
    means: Float[np.ndarray, "k d"]
    covariances: Float[np.ndarray, "k d d"]

    @classmethod
    def of_scalar(cls, source: GaussianMixture) -> "Mixture":
        """The same density as a vector of one dimension."""
        weights, means, stds = (np.array(v) for v in (source.weights, source.means, source.stds))
        return cls(weights, means[:, None], np.square(stds)[:, None, None])

    @classmethod
    def of_config(cls, config: ConfigDict) -> "Mixture":
        """From config.vector.

        Raises:
            UsageError: shapes that do not belong together, or what `models.mixture` refuses.
        """
        arrays = {}
        for name, ndim in (("weights", 1), ("means", 2), ("covariances", 3)):
            try:
                arrays[name] = np.array(config[name], np.float64)
            except (ValueError, TypeError):
                arrays[name] = np.zeros(())
            if arrays[name].ndim != ndim or not np.isfinite(arrays[name]).all():
                raise UsageError(
                    f"vector.{name}: {config[name]} is not an array of {ndim} dimensions"
                )
        count, dimension = arrays["means"].shape
        shapes = {"weights": (count,), "covariances": (count, dimension, dimension)}
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise UsageError(
                    f"vector.{name}: shape is {arrays[name].shape}, and vector.means asks for {shape}"
                )
        try:
            mixture.mixture_variables(**arrays)
        except UsageError as error:
            raise UsageError(f"vector.{error}") from error
        return cls(**arrays)

    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Of the whole."""
        centred = self.means - self.weights @ self.means
        between = np.einsum("k,ki,kj->ij", self.weights, centred, centred)
        return np.einsum("k,kij->ij", self.weights, self.covariances) + between

    def sample(self, count: int, generator: np.random.Generator) -> Float[np.ndarray, "n d"]:
        """Independent draws."""
        labels = generator.choice(len(self.weights), count, p=self.weights)
        values, vectors = np.linalg.eigh(self.covariances)
        normal = generator.standard_normal((count, self.means.shape[1]))
        scaled = np.sqrt(np.maximum(values, 0.0))[labels] * normal
        return self.means[labels] + np.einsum("nij,nj->ni", vectors[labels], scaled)

    def entropy(self, generator: np.random.Generator) -> Estimate:
        """Differential entropy in bits, by Monte Carlo; -inf with a singular covariance."""
        values, vectors = np.linalg.eigh(self.covariances)
        if values.min() <= 0:
            return Estimate(-np.inf, 0.0)
        x = self.sample(_ENTROPY_SAMPLES, generator)
        rotated = np.einsum("nkj,kji->nki", x[:, None] - self.means, vectors)
        exponents = -0.5 * (rotated**2 / values + np.log(2 * np.pi * values)).sum(-1)
        log_density = np.logaddexp.reduce(exponents + np.log(self.weights), axis=1)
        return Estimate.of(-log_density / np.log(2.0))


def simulation_rows(name: str, source: Mixture, config: ConfigDict, seed: int) -> Iterator[Row]:
    """Monte Carlo through the sweep with exact scores, with the bounds of the Gaussian and of Shannon.

    Columns are those of the quadrature, each measured one with its standard error beside it.

    Args:
        name: of the source, in the rows.
        source: a mixture.
        config: config.mixture; every sample is sent at every level.
        seed: of samples and noise.
    """
    generator = np.random.default_rng(rng.numpy_seed(seed, f"analysis/{name}"))
    x = source.sample(config.samples, generator)
    entropy = source.entropy(generator).mean
    eigenvalues = np.linalg.eigvalsh(source.covariance())
    levels = np.sort(np.array(config.sigma2))[::-1]
    gammas = np.log(levels / (1.0 - levels))
    settings = SimulationSettings(
        rate_steps=config.steps,
        ancestral_steps=config.steps,
        flow_steps=config.steps,
        first_gamma=max(float(gammas[0]) + 1.0, float(np.log(eigenvalues.sum())) + 7.0),
        final_gamma=float(gammas[-1]) - 7.0,
        seed=seed,
    )
    variables = mixture.mixture_variables(source.weights, source.means, source.covariances)
    points = simulate(
        name,
        mixture.eps_hat,
        variables,
        x[:, None, None],
        tuple(gammas),
        tuple(_DECODERS),
        settings,
    )
    dimension = x.shape[1]
    for i, sigma2 in enumerate(levels):
        by_decoder = {_DECODERS[p.decoder]: p for p in points if p.gamma == points[i].gamma}
        bits = by_decoder["d_f"].bits
        row: Row = {
            "source": name,
            "sigma2": float(sigma2),
            "bits": bits.mean,
            "bits_stderr": bits.stderr,
        }
        for column, point in by_decoder.items():
            row[column] = point.distortion.mean
            row[f"{column}_stderr"] = point.distortion.stderr
        noise = float(np.exp(gammas[i]))
        gaussian_bits = float(gaussian.rates(eigenvalues, noise).sum())
        shannon = entropy - 0.5 * dimension * np.log2(2 * np.pi * np.e * row["d_f"] / dimension)
        yield row | {
            "ratio": row["d_f"] / row["d_a"],
            "shannon_lower_bound": max(0.0, float(shannon)),
            "gaussian_bits": gaussian_bits,
            "gaussian_d_a": float(gaussian.distortions_ancestral(eigenvalues, noise).sum()),
            "n_samples": config.samples,
            "n_rate_steps": config.steps,
        }


def _noise_levels(lowest: float, per_decade: int) -> list[float]:
    """Powers of ten and those between them from `lowest` up, and a few levels that are nearly all noise."""
    first = int(np.ceil(np.log10(lowest) * per_decade - 1e-9))
    return sorted([10.0 ** (i / per_decade) for i in range(first, 0)] + [0.5, 0.8, 0.9, 0.97, 0.99])
