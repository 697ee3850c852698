"""Scalar sources: statistics, posterior and flow against the density, and mistakes."""

import numpy as np
import pytest

from diffc_jax.errors import UsageError
from diffc_jax.theory.mixture import GaussianMixture
from diffc_jax.theory.scalar_sources import Laplace, Uniform
from tests.support.fisher_information import fisher_information

SOURCES = {
    "mixture": GaussianMixture((0.5, 0.5), (-1.0, 1.0), (0.1, 0.3)),
    "skewed": GaussianMixture((0.2, 0.7, 0.1), (1.5, -0.5, 0.2), (0.05, 0.4, 1.0)),
    "laplace": Laplace(0.7),
    "uniform": Uniform(1.5),
}
every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


@every_source
def test_statistics_of_the_source(source):
    """Mean, variance and entropy as sums over the density almost without noise."""
    noise = 1e-6
    x, weights = source.nodes(noise)
    log_density = source.log_density(x, noise)
    probabilities = weights * np.exp(log_density)
    assert probabilities @ x == pytest.approx(source.mean, abs=1e-9)
    assert probabilities @ (x - source.mean) ** 2 == pytest.approx(source.variance, rel=1e-9)
    assert probabilities @ log_density / -np.log(2) == pytest.approx(source.entropy, abs=1e-5)


@pytest.mark.parametrize(
    ("source", "expected"), [(Laplace(0.5), 4.0), (GaussianMixture((1.0,), (0.3,), (0.2,)), 25.0)]
)
def test_fisher_information(source, expected):
    """Through the posterior; it is 1 / scale^2 and 1 / std^2."""
    assert fisher_information(source) == pytest.approx(expected, rel=1e-4)


@every_source
@pytest.mark.parametrize("noise", [1e-3, 0.3, 20.0])
def test_posterior_moments_are_derivatives_of_the_density(source, noise):
    """Tweedie: E[X|y] = y + s^2 (log p)'(y), Var[X|y] = s^2 dE[X|y]/dy, by central differences."""
    y = np.linspace(-2.5, 2.5, 41) * max(1.0, 2.0 * noise)
    step = 1e-3 * noise
    density = [source.log_density(y + sign * step, noise) for sign in (-1, 1)]
    means = [source.posterior(y + sign * step, noise)[0] for sign in (-1, 1)]
    mean, variance = source.posterior(y, noise)
    score = (density[1] - density[0]) / (2 * step)
    np.testing.assert_allclose(mean, y + noise**2 * score, rtol=1e-5, atol=1e-7 * noise**2 + 1e-5)
    slope = noise**2 * (means[1] - means[0]) / (2 * step)
    np.testing.assert_allclose(variance, slope, rtol=1e-4, atol=1e-15)


@every_source
@pytest.mark.parametrize("noise", [0.01, 0.5, 30.0])
def test_flow_has_the_distribution_of_the_source(source, noise):
    """Mean and variance of T(Y) under the coupling, and T against the pairs of the coupling."""
    y, x, probabilities = source.coupling(noise)
    assert probabilities.sum() == pytest.approx(1.0, rel=1e-12)
    assert probabilities @ x == pytest.approx(source.mean, abs=1e-12)
    assert probabilities @ (x - source.mean) ** 2 == pytest.approx(source.variance, rel=1e-11)
    assert probabilities @ y == pytest.approx(source.mean, abs=1e-11 * max(1.0, noise))
    assert probabilities @ (y - source.mean) ** 2 == pytest.approx(
        source.variance + noise**2, rel=1e-11
    )
    frequent = probabilities > 1e-9
    np.testing.assert_allclose(source.flow(y[frequent], noise), x[frequent], rtol=1e-6, atol=1e-9)


def test_flow_in_the_tails():
    y = np.array([-40.0, -25.0, 25.0, 40.0])
    # P(Y > y) -> P(X > y) exp(s^2 / (2 scale^2)), which moves the quantiles by s^2 / (2 scale).
    np.testing.assert_allclose(Laplace(1.0).flow(y, 1.5), y - np.sign(y) * 1.125, rtol=1e-13)
    # The widest component has the tails to itself.
    wide = GaussianMixture((0.5, 0.5), (0.0, 0.0), (0.1, 1.0))
    np.testing.assert_allclose(wide.flow(y / 2, 0.75), y / 2 / 1.25, rtol=1e-3)
    np.testing.assert_allclose(Uniform(1.0).flow(y, 1.5), np.sign(y), rtol=1e-15)


@pytest.mark.parametrize(
    ("weights", "means", "stds", "message"),
    [
        (
            *((0.5, 0.6), (-1, 1), (1, 1)),
            "weights: (0.5, 0.6) sum to 1.1, not to 1; divide them by their sum",
        ),
        (
            *((0.5, 0.5), (-1, 1, 2), (1, 1)),
            "means: 3 values for 2 weights; give one for each component",
        ),
        (
            *((0.5, 0.5), (-1, 1), (1,)),
            "stds: 1 values for 2 weights; give one for each component",
        ),
        (
            *((1.5, -0.5), (-1, 1), (1, 1)),
            "weights: (1.5, -0.5) are not all positive; leave out components without weight or width",
        ),
        (
            *((0.5, 0.5), (-1, 1), (1, 0)),
            "stds: (1.0, 0.0) are not all positive; leave out components without weight or width",
        ),
        (
            *((0.5, 0.5), (-1, float("inf")), (1, 1)),
            "means: (-1, inf) is not a sequence of finite numbers; give one for each component",
        ),
        (
            *((), (), ()),
            "weights: () is not a sequence of finite numbers; give one for each component",
        ),
        (
            *(("a",), (0,), (1,)),
            "weights: ('a',) is not a sequence of finite numbers; give one for each component",
        ),
    ],
)
def test_bad_mixtures(weights, means, stds, message):
    with pytest.raises(UsageError) as error:
        GaussianMixture(weights, means, stds)
    assert str(error.value) == message


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(("source", "field"), [(Laplace, "scale"), (Uniform, "half_width")])
def test_bad_scales(source, field, value):
    with pytest.raises(UsageError) as error:
        source(value)
    assert str(error.value) == f"{field}: {value!r} is not a positive, finite number; give one"


def test_weights_may_miss_one_by_rounding():
    third = GaussianMixture((0.3333333333, 0.3333333333, 0.3333333333), (0, 0, 0), (1, 1, 1))
    assert third.variance == pytest.approx(1.0, rel=1e-15)
