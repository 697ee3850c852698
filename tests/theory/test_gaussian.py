"""Formulas of one component against quadrature, limits and exact arithmetic."""

import fractions
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats

from diffc_jax.theory import gaussian as theory
from tests.support.spectra import POWER_LAW


def one(variance):
    return np.array([variance])


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
    halfway = 0.3 * quantile + 0.7 * mean
    ratio = np.exp(gamma)
    for found, integrand in (
        (theory.rates(one(variance), ratio), information / np.log(2)),
        (theory.distortions_mean(one(variance), ratio), (x - mean) ** 2),
        (theory.distortions_flow(one(variance), ratio), (x - quantile) ** 2),
        (theory.distortions_mix(one(variance), ratio, 0.3), (x - halfway) ** 2),
    ):
        assert found.sum() == pytest.approx(np.sum(weight * integrand), rel=1e-6)


@pytest.mark.parametrize("noise", [1e-9, 0.01, 1.0, 30.0, 1e9])
def test_distortions_are_the_formulas_of_the_paper(noise):
    """In the paper's letters: tot = (1 - s2) lambda + s2, in exact arithmetic except for a square root."""
    s2 = fractions.Fraction(noise) / (1 + fractions.Fraction(noise))
    ancestral = flow = bits = 0.0
    for value in map(fractions.Fraction, POWER_LAW[:40]):
        total = (1 - s2) * value + s2
        bits += 0.5 * math.log2(total) - 0.5 * math.log2(s2) if noise < 1 else 0.0
        ancestral += float(2 * value * s2 / total)
        squared = (1 - s2) * value / total
        # 1 - sqrt(q) = (1 - q) / (1 + sqrt(q)) does not cancel.
        flow += float(2 * value * (1 - squared)) / (1 + math.sqrt(squared))
    spectrum = POWER_LAW[:40]
    assert theory.distortions_ancestral(spectrum, noise).sum() == pytest.approx(
        ancestral, rel=1e-13
    )
    assert theory.distortions_flow(spectrum, noise).sum() == pytest.approx(flow, rel=1e-13)
    if noise < 1:
        assert theory.rates(spectrum, noise).sum() == pytest.approx(bits, rel=1e-13)


def test_gain_of_the_flow_goes_to_3_decibels():
    noise = np.exp(-25.0)
    ratio = theory.distortions_ancestral(POWER_LAW, noise).sum() / (
        theory.distortions_flow(POWER_LAW, noise).sum()
    )
    assert 10 * np.log10(ratio) == pytest.approx(10 * np.log10(2), abs=1e-6)


def test_distortion_keeps_its_digits_at_high_rate():
    # To first order in the noise, D_F = M n.
    noise = np.exp(-40.0)
    spectrum = np.array([1.0, 0.5, 2.0])
    assert theory.distortions_flow(spectrum, noise).sum() == pytest.approx(3 * noise, rel=1e-12)


def test_kappa_two_is_the_posterior_mean():
    for noise in (0.01, 1.0, 50.0):
        np.testing.assert_allclose(
            theory.distortions_flow(POWER_LAW, noise, kappa=2.0),
            theory.distortions_mean(POWER_LAW, noise),
            rtol=1e-11,
        )


@pytest.mark.parametrize("noise", [0.02, 1.0, 7.0])
def test_perception_is_the_distance_of_two_normal_distributions(noise):
    """Their standard deviations differ by it; the output's follows from the gain on x + sqrt(n) u."""
    deviation = np.sqrt(POWER_LAW)
    for kappa in (1.0, 1.3, 2.0):
        output = theory.flow_gain(POWER_LAW, noise, kappa) * np.sqrt(POWER_LAW + noise)
        np.testing.assert_allclose(
            theory.wasserstein_flow(POWER_LAW, noise, kappa), (deviation - output) ** 2, atol=1e-12
        )
    mean = theory.flow_gain(POWER_LAW, noise, 2.0) * np.sqrt(POWER_LAW + noise)
    mixed = 0.4 * deviation + 0.6 * mean
    np.testing.assert_allclose(
        theory.wasserstein_mix(POWER_LAW, noise, 0.4), (deviation - mixed) ** 2, atol=1e-12
    )


def test_mix_is_the_least_distortion_at_its_realism():
    """Freirich et al. 2021: D = D_D + (W - P)^2, W the distance of the posterior mean; kappa is above it."""
    noise = 0.8
    least = theory.distortions_mean(POWER_LAW, noise).sum()
    distance = math.sqrt(theory.wasserstein_flow(POWER_LAW, noise, 2.0).sum())
    for kappa in (1.0, 1.2, 1.5, 1.8, 2.0):
        allowed = math.sqrt(theory.wasserstein_flow(POWER_LAW, noise, kappa).sum())
        bound = least + (distance - allowed) ** 2
        assert theory.distortions_flow(POWER_LAW, noise, kappa).sum() >= bound * (1 - 1e-12)
        mix = 1.0 - allowed / distance
        assert theory.distortions_mix(POWER_LAW, noise, mix).sum() == pytest.approx(
            bound, rel=1e-12
        )


@pytest.mark.parametrize("noise", [0.3, np.inf])
@pytest.mark.parametrize(
    "function",
    [
        theory.rates,
        theory.distortions_ancestral,
        theory.distortions_flow,
        lambda e, n: theory.distortions_flow(e, n, 1.7),
        lambda e, n: theory.distortions_mix(e, n, 0.5),
        lambda e, n: theory.wasserstein_flow(e, n, 1.5),
    ],
)
def test_components_without_variance_cost_and_lose_nothing(function, noise):
    values = function(np.array([1.0, 0.0]), noise)
    assert values[1] == 0.0
    assert values[0] == function(one(1.0), noise)[0]


def test_a_component_without_variance_has_none_in_the_output():
    """Though its gain is infinite where kappa is below 1."""
    found = theory.wasserstein_flow(np.array([1.0, 0.0]), 0.3, 0.5)
    assert found[1] == 0.0
    assert found[0] == theory.wasserstein_flow(one(1.0), 0.3, 0.5)[0] > 0


def test_components_of_which_nothing_is_told():
    for function, expected in (
        (theory.rates, 0.0),
        (theory.distortions_mean, 2.0),
        (theory.distortions_ancestral, 4.0),
        (theory.distortions_flow, 4.0),
    ):
        assert function(one(2.0), np.inf)[0] == expected


def test_chain_rate_decreases_to_the_information():
    """From far noise (where the prior costs nothing) down to gamma = -2, on finer and finer grids."""
    limit = theory.rates(POWER_LAW, np.exp(-2.0)).sum()
    excess = [
        theory.chain_rate(POWER_LAW, np.linspace(25.0, -2.0, steps + 1))[-1] - limit
        for steps in (100, 1000, 10_000)
    ]
    assert excess[0] > excess[1] > excess[2] > 0
    # First order: ten times the steps, a tenth of the excess.
    assert excess[1] / excess[2] == pytest.approx(10, rel=0.05)
