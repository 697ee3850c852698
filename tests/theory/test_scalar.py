"""DiffC on scalar sources against closed forms, brute-force double integrals, identities, asymptotics."""

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

from diffc_jax.errors import UsageError
from diffc_jax.theory import gaussian
from diffc_jax.theory.mixture import GaussianMixture
from diffc_jax.theory.scalar import analyse
from diffc_jax.theory.scalar_sources import Laplace, Uniform
from tests.support.fisher_information import fisher_information

MIXTURE = GaussianMixture((0.5, 0.5), (-1.0, 1.0), (0.1, 0.3))
SKEWED = GaussianMixture((0.2, 0.7, 0.1), (1.5, -0.5, 0.2), (0.05, 0.4, 1.0))
SOURCES = {
    "mixture": MIXTURE,
    "skewed": SKEWED,
    "laplace": Laplace(0.7),
    "uniform": Uniform(1.5),
}
every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
kinked = pytest.mark.parametrize("source", [Laplace(0.7), Uniform(1.5)], ids=["laplace", "uniform"])


def two_points(width):
    return GaussianMixture((0.5, 0.5), (1.0, -1.0), (width, width))


def at_noise(source, noise):
    """The point at y = x + noise u."""
    return analyse(source, noise**2 / (1.0 + noise**2))


