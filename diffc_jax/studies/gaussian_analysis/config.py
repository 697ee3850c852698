"""The configuration of the analysis; the experiments on images have theirs in `diffc_jax.config`."""

from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffc_jax.config.checks import above, all_finite, at_least, has_fields, numbers, within
from diffc_jax.config.sources import check_unused_fields, plain, source_config
from diffc_jax.errors import UsageError
from diffc_jax.studies.gaussian_analysis.closed_forms import MAX_BITS_PER_COMPONENT, scalar_source
from diffc_jax.theory.mixture import Mixture
from diffc_jax.typed import one_of


def analysis_config() -> ConfigDict:
    """All fields with their defaults; locked, so that a misspelt field is an error."""
    config = ConfigDict()
    config.seed = 0
    # The sweep beside the closed forms and the quadrature. It takes a minute; "auto" leaves it out where
    # source.eigenvalues is given, "always" and "never" decide themselves.
    config.monte_carlo = "auto"

    config.source = ConfigDict()
    config.source.eigenvalues = ""  # a .npy file; empty: of the covariance of the patches below
    config.source.images = source_config(split="train")
    config.source.image_size = 64
    config.source.patch_size = 16

    # Rates are in bits for a source vector, bpp in bits for each of its pixels (three dimensions).
    config.gaussian = ConfigDict()
    config.gaussian.min_bits = 0.1
    config.gaussian.max_bits = 10_000.0
    config.gaussian.points_per_decade = 10
    config.gaussian.component_bpp = (0.05, 0.5, 2.0)  # where single components are shown
    config.gaussian.samples = 500
    config.gaussian.sample_bpp = (0.05, 0.2, 0.8, 2.5)
    config.gaussian.rate_steps = 500
    config.gaussian.ancestral_steps = 100
    config.gaussian.flow_steps = 60

    config.scalar = ConfigDict()
    config.scalar.sources = ("mixture", "narrow", "laplace", "uniform")
    config.scalar.min_sigma2 = 1e-7
    config.scalar.points_per_decade = 4
    config.scalar.laplace_scale = 1.0
    config.scalar.uniform_half_width = 1.0
    # Mixtures of normal densities by name.
    config.scalar.mixtures = ConfigDict(
        {
            "mixture": {"weights": (0.5, 0.5), "means": (-1.0, 1.0), "stds": (0.1, 0.3)},
            "narrow": {"weights": (0.5, 0.5), "means": (-1.0, 1.0), "stds": (0.01, 0.01)},
        }
    )

    # A mixture in several dimensions, only simulated.
    config.vector = ConfigDict()
    config.vector.weights = (0.4, 0.35, 0.25)
    config.vector.means = ((-1.0, 0.0), (1.0, 0.6), (0.4, -1.0))
    config.vector.covariances = (
        ((0.04, 0.03), (0.03, 0.09)),
        ((0.09, -0.05), (-0.05, 0.05)),
        ((0.02, 0.0), (0.0, 0.16)),
    )

    # How mixtures are simulated, scalar ones and the vector.
    config.mixture = ConfigDict()
    config.mixture.samples = 10_000
    config.mixture.sigma2 = (0.5, 0.2, 0.01, 1e-3, 1e-4)
    config.mixture.steps = 400  # of the rate's chain and of each decoder
    return config.lock()


def shrink_to_smoke(config: ConfigDict) -> None:
    """Makes the analysis a matter of seconds; its closed forms stay exact."""
    config.source.images.max_images = 64
    config.gaussian.points_per_decade = 1
    config.gaussian.samples = 16
    config.gaussian.sample_bpp = (0.8,)
    config.gaussian.rate_steps = config.gaussian.ancestral_steps = 20
    config.gaussian.flow_steps = 10
    config.scalar.points_per_decade = 1
    config.scalar.sources = ("mixture", "uniform")
    config.mixture.samples = 100
    config.mixture.sigma2 = (0.1, 0.01)
    config.mixture.steps = 20


def validate(config: ConfigDict) -> None:
    """Checks everything that can be checked without data.

    Raises:
        UsageError: the first field that cannot be used, and what it may be.
    """
    has_fields(plain(config), plain(analysis_config()))
    all_finite(plain(config))
    within("seed", config.seed, 0, 2**32)
    one_of("monte_carlo", config.monte_carlo, ("auto", "always", "never"))
    at_least("source.image_size", config.source.image_size, 1)
    try:
        check_unused_fields(config.source.images)
    except UsageError as error:
        raise error.in_group("source.images") from None
    within("source.patch_size", config.source.patch_size, 1, config.source.image_size + 1)
    gaussian, mixture = config.gaussian, config.mixture
    above("gaussian.min_bits", gaussian.min_bits, 0.0)
    at_least("gaussian.max_bits", gaussian.max_bits, gaussian.min_bits)
    for field in ("component_bpp", "sample_bpp"):
        _levels(f"gaussian.{field}", gaussian[field], 3 * MAX_BITS_PER_COMPONENT)
    for field in ("points_per_decade", "rate_steps", "ancestral_steps", "flow_steps"):
        at_least(f"gaussian.{field}", gaussian[field], 1)
    at_least("gaussian.samples", gaussian.samples, 2)
    if not 0 < len(config.scalar.sources) == len(set(config.scalar.sources)):
        raise UsageError(
            f"{tuple(config.scalar.sources)} must name at least one, and each once",
            field="scalar.sources",
        )
    for name in config.scalar.sources:
        scalar_source(name, config.scalar)
    within("scalar.min_sigma2", config.scalar.min_sigma2, 1e-10, 0.1)
    at_least("scalar.points_per_decade", config.scalar.points_per_decade, 1)
    vector_mixture(config)
    at_least("mixture.samples", mixture.samples, 2)
    at_least("mixture.steps", mixture.steps, 1)
    _levels("mixture.sigma2", mixture.sigma2, 1.0)


def vector_mixture(config: ConfigDict) -> Mixture:
    """The mixture of config.vector.

    Raises:
        UsageError: what `theory.mixture.Mixture` refuses.
    """
    arrays = {}
    for name in ("weights", "means", "covariances"):
        try:
            arrays[name] = np.array(config.vector[name], np.float64)
        except (ValueError, TypeError):
            raise UsageError(
                f"{config.vector[name]} is not an array", field=f"vector.{name}"
            ) from None
    try:
        return Mixture(**arrays)
    except UsageError as error:
        raise error.in_group("vector") from error


def _levels(field: str, values: tuple[Any, ...], below: float) -> None:
    numbers(field, values)
    if not values or not all(0 < value < below for value in values):
        raise UsageError(
            f"{values} must be numbers above 0 and below {below}, at least one", field=field
        )
    if len(set(values)) < len(values):
        raise UsageError(f"{values} names a number twice", field=field)
