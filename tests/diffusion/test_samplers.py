"""Samplers on a Gaussian source with its exact denoiser, where every answer is known."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from diffc_jax.diffusion import process, samplers
from diffc_jax.models import gaussian
from diffc_jax.theory import gaussian as theory

SHAPE = (1, 5, 1)
VARIANCES = np.array([1e-4, 0.01, 0.3, 1.0, 4.0])
LAST = -14.0


@pytest.fixture(scope="module")
def denoise():
    fixed = {
        "mean": jnp.zeros(1),
        "rotation": jnp.eye(1),
        "variances": jnp.asarray(VARIANCES.reshape(SHAPE), jnp.float32),
    }
    return functools.partial(gaussian.eps_hat, {"fixed": fixed})


def from_components(components):
    return gaussian.from_components(components, jnp.eye(1))


def solve(denoise, gamma, steps, **options):
    """Gains of the flow on each component of z / alpha."""
    y = from_components(jnp.ones((1, *SHAPE)))
    z = y * process.alpha(jnp.asarray(gamma))
    grid = jnp.linspace(gamma, LAST, steps + 1)
    out = samplers.flow(denoise, z, grid, steps, **options)
    return np.asarray(gaussian.to_components(out, jnp.eye(1))).reshape(-1)


def exact_gain(gamma, kappa=1.0):
    """From noise at gamma to noise at LAST: the ratio of the gains to no noise."""
    return theory.flow_gain(VARIANCES, np.exp(gamma), kappa) / theory.flow_gain(
        VARIANCES, np.exp(LAST), kappa
    )


@pytest.mark.parametrize("kappa", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("gamma", [-4.0, 1.0])
def test_gains_of_the_score_scaled_flow(denoise, gamma, kappa):
    found = solve(denoise, gamma, 400, kappa=kappa)
    np.testing.assert_allclose(found, exact_gain(gamma, kappa), rtol=2e-3)


@pytest.mark.parametrize("order", [1, 2])
def test_order_of_convergence(denoise, order):
    exact = exact_gain(1.0)
    errors = [
        np.abs(solve(denoise, 1.0, steps, order=order) - exact).max() for steps in (80, 160, 320)
    ]
    slopes = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(slopes, order, atol=0.25)


def predicted_gain(gamma, steps):
    """The flow without its corrector, in float64: Adams-Bashforth in lambda."""
    grid = np.linspace(gamma, LAST, steps + 1)
    half, weight = (grid[0] - grid[1]) / 2, -np.expm1(-(grid[0] - grid[1]) / 2)
    rest = (half - weight) / half  # of the slope over a step
    y, last, slope = np.ones_like(VARIANCES), None, 0.0
    for gamma_i in grid[:-1]:
        x_hat = VARIANCES / (VARIANCES + np.exp(gamma_i)) * y
        slope = 0.0 if last is None else x_hat - last
        y, last = y + weight * (x_hat - y) + rest * slope, x_hat
    return y


def test_the_corrector_takes_a_third_of_the_error(denoise):
    exact = exact_gain(1.0)
    alone = np.abs(predicted_gain(1.0, 80) - exact).max()
    corrected = np.abs(solve(denoise, 1.0, 80) - exact).max()
    assert 0.5 * alone < corrected < 0.75 * alone


def test_first_order_is_ddim(denoise):
    """Against the update of Song et al. (2021): z_s = alpha_s x_hat + sigma_s eps_hat."""
    z = jax.random.normal(jax.random.key(0), (3, *SHAPE))
    grid = np.linspace(2.0, -6.0, 9).astype(np.float32)
    found = samplers.flow(denoise, z, jnp.asarray(grid), 8, order=1)
    for gamma_t, gamma_s in itertools.pairwise(grid):
        eps_hat = denoise(z, jnp.full(3, gamma_t))
        alpha_t, alpha_s = (np.sqrt(scipy.special.expit(-g)) for g in (gamma_t, gamma_s))
        sigma_t, sigma_s = (np.sqrt(scipy.special.expit(g)) for g in (gamma_t, gamma_s))
        z = alpha_s * (z - sigma_t * eps_hat) / alpha_t + sigma_s * eps_hat
    np.testing.assert_allclose(
        found, z / np.sqrt(scipy.special.expit(-grid[-1])), rtol=1e-4, atol=1e-5
    )


def test_unknown_order_is_refused(denoise):
    with pytest.raises(ValueError, match="order is 3, not 1 or 2"):
        solve(denoise, 0.0, 4, order=3)


@pytest.mark.parametrize("n_steps", [-1, 0, 4, np.int64(9), np.int32(0)])
def test_numbers_of_steps_that_a_grid_does_not_have_are_refused(denoise, n_steps):
    """The longest would be NaN, and none at all a single step."""
    z, grid = jnp.ones((2, *SHAPE)), jnp.linspace(2.0, -6.0, 4)
    message = f"^n_steps is {n_steps}, not 1 to 3 as of the gammas$"
    with pytest.raises(ValueError, match=message):
        samplers.flow(denoise, z, grid, n_steps)
    with pytest.raises(ValueError, match=message):
        samplers.ancestral(denoise, z, grid, n_steps, jax.random.split(jax.random.key(0), 2))


def test_ancestral_samples_have_the_distribution_of_the_source(denoise):
    n, gamma, steps = 20_000, 1.0, 60
    keys = jax.random.split(jax.random.key(1), 3)
    std = jnp.asarray(np.sqrt(VARIANCES).reshape(1, *SHAPE), jnp.float32)
    x = from_components(std * jax.random.normal(keys[0], (n, *SHAPE)))
    z = process.diffuse(x, jax.random.normal(keys[1], x.shape), jnp.asarray(gamma))
    sample = samplers.ancestral(
        denoise, z, jnp.linspace(gamma, LAST, steps + 1), steps, jax.random.split(keys[2], n)
    )
    x, sample = (
        np.asarray(gaussian.to_components(a, jnp.eye(1)), np.float64).reshape(n, -1)
        for a in (x, sample)
    )
    # The grid's own bias is below 1 % at 60 steps; the rest is Monte Carlo, sqrt(2 / n) = 1 %.
    expected = VARIANCES + np.exp(LAST)
    np.testing.assert_allclose(sample.var(0), expected, rtol=0.05)
    distortion = ((x - sample) ** 2).mean(0)
    np.testing.assert_allclose(
        distortion,
        theory.distortions_ancestral(VARIANCES, np.exp(gamma)) + np.exp(LAST),
        rtol=0.06,
    )


def ancestral_steps(variance, gamma, steps, order):
    """Matrices of the steps for one Gaussian component, the variances of their noise, and the sample's row.

    They act on x, the end of a step without its slope, the slope and x_hat; at first y takes their place.
    """
    gammas = np.linspace(gamma, LAST, steps + 1)
    odds = np.exp(gammas)
    h = (gammas[0] - gammas[1]) / 2
    approach = 1 - np.exp(-2 * h)
    weight = h - approach / 2 if order == 2 else 0.0
    x, end, slope, x_hat = np.eye(4)
    matrices = []
    for i in range(steps):
        found = variance / (variance + odds[i]) * (end + weight * slope)
        new_slope = (found - x_hat) / h if i else 0 * x
        y = end + weight * new_slope
        matrices.append(np.stack([x, y + approach * (found - y), new_slope, found]))
    return matrices, odds[1:] * approach, end + weight * slope


def moments_of_ancestral(variance, gamma, steps, order):
    """Variance of a sample and E(x - sample)^2 for one Gaussian component, by the solver's own recursion."""
    matrices, noises, sample = ancestral_steps(variance, gamma, steps, order)
    covariance = np.zeros((4, 4))
    covariance[:2, :2] = variance
    covariance[1, 1] += np.exp(gamma)
    for step, noise in zip(matrices, noises, strict=True):
        covariance = step @ covariance @ step.T
        covariance[1, 1] += noise
    last = np.stack([np.eye(4)[0], sample])
    (xx, xy), (_, yy) = last @ covariance @ last.T
    return yy, xx - 2 * xy + yy


