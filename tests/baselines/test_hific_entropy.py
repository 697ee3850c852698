"""HiFiC's entropy models: masses add up, gradients pass, and tables reach as far as the scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from diffc_jax.baselines.hific.entropy_coding import (
    NUM_SCALES,
    add_noise,
    bits,
    gaussian_mass,
    lower_bound,
    scale_indices,
    straight_through_round,
    table_scales,
)
from diffc_jax.baselines.hific.networks import FactorizedPrior

CHANNELS = 6


@pytest.fixture(scope="module")
def prior():
    """Masses of values of shape (c, n) and medians of a prior that is neither symmetric nor centred."""
    network = FactorizedPrior(CHANNELS)
    init = jax.jit(network.init)
    params = init(jax.random.key(0), jnp.zeros((1, 1, 1, CHANNELS)))["params"]
    draw = np.random.default_rng(0).normal
    params = {name: p + 0.7 * draw(size=p.shape).astype(np.float32) for name, p in params.items()}
    params["bias3"] += 4.0
    masses = jax.jit(lambda values: network.apply({"params": params}, values, method="masses"))
    medians = jax.jit(lambda: network.apply({"params": params}, method="medians"))()
    return network, params, masses, medians


def test_masses_of_the_prior_add_up_to_one(prior):
    *_, masses, medians = prior
    grid = np.arange(-400, 401) + np.asarray(medians)[:, None]
    values = np.asarray(masses(grid.astype(np.float32)), np.float64)
    assert (values >= 0).all()
    np.testing.assert_allclose(values.sum(1), 1.0, atol=1e-3)


def test_half_of_the_mass_lies_below_the_median(prior):
    *_, masses, medians = prior
    assert np.abs(medians).max() > 0.5
    below = -0.5 - np.arange(600) + np.asarray(medians)[:, None]
    np.testing.assert_allclose(np.asarray(masses(below.astype(np.float32))).sum(1), 0.5, atol=1e-3)


def test_the_prior_treats_each_channel_by_its_own_density(prior):
    network, params, masses, _ = prior
    values = jax.random.normal(jax.random.key(2), (2, 3, 4, CHANNELS)) * 5
    result = np.asarray(jax.jit(network.apply)({"params": params}, values))
    assert result.shape == values.shape
    for channel in range(CHANNELS):
        grouped = np.tile(np.asarray(values)[..., channel].reshape(1, -1), (CHANNELS, 1))
        np.testing.assert_allclose(
            result[..., channel].reshape(-1), masses(grouped)[channel], rtol=1e-4, atol=1e-7
        )


def test_both_tails_of_the_prior_keep_their_precision():
    network = FactorizedPrior(1)
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 1, 1, 1)))["params"]
    params = {name: np.zeros(p.shape) if "bias" in name else p for name, p in params.items()}
    masses = jax.jit(lambda values: network.apply({"params": params}, values, method="masses"))
    far = masses(jnp.array([[-150.0, 150.0]]))[0]
    assert 0 < far[0] < 1e-7
    np.testing.assert_allclose(far[0], far[1], rtol=1e-3)


def test_gaussian_masses_are_those_of_scipy():
    distances = np.array([-7.0, -2.3, -0.4, 0.0, 0.2, 1.0, 3.0, 30.0])
    scales = np.array([1.0, 0.5, 0.11, 3.0, 0.2, 2.0, 0.8, 6.0])
    below, above = (np.abs(distances) + shift for shift in (-0.5, 0.5))
    expected = scipy.stats.norm.sf(below / scales) - scipy.stats.norm.sf(above / scales)
    values = gaussian_mass(jnp.asarray(distances), jnp.asarray(scales))
    np.testing.assert_allclose(values, expected, rtol=2e-4)


def test_scales_have_a_floor_that_they_can_leave():
    least = gaussian_mass(jnp.array([0.3]), jnp.array([-5.0]))
    np.testing.assert_allclose(least, gaussian_mass(jnp.array([0.3]), jnp.array([0.11])))

    def cost(scale, distance):
        return -jnp.log(gaussian_mass(distance, scale)).sum()

    gradient = jax.jit(jax.grad(cost))
    # A value far out asks for a larger scale, one at the mean for a smaller one, which there is not.
    assert gradient(jnp.array([0.05]), jnp.array([0.7])) < 0
    assert gradient(jnp.array([0.05]), jnp.array([0.0])) == 0
    assert gradient(jnp.array([0.3]), jnp.array([0.0])) > 0


def test_noise_stands_in_for_rounding():
    """For a wide Gaussian both cost its differential entropy."""
    scale = 20.0
    values = scale * jax.random.normal(jax.random.key(0), (1, 40_000))
    entropy = 0.5 * np.log2(2 * np.pi * np.e * scale**2)
    scales = jnp.full(values.shape, scale)
    noisy = add_noise(values, jax.random.key(1))
    assert np.abs(noisy - values).max() <= 0.5
    np.testing.assert_allclose(np.var(noisy - values), 1 / 12, rtol=0.02)
    for quantised in (noisy, jnp.round(values)):
        cost = bits(gaussian_mass(quantised, scales))[0] / values.size
        assert cost == pytest.approx(entropy, rel=0.003)


def test_bits_are_summed_for_each_image_and_bounded():
    masses = jnp.array([[[0.5, 0.25]], [[1.0, 0.0]]])
    np.testing.assert_allclose(bits(masses), [3.0, -np.log2(1e-9)], rtol=1e-6)


def test_lower_bound_passes_gradients_that_lift():
    x = jnp.array([-1.0, 0.5, 2.0])
    for sign in (1.0, -1.0):
        value, pull = jax.vjp(lambda x: lower_bound(x, 1.0), x)
        np.testing.assert_array_equal(value, [1.0, 1.0, 2.0])
        inside = 0.0 if sign > 0 else sign
        np.testing.assert_array_equal(pull(sign * jnp.ones(3))[0], [inside, inside, sign])


def test_straight_through_rounding():
    x = jnp.array([-1.6, 0.2, 3.4])
    value, pull = jax.vjp(straight_through_round, x)
    np.testing.assert_array_equal(value, [-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(pull(jnp.array([1.0, 2.0, 3.0]))[0], [1.0, 2.0, 3.0])


def test_table_of_scales():
    scales = table_scales()
    assert len(scales) == NUM_SCALES == 64
    assert (scales[0], scales[-1]) == pytest.approx((0.11, 256.0))
    np.testing.assert_allclose(np.diff(np.log(scales)), np.log(256 / 0.11) / 63)
    np.testing.assert_array_equal(scale_indices(jnp.asarray(scales)), np.arange(64))
    ratio = scales[1] / scales[0]
    near = jnp.array([-3.0, 0.0, 1e9, scales[10] * ratio**0.49, scales[10] * ratio**0.51])
    np.testing.assert_array_equal(scale_indices(near), [0, 0, 63, 10, 11])
