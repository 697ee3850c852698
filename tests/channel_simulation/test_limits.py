"""Limits of codes for Gaussian samples, against other integrals and the published order of bounds."""

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from diffc_jax.channel_simulation.limits import best_projection, channel_simulation_divergence


@pytest.mark.parametrize("ideal_rate", [0.5, 8.0, 40.0])
def test_divergence_is_its_integral_over_ratios(ideal_rate):
    """By the logarithm of h, with W from the distribution of the ratio: another variable, another rule."""
    length = np.sqrt(2 * np.log(2) * ideal_rate)

    def integrand(log_h):
        w = stats.norm.sf(log_h / length + length / 2)
        return -w * np.log2(w) * np.exp(log_h) if w > 0 else 0.0

    middle = length**2 / 2
    expected, _ = integrate.quad(
        integrand, middle - 40 * length, middle + 12 * length, points=[middle], limit=400
    )
    assert channel_simulation_divergence(ideal_rate) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ideal_rate", [0.01, 1.0, 30.0, 1000.0, 65536.0])
def test_divergence_is_between_the_bounds_that_are_known(ideal_rate):
    """KL <= D <= KL + log2(KL + 1) + 1 (Goc & Flamich 2024)."""
    divergence = channel_simulation_divergence(ideal_rate)
    assert ideal_rate < divergence < ideal_rate + np.log2(ideal_rate + 1) + 1


@pytest.mark.parametrize(
    ("bits", "ratio"), [(32, 1.114), (64, 1.063), (128, 1.035), (256, 1.019), (1024, 1.0057)]
)
def test_divergence_of_so_many_bits_over_their_ideal_rate(bits, ratio):
    """Values of an earlier, independent computation, to the digits that it gave."""
    low, high = bits / 2, float(bits)
    while high - low > 1e-6 * bits:
        middle = (low + high) / 2
        low, high = (
            (low, middle) if channel_simulation_divergence(middle) > bits else (middle, high)
        )
    assert bits / low == pytest.approx(ratio, abs=6e-4)


def test_a_rate_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"^ideal_rate is 0, not positive$"):
        channel_simulation_divergence(0)


@pytest.mark.parametrize(("bits", "expected"), [(0, 0.0), (1, np.pi**-0.5)])
def test_best_of_one_and_two_samples(bits, expected):
    assert best_projection(bits) == pytest.approx(expected, abs=1e-9)


def test_best_of_a_thousand_samples():
    drawn = np.random.default_rng(0).standard_normal((4000, 1024)).max(axis=1)
    error = drawn.std() / np.sqrt(len(drawn))
    assert abs(best_projection(10) - drawn.mean()) < 4 * error
    assert error < 0.01


def test_best_of_many_samples_goes_as_far_as_extreme_values_say():
    """ln ln N corrections of the Gumbel limit (David and Nagaraja 2003)."""
    for bits in (32, 128, 1024, 4096):
        far = optimize.brentq(
            lambda x, bits=bits: stats.norm.logsf(x) + bits * np.log(2), 0.0, 100.0
        )
        expected = far + np.euler_gamma / far
        assert best_projection(bits) == pytest.approx(expected, rel=2e-3)
