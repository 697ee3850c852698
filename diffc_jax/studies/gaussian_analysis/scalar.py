"""Scalar sources by quadrature: which the config names, and their table."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from diffc_jax.errors import UsageError
from diffc_jax.studies.gaussian_analysis.gaussian import Row
from diffc_jax.theory.scalar import analyse
from diffc_jax.theory.scalar_sources import GaussianMixture, Laplace, ScalarSource, Uniform


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
        raise UsageError(error.message, field=f"scalar.{place}{error.field}") from error
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


def _noise_levels(lowest: float, per_decade: int) -> list[float]:
    """Powers of ten and those between them from `lowest` up, and a few levels that are nearly all noise."""
    first = int(np.ceil(np.log10(lowest) * per_decade - 1e-9))
    return sorted([10.0 ** (i / per_decade) for i in range(first, 0)] + [0.5, 0.8, 0.9, 0.97, 0.99])
