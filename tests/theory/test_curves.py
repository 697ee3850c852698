"""Rate-distortion curves of Gaussian sources against reference values, optimisers and theorems."""

import itertools
import re

import numpy as np
import pytest
import scipy.optimize

from diffc_jax.errors import UsageError
from diffc_jax.theory import allocation, gaussian
from diffc_jax.theory.curves import CURVES, Curve, check_spectrum, score_scaled
from tests.support.spectra import POWER_LAW

SMALL = np.array([5.0, 2.0, 1.0, 0.3, 0.05])


@pytest.mark.parametrize(
    ("name", "distortion"),
    [
        ("diffc_a", 43.101),
        ("diffc_a_star", 35.391),
        ("diffc_f", 28.157),
        ("diffc_f_star", 26.238),
        ("diffc_d", 43.101 / 2),
        ("rd", 17.695),
        ("rd_half", 35.391),
    ],
)
def test_reference_values_at_100_bits(name, distortion):
    point = CURVES[name].at_rate(POWER_LAW, 100.0)
    assert point.bits == pytest.approx(100.0, rel=1e-13)
    assert point.distortion == pytest.approx(distortion, abs=6e-4)


@pytest.mark.parametrize(("bits", "gain"), [(1, 1.1), (100, 1.8), (6000, 3.0)])
def test_flow_gains_over_ancestral_what_the_paper_says(bits, gain):
    ancestral, flow = (CURVES[name].at_rate(POWER_LAW, bits) for name in ("diffc_a", "diffc_f"))
    decibels = 10 * np.log10(ancestral.distortion / flow.distortion)
    assert decibels == pytest.approx(gain, abs=0.06)


@pytest.mark.parametrize("spectrum", [SMALL, POWER_LAW, np.geomspace(1e-9, 1e9, 768)])
@pytest.mark.parametrize("bits", [1e-3, 1.0, 1e3])
def test_order_of_the_curves(spectrum, bits):
    at = {name: curve.at_rate(spectrum, bits).distortion for name, curve in CURVES.items()}
    for chain in (
        ("rd", "diffc_d", "diffc_f", "diffc_a"),
        ("rd", "diffc_f_star", "diffc_f"),
        ("diffc_f_star", "diffc_a_star", "diffc_a"),
    ):
        for lower, upper in itertools.pairwise(chain):
            assert at[lower] <= at[upper] * (1 + 1e-12), (lower, upper)


@pytest.mark.parametrize("bits", [1e-3, 1.0, 100.0, 1e5])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_isotropic_curves_by_another_route(bits, scale):
    """Bisection on the linear noise, with the formulas of the paper as they stand there."""
    spectrum = scale * POWER_LAW

    def information(log_noise):
        return 0.5 * np.sum(np.log2((spectrum + np.exp(log_noise)) / np.exp(log_noise)))

    low, high = -400.0, 60.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if information(middle) > bits else (low, middle)
    noise = np.exp(low)
    expected = np.sum(2 * spectrum * noise / (spectrum + noise))
    # The naive logarithm above is what limits the agreement at low rate.
    assert CURVES["diffc_a"].at_rate(spectrum, bits).distortion == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("bits", [1e-3, 0.5, 20.0, 3000.0])
def test_water_filling_by_sorting(bits):
    """The k largest components are told something; log(level) is linear in the rate between breaks."""
    logs = np.log2(POWER_LAW)
    breaks = [0.5 * (logs[:k].sum() - k * logs[k]) for k in range(1, len(logs))] + [np.inf]
    active = 1 + np.searchsorted(breaks, bits)
    level = 2.0 ** ((logs[:active].sum() - 2 * bits) / active)
    expected = active * level + POWER_LAW[active:].sum()
    assert CURVES["rd"].at_rate(POWER_LAW, bits).distortion == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("bits", [1e-3, 3.0, 100.0, 5000.0])
