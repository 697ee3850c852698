"""Mixtures of normal densities by Monte Carlo through the sweep, with their exact scores."""

from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from diffc_jax import rng
from diffc_jax.models import mixture
from diffc_jax.studies.gaussian_analysis.gaussian import Row
from diffc_jax.studies.gaussian_analysis.simulation import SimulationSettings, simulate
from diffc_jax.theory import gaussian
from diffc_jax.theory.mixture import Mixture

_DECODERS = {"ancestral": "d_a", "flow": "d_f", "mean": "d_d"}
# Samples from which a differential entropy is estimated, to about 0.003 bits.
_ENTROPY_SAMPLES = 200_000


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
    entropy, _ = source.entropy(_ENTROPY_SAMPLES, generator)
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
