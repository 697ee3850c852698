import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

from diffc_jax.theory import gaussian as theory

POWER_LAW = np.arange(1, 769) ** -1.5
POWER_LAW *= 192 / POWER_LAW.sum()


def gamma_at(bits):
    return scipy.optimize.brentq(lambda g: theory.rate(POWER_LAW, g) - bits, -30, 30, xtol=1e-13)


def test_reference_values_at_100_bits():
    gamma = gamma_at(100.0)
    assert theory.distortion_ancestral(POWER_LAW, gamma) == pytest.approx(43.101, abs=5e-4)
    assert theory.distortion_flow(POWER_LAW, gamma) == pytest.approx(28.157, abs=5e-4)
    assert theory.distortion_mean(POWER_LAW, gamma) == pytest.approx(43.101 / 2, abs=5e-4)


@pytest.mark.parametrize(("bits", "gain"), [(1, 1.1), (100, 1.8), (6000, 3.0)])
def test_flow_gains_over_ancestral_what_the_paper_says(bits, gain):
    gamma = gamma_at(bits)
    ratio = theory.distortion_ancestral(POWER_LAW, gamma) / theory.distortion_flow(POWER_LAW, gamma)
    assert 10 * np.log10(ratio) == pytest.approx(gain, abs=0.06)


def test_gain_of_the_flow_goes_to_3_decibels():
    ratio = theory.distortion_ancestral(POWER_LAW, -25.0) / theory.distortion_flow(POWER_LAW, -25.0)
    assert 10 * np.log10(ratio) == pytest.approx(10 * np.log10(2), abs=1e-6)


@pytest.mark.parametrize("gamma", [-2.0, 0.0, 1.5])
def test_one_component_by_quadrature(gamma):
    """Mutual information and mean errors as integrals over the joint density of (x, z)."""
    variance = 0.6
    signal, noise = scipy.special.expit(-gamma), scipy.special.expit(gamma)
    total = signal * variance + noise
    grid = np.linspace(-9, 9, 1201)
    x, z = np.meshgrid(grid * np.sqrt(variance), grid * np.sqrt(total), indexing="ij")
    joint = scipy.stats.norm.pdf(x, 0, np.sqrt(variance)) * scipy.stats.norm.pdf(
        z, np.sqrt(signal) * x, np.sqrt(noise)
    )
    weight = joint / joint.sum()
    conditional = scipy.stats.norm.logpdf(z, np.sqrt(signal) * x, np.sqrt(noise))
    information = conditional - scipy.stats.norm.logpdf(z, 0, np.sqrt(total))
    mean = np.sqrt(signal) * variance / total * z
    quantile = np.sqrt(variance / total) * z
    eigenvalues = np.array([variance])
    expected = {
        theory.rate(eigenvalues, gamma): np.sum(weight * information) / np.log(2),
        theory.distortion_mean(eigenvalues, gamma): np.sum(weight * (x - mean) ** 2),
        theory.distortion_flow(eigenvalues, gamma): np.sum(weight * (x - quantile) ** 2),
    }
    for found, integral in expected.items():
        assert found == pytest.approx(integral, rel=1e-6)


def test_flow_distortion_is_the_formula_of_the_paper():
    gamma = 0.7
    s2 = scipy.special.expit(gamma)
    total = (1 - s2) * POWER_LAW + s2
    expected = np.sum(2 * POWER_LAW * (1 - np.sqrt((1 - s2) * POWER_LAW / total)))
    assert theory.distortion_flow(POWER_LAW, gamma) == pytest.approx(expected, rel=1e-12)


def test_flow_distortion_keeps_its_digits_at_high_rate():
    # To first order in the noise, D_F = M s^2.
    gamma = -40.0
    expected = 3 * np.exp(gamma)
    assert theory.distortion_flow(np.array([1.0, 0.5, 2.0]), gamma) == pytest.approx(
        expected, rel=1e-9
    )


def test_kappa_two_is_the_posterior_mean():
    for gamma in (-5.0, 0.0, 4.0):
        assert theory.distortion_flow(POWER_LAW, gamma, kappa=2.0) == pytest.approx(
            theory.distortion_mean(POWER_LAW, gamma), rel=1e-9
        )


def test_components_without_variance_cost_and_lose_nothing():
    with_zero = np.array([1.0, 0.0])
    for function in (theory.rate, theory.distortion_ancestral, theory.distortion_flow):
        assert function(with_zero, 0.3) == pytest.approx(function(np.array([1.0]), 0.3), rel=1e-12)


def test_chain_rate_decreases_to_the_information():
    """From far noise (where the prior costs nothing) down to gamma = -2, on finer and finer grids."""
    limit = theory.rate(POWER_LAW, -2.0)
    excess = [
        theory.chain_rate(POWER_LAW, np.linspace(25.0, -2.0, steps + 1))[-1] - limit
        for steps in (100, 1000, 10_000)
    ]
    assert excess[0] > excess[1] > excess[2] > 0
    # First order: ten times the steps, a tenth of the excess.
    assert excess[1] / excess[2] == pytest.approx(10, rel=0.05)