@pytest.mark.parametrize("order", [1, 2])
def test_ancestral_steps_follow_their_recursion(denoise, order):
    """Few, large steps: samples have the distribution of the scheme, not yet that of the source."""
    n, gamma, steps = 20_000, 1.0, 8
    keys = jax.random.split(jax.random.key(1), 3)
    std = jnp.asarray(np.sqrt(VARIANCES).reshape(1, *SHAPE), jnp.float32)
    x = from_components(std * jax.random.normal(keys[0], (n, *SHAPE)))
    z = process.diffuse(x, jax.random.normal(keys[1], x.shape), jnp.asarray(gamma))
    grid = jnp.linspace(gamma, LAST, steps + 1)
    sample = samplers.ancestral(denoise, z, grid, steps, jax.random.split(keys[2], n), order)
    x, sample = (
        np.asarray(gaussian.to_components(a, jnp.eye(1)), np.float64).reshape(n, -1)
        for a in (x, sample)
    )
    expected = np.array([moments_of_ancestral(v, gamma, steps, order) for v in VARIANCES])
    np.testing.assert_allclose(sample.var(0), expected[:, 0], rtol=0.05)
    np.testing.assert_allclose(((x - sample) ** 2).mean(0), expected[:, 1], rtol=0.06)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [8, 40])
