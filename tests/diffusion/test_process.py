"""The process against Bayes' rule, quadrature and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from diffc_jax.diffusion import process

GAMMAS = np.linspace(-13.3, 8.0, 9)


@pytest.fixture
def images():
    keys = jax.random.split(jax.random.key(0), 2)
    return tuple(jax.random.normal(key, (9, 2, 3, 3)) for key in keys)


def test_variance_is_preserved_and_gamma_is_the_negative_log_snr():
    alpha, sigma = (
        np.asarray(f(jnp.asarray(GAMMAS)), np.float64) for f in (process.alpha, process.sigma)
    )
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-6)
    np.testing.assert_allclose(-np.log(alpha**2 / sigma**2), GAMMAS, atol=2e-6 * 13.3)


def test_eps_and_x_are_two_views_of_z(images):
    x, eps = images
    gamma = jnp.linspace(-6.0, 4.0, 9)
    z = process.diffuse(x, eps, gamma)
    np.testing.assert_allclose(process.x_from_eps(z, eps, gamma), x, atol=1e-4)
    np.testing.assert_allclose(process.eps_from_x(z, x, gamma), eps, atol=1e-4)


def test_steps_may_be_tiny(images):
    """Differences of numbers near one have few digits in float32."""
    z, eps = images
    mean, std = process.conditional(z, eps, jnp.asarray(0.0), jnp.asarray(-1e-5))
    np.testing.assert_allclose(np.square(std), 1e-5 / 2, rtol=2e-5)
    np.testing.assert_allclose(mean, z, atol=1e-4)
    kl = process.step_kl(eps, jnp.zeros_like(eps), jnp.asarray(0.0), jnp.asarray(-1e-5))
    np.testing.assert_allclose(kl, 0.5e-5 * process.squared_norm(eps), rtol=2e-5)


@pytest.mark.parametrize(("gamma_t", "gamma_s"), [(5.0, 4.0), (0.0, -0.2), (-5.0, -13.0)])
def test_conditional_is_bayes_rule(images, gamma_t, gamma_s):
    """q(z_s | z_t, x) from the product of two Gaussian densities, in float64."""
    x, eps = (np.asarray(a, np.float64) for a in images)
    alpha_t, alpha_s = (1 / np.sqrt(1 + np.exp(g)) for g in (gamma_t, gamma_s))
    var_t, var_s = 1 - alpha_t**2, 1 - alpha_s**2
    z = alpha_t * x + np.sqrt(var_t) * eps
    ratio = alpha_t / alpha_s
    var_ts = var_t - ratio**2 * var_s
    precision = ratio**2 / var_ts + 1 / var_s
    expected = (ratio * z / var_ts + alpha_s * x / var_s) / precision
    mean, std = process.conditional(
        jnp.asarray(z, jnp.float32),
        jnp.asarray(eps, jnp.float32),
        jnp.asarray(gamma_t),
        jnp.asarray(gamma_s),
    )
    np.testing.assert_allclose(mean, expected, atol=5e-6)
    np.testing.assert_allclose(np.squeeze(std), np.sqrt(1 / precision), rtol=1e-5)


def test_step_kl_is_that_of_two_gaussians_with_the_same_variance(images):
    x, eps = images
    eps_hat = 0.9 * eps + 0.05
    gamma_t, gamma_s = jnp.full(9, 1.0), jnp.full(9, 0.3)
    z = process.diffuse(x, eps, gamma_t)
    mean_q, std = process.conditional(z, eps, gamma_t, gamma_s)
    mean_p, _ = process.conditional(z, eps_hat, gamma_t, gamma_s)
    expected = jnp.sum((mean_q - mean_p) ** 2 / (2 * std**2), axis=(1, 2, 3))
    np.testing.assert_allclose(process.step_kl(eps, eps_hat, gamma_t, gamma_s), expected, rtol=1e-4)


@pytest.mark.parametrize("gamma", [-3.0, 0.5, 5.0])
def test_prior_kl_by_quadrature(gamma):
    x = 0.7
    q = scipy.stats.norm(x / np.sqrt(1 + np.exp(gamma)), 1 / np.sqrt(1 + np.exp(-gamma)))
    p = scipy.stats.norm()
    expected, _ = scipy.integrate.quad(
        lambda z: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), -10, 10, points=(q.mean(),), limit=500
    )
    found = process.prior_kl(jnp.full((1, 1, 1, 1), x), jnp.asarray(gamma))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_prior_kl_keeps_its_digits_where_the_noise_variance_rounds_to_one():
    found = process.prior_kl(jnp.zeros((1, 1, 1, 1)), jnp.asarray(12.0))
    # With x = 0: (sigma^2 - 1 - log sigma^2) / 2 = alpha^4 / 4 + O(alpha^6).
    assert 0 <= float(found[0]) < 1e-7


def test_every_pixel_value_survives_the_round_trip():
    values = jnp.arange(256, dtype=jnp.uint8)
    unit = process.pixels_to_unit(values)
    assert float(unit[0]) == -1 + 1 / 256
    assert float(unit[-1]) == 1 - 1 / 256
    np.testing.assert_array_equal(process.unit_to_pixels(unit), values)
    np.testing.assert_array_equal(process.unit_to_pixels(jnp.array([-7.0, 7.0])), [0, 255])