def panels(edges, count=60):
    """Gauss-Legendre nodes and weights on each interval between edges."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    half = np.diff(edges)[:, None] / 2.0
    return (np.add(edges[:-1], half[:, 0])[:, None] + half * nodes).ravel(), (
        half * weights
    ).ravel()


@pytest.mark.parametrize(
    ("sigma2", "ratio"), [(0.5, 0.623), (0.1, 0.587), (0.01, 0.539), (1e-3, 0.506), (1e-5, 0.500)]
)
def test_reference_ratios_of_the_mixture(sigma2, ratio):
    assert analyse(MIXTURE, sigma2).ratio == pytest.approx(ratio, abs=5e-4)


def test_reference_point_of_the_mixture():
    point = analyse(MIXTURE, 0.01)
    assert point.bits == pytest.approx(2.0754, abs=5e-5)
    assert point.d_a == pytest.approx(0.0141087, abs=5e-8)
    assert point.d_f == pytest.approx(0.00760899, abs=5e-9)


def test_the_type_of_the_variance_is_no_matter():
    assert analyse(MIXTURE, np.float32(0.1)) == analyse(MIXTURE, float(np.float32(0.1)))


@pytest.mark.parametrize("sigma2", [1e-10, 1e-5, 0.3, 0.9, 1.0 - 1e-4])
def test_one_component_is_the_gaussian_closed_form(sigma2):
    variance, noise = np.array([0.64]), sigma2 / (1.0 - sigma2)
    point = analyse(GaussianMixture((1.0,), (0.3,), (0.8,)), sigma2)
    rate = gaussian.rates(variance, noise).item()
    expected = {
        "bits": rate,
        "gaussian_bits": rate,
        "gaussian_upper_bound": rate,
        "d_a": gaussian.distortions_ancestral(variance, noise).item(),
        "gaussian_d_a": gaussian.distortions_ancestral(variance, noise).item(),
        "d_f": gaussian.distortions_flow(variance, noise).item(),
        "d_d": gaussian.distortions_mean(variance, noise).item(),
    }
    for name, value in expected.items():
        assert getattr(point, name) == pytest.approx(value, rel=1e-10), name
    assert point.kl_bits == pytest.approx(0.0, abs=1e-20)


def test_identical_components_are_one():
    twice = GaussianMixture((0.25, 0.75), (0.3, 0.3), (0.8, 0.8))
    once = GaussianMixture((1.0,), (0.3,), (0.8,))
    found, expected = (dataclasses.astuple(analyse(source, 0.2)) for source in (twice, once))
    assert found == pytest.approx(expected, rel=1e-12, abs=1e-20)


def brute_force(source, noise):
    """Rate, D_D and D_F as sums over a grid of (x, y), with the quantiles of scipy.stats."""
    if isinstance(source, Laplace):
        prior = scipy.stats.laplace(scale=source.scale)
        edges = source.scale * np.array([-40, -12, -6, -3, -1, 0, 1, 3, 6, 12, 40.0])
    else:
        prior = scipy.stats.uniform(-source.half_width, 2 * source.half_width)
        edges = np.linspace(-source.half_width, source.half_width, 9)
    x, x_weights = panels(edges)
    y, y_weights = panels(np.linspace(edges[0] - 10 * noise, edges[-1] + 10 * noise, 41))
    joint = (
        scipy.stats.norm.pdf(y[:, None], x, noise) * prior.pdf(x) * x_weights * y_weights[:, None]
    )
    density = joint.sum(1) / y_weights
    information = scipy.stats.norm.logpdf(y[:, None], x, noise) - np.log(density)[:, None]
    mean = (joint @ x) / joint.sum(1)
    above = scipy.stats.norm.sf(np.abs(y)[:, None], x, noise) @ (prior.pdf(x) * x_weights)
    flow = np.sign(y) * prior.isf(above)
    return {
        "bits": np.sum(joint * information) / np.log(2),
        "d_d": np.sum(joint * (x - mean[:, None]) ** 2),
        "d_f": np.sum(joint * (x - flow[:, None]) ** 2),
    }


@kinked
@pytest.mark.parametrize("noise", [0.3, 1.0, 4.0])
def test_rate_and_distortions_by_brute_force(source, noise):
    point = at_noise(source, noise)
    for name, value in brute_force(source, noise).items():
        assert getattr(point, name) == pytest.approx(value, rel=1e-9), name
    assert point.d_a == 2.0 * point.d_d
    assert point.ratio == point.d_f / point.d_a


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_rate_of_mixtures_by_adaptive_quadrature(noise):
    weights, means = np.array(SKEWED.weights), np.array(SKEWED.means)
    total = np.hypot(SKEWED.stds, noise)

    def density(y, stds):
        return np.sum(weights * scipy.stats.norm.pdf(y, means, stds))

    def entropy(stds):
        ends = np.linspace(-12 * total.max(), 12 * total.max(), 60)
        return sum(
            scipy.integrate.quad(
                lambda y: scipy.special.entr(density(y, stds)), a, b, epsabs=1e-13
            )[0]
            for a, b in itertools.pairwise(ends)
        )

    bits = (entropy(total) - 0.5 * np.log(2 * np.pi * np.e * noise**2)) / np.log(2)
    assert at_noise(SKEWED, noise).bits == pytest.approx(bits, rel=1e-9)
    assert SKEWED.entropy == pytest.approx(entropy(np.array(SKEWED.stds)) / np.log(2), rel=1e-9)


@every_source
@pytest.mark.parametrize(("low", "high"), [(1e-9, 1e-7), (0.01, 0.1), (0.5, 0.9), (0.999, 0.9999)])
def test_derivative_of_information_is_half_the_mean_squared_error(source, low, high):
    """I-MMSE (Guo, Shamai, Verdu 2005): dI / dsnr = mmse / 2 nats, integrated over log snr."""
    log_odds, weights = panels(scipy.special.logit(np.array([low, high])), 30)
    mse = np.array([analyse(source, s2).d_d for s2 in scipy.special.expit(log_odds)])
    integral = weights @ (0.5 * mse * np.exp(-log_odds)) / np.log(2.0)
    difference = analyse(source, low).bits - analyse(source, high).bits
    assert difference == pytest.approx(integral, rel=1e-9)


@every_source
@pytest.mark.parametrize("sigma2", [1e-10, 1e-4, 0.1, 0.7])
def test_rate_is_entropy_of_y_less_that_of_the_noise(source, sigma2):
    """While `analyse` takes gaussian_bits - kl_bits."""
    noise = np.sqrt(sigma2 / (1.0 - sigma2))
    y, weights = source.nodes(noise)
    log_density = source.log_density(y, noise)
    assert weights @ np.exp(log_density) == pytest.approx(1.0, rel=1e-12)
    entropy = -weights @ (np.exp(log_density) * log_density)
    bits = (entropy - 0.5 * np.log(2 * np.pi * np.e * noise**2)) / np.log(2)
    point = analyse(source, sigma2)
    assert point.bits == pytest.approx(bits, rel=1e-10)
    assert point.bits == pytest.approx(point.gaussian_bits - point.kl_bits, rel=1e-12)


@kinked
def test_divergence_keeps_its_digits_when_it_is_tiny(source):
    """KL = k^2 / 48 (variance / total)^4 nats to leading order, k the excess kurtosis."""
    kurtosis = 3.0 if isinstance(source, Laplace) else -1.2
    sigma2 = 1.0 - 1e-4
    snr = source.variance / (source.variance + sigma2 / (1.0 - sigma2))
    expected = kurtosis**2 / 48 * snr**4 / np.log(2)
    assert expected < 1e-16
    assert analyse(source, sigma2).kl_bits == pytest.approx(expected, rel=1e-6)


@kinked
def test_density_far_below_the_noise_is_gaussian(source):
    noise = 1e5
    y = np.linspace(-5 * noise, 5 * noise, 101)
    expected = scipy.stats.norm.logpdf(y, 0.0, np.hypot(noise, np.sqrt(source.variance)))
    np.testing.assert_allclose(source.log_density(y, noise), expected, rtol=1e-14)


@kinked
def test_gaussian_bounds_are_tight_at_little_signal(source):
    """Where the rate is far below a bit, only its relative digits mean something."""
    point = at_noise(source, 1e4 * np.sqrt(source.variance))
    assert point.gaussian_bits == pytest.approx(0.5e-8 / np.log(2.0), rel=1e-7)
    assert point.bits == pytest.approx(point.gaussian_bits, rel=1e-12)
    assert point.gaussian_upper_bound == pytest.approx(point.gaussian_bits, rel=1e-10)


@every_source
def test_order_of_the_bounds(source):
    for sigma2 in (1e-8, 1e-3, 0.1, 0.5, 0.9, 0.9999):
        point = analyse(source, sigma2)
        assert 0.0 < point.bits < point.gaussian_bits
        assert point.d_d < point.d_f < point.d_a < point.gaussian_d_a
        assert 0.0 <= point.shannon_lower_bound < point.bits < point.gaussian_upper_bound
        assert point.gaussian_upper_bound == pytest.approx(
            0.5 * np.log2(2.0 * source.variance / point.d_a), rel=1e-8
        )


@pytest.mark.parametrize("source", [MIXTURE, SKEWED, Laplace(0.7)])
def test_shannon_lower_bound_is_met_at_high_rate(source):
    """Ours: the gap of the flow decoder is s^2 J / (8 ln 2) bits."""
    noise = 1e-3
    point = at_noise(source, noise)
    expected = noise**2 * fisher_information(source) / (8.0 * np.log(2.0))
    assert point.bits - point.shannon_lower_bound == pytest.approx(expected, rel=1e-2)


def test_shannon_lower_bound_of_large_distortions_is_zero():
    assert analyse(MIXTURE, 0.999).shannon_lower_bound == 0.0


@pytest.mark.parametrize("source", [MIXTURE, SKEWED, Laplace(0.7)])
def test_small_noise_loses_no_digits(source):
    """d_d = s^2 - s^4 J and d_f = d_d + s^4 J / 4 up to s^5; at s = 1e-4 the second terms are 1e-8."""
    noise = 1e-4
    point = at_noise(source, noise)
    curvature = fisher_information(source) * noise**2
    assert point.d_d / noise**2 == pytest.approx(1.0 - curvature, abs=2e-3 * curvature)
    assert point.d_f / point.d_d - 1.0 == pytest.approx(curvature / 4, rel=2e-3)


@pytest.mark.parametrize(
    ("source", "order"), [(MIXTURE, 2.0), (Laplace(1.0), 1.0)], ids=["mixture", "laplace"]
)
def test_next_term_of_the_three_decibels(source, order):
    """Ours: d_f / d_a = 1/2 (1 + s^2 J / 4); what is missing falls like s^2, or like s at a kink."""
    noises = np.array([1e-3, 3e-3])
    excess = np.array([2.0 * at_noise(source, noise).ratio - 1.0 for noise in noises])
    missing = np.abs(excess / (noises**2 * fisher_information(source) / 4.0) - 1.0)
    assert missing[0] < 2e-3
    assert np.log(missing[1] / missing[0]) / np.log(3.0) == pytest.approx(order, abs=0.05)


def test_jumps_slow_the_three_decibels_down():
    noises = np.array([1e-5, 1e-4, 1e-3])
    for source, order in ((Uniform(1.0), 1.0), (Laplace(1.0), 2.0)):
        excess = [2.0 * at_noise(source, noise).ratio - 1.0 for noise in noises]
        orders = np.diff(np.log(excess)) / np.log(10.0)
        np.testing.assert_allclose(orders, order, atol=0.01)


def exact_two_points(noise):
    """d_f / d_a of X = +-1, whose flow is the sign of y and whose posterior mean is tanh(y / s^2)."""
    y, weights = panels(np.linspace(-1 - 10 * noise, 1 + 10 * noise, 101))
    density = scipy.stats.norm.pdf(y, 1.0, noise)
    mse = weights @ (density * (1.0 - np.tanh(y / noise**2)))
    return 4.0 * scipy.stats.norm.sf(1.0 / noise) / (2.0 * mse)


def test_three_decibels_fail_for_two_points():
    for noise in (0.4, 0.3, 0.2, 0.1, 0.05, 0.03):
        exact = exact_two_points(noise)
        series = 2.0 / np.pi * (1.0 + (np.pi**2 / 8.0 - 1.0) * noise**2)
        assert exact == pytest.approx(series, abs=noise**4)
        if noise >= 0.2:  # where w^2 << s phi(1 / s)
            assert at_noise(two_points(1e-7), noise).ratio == pytest.approx(exact, rel=1e-6)
    # With less noise the width w of each Gaussian is all there is to lose: 1 / (1 + rho), down to 1/2.
    for relative in (1e-3, 0.1, 1.0, 100.0):  # w / s
        rho = relative / np.hypot(relative, 1.0)
        point = at_noise(two_points(1e-6), 1e-6 / relative)
        assert point.ratio == pytest.approx(1.0 / (1.0 + rho), rel=1e-8)


@pytest.mark.parametrize("weight", [0.5, 0.3])
def test_flow_across_an_empty_gap_keeps_its_digits(weight):
    """d_f of two narrow components: 4 P(sign changes); its step is where P(Y < y) = weight."""
    noise, width = 0.25, 1e-7
    source = GaussianMixture((1.0 - weight, weight), (1.0, -1.0), (width, width))
    lower, upper = (scipy.stats.norm(mean, noise) for mean in (-1.0, 1.0))
    step = scipy.optimize.brentq(
        lambda y: weight * lower.sf(y) - (1 - weight) * upper.cdf(y), -1, 1, xtol=1e-15
    )
    expected = 4.0 * (weight * lower.sf(step) + (1.0 - weight) * upper.cdf(step))
    # Within a component, x and T(y) are nearly independent: 2 width^2.
    assert at_noise(source, noise).d_f == pytest.approx(expected + 2 * width**2, rel=1e-6)


def test_point_does_not_depend_on_units_or_origin():
    moved = GaussianMixture((0.2, 0.7, 0.1), (11.5, 9.5, 10.2), (0.05, 0.4, 1.0))
    for sigma2 in (1e-6, 0.2, 0.99):
        found, expected = (dataclasses.astuple(analyse(s, sigma2)) for s in (moved, SKEWED))
        assert found == pytest.approx(expected, rel=1e-9)
    for source in (Laplace, Uniform):
        small, large = at_noise(source(0.001), 0.0003), at_noise(source(1000.0), 300.0)
        assert small.bits == pytest.approx(large.bits, rel=1e-10)
        assert small.ratio == pytest.approx(large.ratio, rel=1e-10)
        assert small.d_f * 1e12 == pytest.approx(large.d_f, rel=1e-10)


def test_results_are_plain_numbers():
    for field, value in dataclasses.asdict(analyse(Laplace(1), 0.5)).items():
        assert type(value) is float, field


@pytest.mark.parametrize("sigma2", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_noise_outside_the_unit_interval(sigma2):
    with pytest.raises(UsageError) as error:
        analyse(MIXTURE, sigma2)
    assert str(error.value) == (
        f"sigma2: {sigma2} is not between 0 and 1; give a variance inside (0, 1)"
    )