def test_gains_of_ancestral_steps_are_those_of_the_recursion(denoise, steps, order):
    """With the same noise, samples from two latents differ by what the steps make of the difference."""
    gamma, keys = 1.0, jax.random.split(jax.random.key(1), 1)
    z = jax.random.normal(jax.random.key(2), (1, *SHAPE))
    apart = 100.0 * process.alpha(jnp.asarray(gamma)) * from_components(jnp.ones((1, *SHAPE)))
    grid = jnp.linspace(gamma, LAST, steps + 1)
    one, other = (
        samplers.ancestral(denoise, latent, grid, steps, keys, order) for latent in (z, z + apart)
    )
    found = np.asarray(gaussian.to_components(other - one, jnp.eye(1))).reshape(-1) / 100
    for variance, gain in zip(VARIANCES, found, strict=True):
        matrices, _, sample = ancestral_steps(variance, gamma, steps, order)
        state = functools.reduce(lambda value, step: step @ value, matrices, np.eye(4)[1])
        assert gain == pytest.approx(sample @ state, rel=1e-3, abs=1e-6)


def test_second_order_ancestral_steps_converge_faster():
    """Exact moments: of order 2, forty steps beat three hundred of order 1."""
    gamma, variance = 0.0, 1.0
    exact = theory.distortions_ancestral(np.array([variance]), np.exp(gamma))[0] + np.exp(LAST)

    def error(steps, order):
        return abs(moments_of_ancestral(variance, gamma, steps, order)[1] / exact - 1)

    assert np.log2(error(80, 1) / error(160, 1)) == pytest.approx(1.0, abs=0.1)
    assert np.log2(error(40, 2) / error(80, 2)) > 2
    assert error(40, 2) < error(300, 1)


def test_posterior_mean_is_the_wiener_estimate(denoise):
    gamma = 0.5
    z = from_components(jnp.ones((2, *SHAPE)))
    found = gaussian.to_components(
        samplers.posterior_mean(denoise, z, jnp.asarray(gamma)), jnp.eye(1)
    )
    signal, noise = scipy.special.expit(-gamma), scipy.special.expit(gamma)
    expected = np.sqrt(signal) * VARIANCES / (signal * VARIANCES + noise)
    np.testing.assert_allclose(np.asarray(found)[0].reshape(-1), expected, rtol=1e-4, atol=1e-6)


def test_grids_may_be_arrays_of_numpy(denoise):
    key = jax.random.key(0)
    z, keys = jax.random.normal(key, (2, *SHAPE)), jax.random.split(key)
    grid = np.linspace(2.0, -3.0, 6)
    for sampler, more in ((samplers.flow, ()), (samplers.ancestral, (keys,))):
        found, expected = (sampler(denoise, z, g, 5, *more) for g in (grid, jnp.asarray(grid)))
        np.testing.assert_array_equal(found, expected)


def test_padded_grids_and_traced_counts_change_nothing(denoise):
    z = jax.random.normal(jax.random.key(2), (2, *SHAPE))
    keys = jax.random.split(jax.random.key(3), 2)
    grid = jnp.linspace(1.0, -8.0, 6)
    padded = jnp.concatenate([grid, jnp.full(4, grid[-1])])
    np.testing.assert_allclose(
        samplers.flow(denoise, z, grid, 5),
        jax.jit(lambda n: samplers.flow(denoise, z, padded, n))(5),
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        samplers.ancestral(denoise, z, grid, 5, keys),
        jax.jit(lambda n: samplers.ancestral(denoise, z, padded, n, keys))(5),
        rtol=1e-5,
    )
