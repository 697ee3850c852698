"""Exact denoisers: against quadrature, against each other, and the fit against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.integrate
import scipy.stats

from diffc_jax.diffusion import process
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models import build_model, gaussian, mixture

SHAPE = (4, 6, 3)


@pytest.fixture(scope="module")
def statistics():
    generator = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    arrays = {
        "mean": np.array([0.1, -0.2, 0.05]),
        "rotation": rotation,
        "variances": generator.gamma(0.3, size=SHAPE) + 1e-4,
    }
    return {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}


def dense_covariance(statistics):
    """The covariance of flattened images, from the definition of the components."""
    size = int(np.prod(SHAPE))
    basis = gaussian.from_components(jnp.eye(size).reshape(size, *SHAPE), statistics["rotation"])
    basis = np.asarray(basis, np.float64).reshape(size, size)
    return basis.T @ np.diag(statistics["variances"].reshape(-1)) @ basis


def test_dct_is_scipys():
    images = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
    expected = scipy.fft.dctn(images, axes=(1, 2), norm="ortho")
    np.testing.assert_allclose(gaussian.dct2(jnp.asarray(images)), expected, atol=1e-5)
    back = gaussian.inverse_dct2(gaussian.dct2(jnp.asarray(images)))
    np.testing.assert_allclose(back, images, atol=1e-5)


def test_fast_gaussian_is_the_dense_gaussian(statistics):
    mean = np.broadcast_to(statistics["mean"], SHAPE).reshape(1, -1)
    dense = mixture.mixture_variables([1.0], mean, dense_covariance(statistics)[None])
    z = jax.random.normal(jax.random.key(0), (5, *SHAPE))
    gamma = jnp.linspace(-8.0, 5.0, 5)
    fast = gaussian.eps_hat({"fixed": statistics}, z, gamma)
    np.testing.assert_allclose(fast, mixture.eps_hat(dense, z, gamma), rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("gamma", [-4.0, 0.0, 3.0])
def test_mixture_by_quadrature(gamma):
    weights, means, stds = [0.25, 0.75], [-1.0, 1.5], [0.1, 0.3]
    variables = mixture.mixture_variables(
        weights, np.array(means)[:, None], np.square(stds).reshape(-1, 1, 1)
    )
    alpha, sigma = 1 / np.sqrt(1 + np.exp(gamma)), 1 / np.sqrt(1 + np.exp(-gamma))
    for z in (-1.2, 0.1, 0.9):

        def weight(x, z=z):
            prior = sum(
                w * scipy.stats.norm.pdf(x, m, s)
                for w, m, s in zip(weights, means, stds, strict=True)
            )
            return prior * scipy.stats.norm.pdf(z, alpha * x, sigma)

        grid = np.linspace(-4, 4, 40_001)
        x_hat = np.average(grid, weights=weight(grid))
        found = mixture.eps_hat(variables, jnp.full((1, 1, 1, 1), z), jnp.asarray([gamma]))
        np.testing.assert_allclose(found.item(), (z - alpha * x_hat) / sigma, rtol=1e-3, atol=1e-4)


def test_bad_mixtures_are_refused():
    means, covariances = np.zeros((2, 1)), np.ones((2, 1, 1))
    with pytest.raises(
        UsageError, match=r"^weights: \[0.5, 0.6\] are not positive numbers that sum"
    ):
        mixture.mixture_variables([0.5, 0.6], means, covariances)
    with pytest.raises(UsageError, match=r"^covariances: not positive semidefinite$"):
        mixture.mixture_variables([0.5, 0.5], means, -covariances)
    with pytest.raises(UsageError, match=r"^covariances: not symmetric$"):
        mixture.mixture_variables([1.0], np.zeros((1, 2)), np.array([[[1.0, 0.5], [0.0, 1.0]]]))


def test_fit_is_the_moments_of_the_data():
    pixels = np.random.default_rng(2).integers(0, 256, size=(40, *SHAPE)).astype(np.uint8)
    pixels[..., 1] = pixels[..., 0] // 2
    x = (2.0 * pixels + 1) / 256 - 1
    found = gaussian.fit_statistics([pixels[:7], pixels[7:]])
    np.testing.assert_allclose(found["mean"], x.mean((0, 1, 2)), atol=1e-5)
    rotation = found["rotation"].astype(np.float64)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    components = scipy.fft.dctn((x - x.mean((0, 1, 2))) @ rotation, axes=(1, 2), norm="ortho")
    expected = np.maximum(np.square(components).mean(0), gaussian._VARIANCE_FLOOR)
    np.testing.assert_allclose(found["variances"], expected, rtol=1e-3, atol=1e-6)
    # The rotated colours are uncorrelated.
    pooled = np.einsum("bhwc,bhwd->cd", components, components)
    off_diagonal = pooled - np.diag(np.diag(pooled))
    assert np.abs(off_diagonal).max() < 1e-4 * np.trace(pooled)


def test_fit_does_not_depend_on_the_batches_and_needs_two_images():
    pixels = np.random.default_rng(3).integers(0, 256, size=(12, *SHAPE)).astype(np.uint8)
    whole, parts = gaussian.fit_statistics([pixels]), gaussian.fit_statistics(np.split(pixels, 4))
    for name, values in whole.items():
        np.testing.assert_allclose(np.abs(values), np.abs(parts[name]), rtol=1e-3, atol=1e-5)
    with pytest.raises(
        InputError, match=r"^a Gaussian needs at least 2 images, and the data has 1$"
    ):
        gaussian.fit_statistics([pixels[:1]])


def test_wiener_filter_has_the_least_error_among_gains(statistics):
    """The exact denoiser beats the same filter with all variances scaled up or down."""
    key = jax.random.key(5)
    components = jax.random.normal(key, (500, *SHAPE)) * np.sqrt(statistics["variances"])[None]
    x = gaussian.from_components(components, statistics["rotation"])
    x += statistics["mean"].reshape(1, 1, 1, 3)
    eps = jax.random.normal(jax.random.key(6), x.shape)
    gamma = jnp.zeros(500)
    z = process.diffuse(x, eps, gamma)

    def error(scale):
        scaled = statistics | {"variances": scale * statistics["variances"]}
        return float(
            process.squared_norm(eps - gaussian.eps_hat({"fixed": scaled}, z, gamma)).mean()
        )

    assert error(1.0) < min(error(0.5), error(2.0))


def test_build_model_names_what_it_does_not_know():
    with pytest.raises(
        UsageError,
        match=r"^model.name: unknown 'gan'; choose one of diffusers_unet, gaussian",
    ):
        build_model({"name": "gan"}, (8, 8, 3))
    with pytest.raises(UsageError, match=r"^model.name: unknown ''; choose one of "):
        build_model({}, (8, 8, 3))
    with pytest.raises(UsageError, match=r"^model.width: gaussian has no such field; it has none$"):
        build_model({"name": "gaussian", "width": 3}, (8, 8, 3))
