"""The ELBO is a bound, is tight with an exact denoiser, and gains with the number of steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from diffc_jax import rng
from diffc_jax.diffusion import elbo, process
from diffc_jax.models import mixture

VALUES = np.array([40, 41, 200])
WEIGHTS = np.array([0.5, 0.2, 0.3])
ENTROPY = -np.sum(WEIGHTS * np.log2(WEIGHTS))
N = 800_000


def linear_gamma(t):
    return -13.3 + 18.3 * t


@pytest.fixture(scope="module")
def pixels():
    drawn = np.random.default_rng(0).choice(VALUES, size=N, p=WEIGHTS)
    return jnp.asarray(drawn.reshape(-1, 1, 1, 1), jnp.uint8)


@pytest.fixture(scope="module")
def exact():
    """The posterior mean of a pixel that takes three values: a mixture of points."""
    means = np.asarray(process.pixels_to_unit(jnp.asarray(VALUES)))[:, None]
    variables = mixture.mixture_variables(WEIGHTS, means, np.zeros((3, 1, 1)))
    return lambda z, gamma: mixture.eps_hat(variables, z, gamma)


def estimate(denoise, pixels, n_steps=0):
    keys = rng.per_index(rng.stream(0, "test"), jnp.arange(len(pixels)))
    times = elbo.stratified_times(jax.random.key(1), len(pixels))
    return jax.jit(
        lambda: elbo.estimate_elbo(denoise, linear_gamma, pixels, times, keys, n_steps)
    )()


def mean_and_error(values):
    values = np.asarray(values, np.float64)
    return values.mean(), values.std() / np.sqrt(len(values))


def test_negative_elbo_of_the_exact_model_is_the_entropy(pixels, exact):
    """Histogram-exact: -sum p log2 p of the data, met within four standard errors."""
    mean, error = mean_and_error(estimate(exact, pixels).total)
    assert error < 0.01
    assert abs(mean - ENTROPY) < 4 * error + 1e-3


def test_negative_elbo_of_a_wrong_model_is_above_the_entropy(pixels):
    x = np.asarray(process.pixels_to_unit(jnp.asarray(VALUES)))
    mean = WEIGHTS @ x
    variables = mixture.mixture_variables(
        [1.0], np.array([[mean]]), np.array([[[WEIGHTS @ (x - mean) ** 2]]])
    )
    total, error = mean_and_error(
        estimate(lambda z, gamma: mixture.eps_hat(variables, z, gamma), pixels).total
    )
    assert total - 4 * error > ENTROPY + 1.0


def test_discrete_negative_elbo_decreases_to_the_continuous_one(pixels, exact):
    pixels = pixels[:100_000]
    continuous = float(estimate(exact, pixels).total.mean())
    discrete = [float(estimate(exact, pixels, n).total.mean()) for n in (8, 32, 128, 1024)]
    assert np.all(np.diff([*discrete, continuous]) < 0.004)
    assert discrete[0] > discrete[1] > discrete[2] > continuous
    assert discrete[-1] == pytest.approx(continuous, rel=0.01)


def test_reconstruction_term_is_a_softmax_over_the_pixel_values():
    gamma_0 = -9.0
    pixels = jnp.asarray([[[[0], [17], [255]]]], jnp.uint8)
    z = process.diffuse(
        process.pixels_to_unit(pixels), jnp.full((1, 1, 3, 1), 0.7), jnp.asarray(gamma_0)
    )
    centres = (2 * np.arange(256) + 1) / 256 - 1
    unit = np.asarray(z, np.float64).reshape(-1, 1) * np.sqrt(1 + np.exp(gamma_0))
    log_p = scipy.special.log_softmax(-0.5 * np.exp(-gamma_0) * (unit - centres) ** 2, axis=1)
    expected = -log_p[np.arange(3), [0, 17, 255]].sum() / np.log(2)
    found = elbo.reconstruction_term(pixels, z, jnp.asarray(gamma_0))
    np.testing.assert_allclose(found, [expected], rtol=1e-3)


@pytest.mark.parametrize("n", [1, 49, 64, 98])
def test_stratified_times_have_one_point_in_each_stratum(n):
    times = np.sort(elbo.stratified_times(jax.random.key(n), n))
    assert len(times) == n
    assert np.all((times >= 0) & (times < 1))
    np.testing.assert_allclose(np.diff(times), 1 / n, atol=1e-6)


@pytest.mark.parametrize("start", [0, 12_345, 2_000_000_000])
def test_indexed_times_fill_the_interval_over_any_run(start):
    indices = jnp.arange(start, start + 512)
    times = np.sort(elbo.indexed_times(jax.random.key(0), indices))
    assert np.all((times >= 0) & (times < 1))
    assert np.diff(times).max() < 4 / 512
    counts = np.histogram(times, bins=16, range=(0, 1))[0]
    assert np.all(np.abs(counts - 32) <= 2)


def test_noise_of_an_image_does_not_depend_on_its_batch(exact):
    pixels = jnp.asarray(VALUES.reshape(-1, 1, 1, 1), jnp.uint8)
    key, time_key = rng.stream(3, "noise"), jax.random.key(4)

    def run(order):
        order = jnp.asarray(order)
        return elbo.estimate_elbo(
            exact,
            linear_gamma,
            pixels[order],
            elbo.indexed_times(time_key, order),
            rng.per_index(key, order),
        ).total

    np.testing.assert_allclose(run([0, 1, 2])[jnp.array([2, 0])], run([2, 0]), rtol=1e-6)