def test_anisotropic_noise_reaches_half_the_distortion_of_any_code(bits):
    """DiffC-A* through its noise, R(D / 2) through reverse water-filling."""
    star, half = (CURVES[name].at_rate(POWER_LAW, bits) for name in ("diffc_a_star", "rd_half"))
    np.testing.assert_allclose(star.rates, half.rates, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(star.distortions, half.distortions, rtol=1e-9)


@pytest.mark.parametrize("bits", [0.3, 4.0, 15.0])
@pytest.mark.parametrize(
    ("name", "decode"),
    [
        ("diffc_a_star", gaussian.distortions_ancestral),
        ("diffc_f_star", gaussian.distortions_flow),
        ("rd", gaussian.distortions_mean),
    ],
)
def test_optimal_noise_by_a_generic_optimiser(name, decode, bits):
    """SLSQP over the noise of all components, started at isotropic noise, finds nothing better."""
    start = CURVES["diffc_d"].at_rate(SMALL, bits).parameter
    scale = decode(SMALL, np.exp(start)).sum()
    found = scipy.optimize.minimize(
        lambda log_noise: decode(SMALL, np.exp(log_noise)).sum() / scale,
        np.full(len(SMALL), start),
        method="SLSQP",
        bounds=[(start - 20.0, start + 20.0)] * len(SMALL),
        constraints={
            "type": "eq",
            "fun": lambda log_noise: gaussian.rates(SMALL, np.exp(log_noise)).sum() / bits - 1.0,
        },
        options={"ftol": 1e-13, "maxiter": 1000},
    )
    assert found.success, found.message
    optimum = CURVES[name].at_rate(SMALL, bits).distortion
    assert optimum == pytest.approx(found.fun * scale, rel=1e-6)
    assert optimum <= found.fun * scale * (1 + 1e-9)


def test_flow_with_isotropic_noise_is_near_its_optimum():
    """The paper's remark, as a number for this spectrum: 0.411 dB at the most."""
    losses = [
        10
        * np.log10(
            CURVES["diffc_f"].at_rate(POWER_LAW, bits).distortion
            / CURVES["diffc_f_star"].at_rate(POWER_LAW, bits).distortion
        )
        for bits in np.geomspace(1e-3, 1e5, 80)
    ]
    assert max(losses) == pytest.approx(0.411, abs=1e-3)


@pytest.mark.parametrize("slope", [1e-6, 0.1, 1e6])
def test_noise_of_the_realistic_optimum_satisfies_its_condition(slope):
    noise = allocation.realistic(SMALL, slope)
    rho = 1.0 / np.sqrt(1.0 + noise / SMALL)
    told = 1.0 / (1.0 + SMALL / noise)  # 1 - rho^2
    np.testing.assert_allclose(rho / told, slope * SMALL, rtol=1e-12)


def test_noise_of_the_realistic_optimum_is_isotropic_far_above_it():
    noise = allocation.realistic(SMALL, 1e9)
    np.testing.assert_allclose(noise, 1e-9, rtol=1e-7)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("bits", [0.01, 40.0, 2500.0])
def test_rate_distortion_and_parameter_find_the_same_point(name, bits):
    curve = CURVES[name]
    point = curve.at_rate(POWER_LAW, bits)
    again = curve.at_distortion(POWER_LAW, point.distortion)
    assert again.bits == pytest.approx(bits, rel=1e-9)
    same = curve.at_parameter(POWER_LAW, point.parameter)
    assert (same.bits, same.distortion) == (point.bits, point.distortion)


@pytest.mark.parametrize("name", CURVES)
def test_rates_are_met_over_the_whole_range(name):
    for spectrum in (np.ones(768), np.geomspace(1e-9, 1e9, 768), 1e9 * POWER_LAW):
        for bits in (1e-3, 1.0, 1e5):
            point = CURVES[name].at_rate(spectrum, bits)
            assert point.bits == pytest.approx(bits, rel=1e-10)
            assert np.all(point.distortions > 0)


@pytest.mark.parametrize("name", CURVES)
def test_zero_eigenvalues_change_nothing(name):
    with_zeros = check_spectrum(np.concatenate([POWER_LAW, np.zeros(10), [-1e-14]]))
    whole, part = (CURVES[name].at_rate(e, 100.0) for e in (with_zeros, POWER_LAW))
    assert whole.distortion == pytest.approx(part.distortion, rel=1e-13)
    assert not whole.rates[-11:].any()
    assert not whole.distortions[-11:].any()


def mixed(weight):
    """DiffC with weight times the flow's output plus 1 - weight times the posterior mean (1.7)."""

    def code(eigenvalues, gamma):
        noise = allocation.isotropic(eigenvalues, gamma)
        rates = gaussian.rates(eigenvalues, noise)
        return rates, gaussian.distortions_mix(eigenvalues, noise, weight)

    return Curve("gamma", code)


def test_families_between_realism_and_least_distortion():
    ends = [CURVES[name].at_rate(POWER_LAW, 50.0).distortion for name in ("diffc_f", "diffc_d")]
    for family, parameters in ((score_scaled, (1.0, 1.4, 2.0)), (mixed, (1.0, 0.4, 0.0))):
        values = [family(p).at_rate(POWER_LAW, 50.0).distortion for p in parameters]
        assert values[0] == pytest.approx(ends[0], rel=1e-12)
        assert values[2] == pytest.approx(ends[1], rel=1e-12)
        assert values[0] > values[1] > values[2]
        halfway = family(parameters[1]).at_distortion(POWER_LAW, values[1])
        assert halfway.bits == pytest.approx(50.0, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.at_rate(SMALL, 0.0), "bits: 0.0 is not a positive number"),
        (lambda c: c.at_rate(SMALL, np.inf), "bits: inf is not a positive number"),
        (lambda c: c.at_rate(SMALL, 1e6), "bits: out of the range of float64 for 5 components"),
        (
            lambda c: c.at_distortion(SMALL, 17.0),
            "distortion: 17.0 is not between 0 and the 16.7 that cost no bits",
        ),
        (
            lambda c: c.at_distortion(SMALL, -1.0),
            "distortion: -1.0 is not between 0 and the 16.7 that cost no bits",
        ),
    ],
)
def test_rates_and_distortions_that_cannot_be(call, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        call(CURVES["diffc_a"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((2, 2)), "eigenvalues: an array of shape (2, 2) is not a non-empty vector"),
        (np.ones(0), "eigenvalues: an array of shape (0,) is not a non-empty vector"),
        (np.array(1.0), "eigenvalues: an array of shape () is not a non-empty vector"),
        (np.array([1.0, np.nan, np.inf]), "eigenvalues: 2 of 3 are not finite"),
        (np.array([1j]), "eigenvalues: complex128 is not a type of real numbers"),
        (np.array(["1"]), "eigenvalues: <U1 is not a type of real numbers"),
        (
            np.array([1.0, -0.5]),
            "eigenvalues: must not be negative, nor all zero; they run from -0.5 to 1",
        ),
        (
            np.zeros(3),
            "eigenvalues: must not be negative, nor all zero; they run from 0 to 0",
        ),
    ],
)
def test_bad_spectra(values, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        check_spectrum(values)


@pytest.mark.parametrize("method", ["at_parameter", "at_rate", "at_distortion"])
def test_curves_refuse_what_is_no_spectrum_and_keep_the_order_of_components(method):
    with pytest.raises(UsageError, match=r"^eigenvalues: must not be negative"):
        getattr(CURVES["rd"], method)(np.array([1.0, -0.5]), 0.25)
    point = getattr(CURVES["rd"], method)(np.array([1.0, 4.0, -1e-12]), 0.25)
    assert point.rates[1] > point.rates[0] >= point.rates[2] == 0.0
    np.testing.assert_allclose(
        point.rates[::-1], getattr(CURVES["rd"], method)(np.array([0.0, 4.0, 1.0]), 0.25).rates
    )


@pytest.mark.parametrize(("name", "bits"), [("diffc_f", 1e-305), ("rd", 1e-305), ("rd", 1e-100)])
def test_rates_that_are_too_small_for_numbers(name, bits):
    with pytest.raises(UsageError, match=r"^bits: out of the range of float64 for 3 components$"):
        CURVES[name].at_rate(np.array([4.0, 2.0, 1.0]), bits)
    assert CURVES["diffc_f"].at_rate(np.array([4.0, 2.0, 1.0]), 1e-100).bits == pytest.approx(
        1e-100
    )


def test_spectra_may_be_unsorted_and_of_any_real_type():
    np.testing.assert_array_equal(check_spectrum(np.array([1, 3, 2])), [3.0, 2.0, 1.0])


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("name", CURVES)
def test_results_are_float64_whatever_the_type_of_the_spectrum(name, kind):
    spectrum = (np.arange(1.0, 769.0) ** -1.5).astype(kind)
    found, expected = (
        CURVES[name].at_rate(values, 100.0) for values in (spectrum, spectrum.astype(float))
    )
    assert (found.bits, found.distortion) == (expected.bits, expected.distortion)
    assert found.distortions.dtype == np.float64
