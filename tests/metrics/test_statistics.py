"""Running means and covariances: parts agree with the whole, and standard errors."""

import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.metrics.statistics import RunningCovariance, RunningMean, standard_error

VECTORS = 100.0 + np.random.default_rng(0).normal(size=(50, 4)) @ np.diag([1.0, 2.0, 0.1, 5.0])


def test_parts_agree_with_the_whole():
    parts = [RunningCovariance.of(VECTORS[a:b]) for a, b in ((0, 1), (1, 20), (20, 50))]
    for order in ((0, 1, 2), (2, 0, 1)):
        total = sum((parts[i] for i in order[1:]), start=parts[order[0]])
        assert total.count == 50
        np.testing.assert_allclose(total.mean, VECTORS.mean(0), rtol=1e-14)
        np.testing.assert_allclose(total.covariance(), np.cov(VECTORS.T), rtol=1e-11, atol=1e-11)


def test_vectors_of_another_type_are_summed_in_float64():
    moments = RunningCovariance.of(VECTORS.astype(np.float32))
    np.testing.assert_allclose(moments.covariance(), np.cov(VECTORS.T), rtol=1e-5, atol=1e-5)
    assert moments.scatter.dtype == np.float64


def test_one_vector_has_no_covariance():
    with pytest.raises(
        InputError, match=r"^a covariance needs at least 2 vectors, and there are 1$"
    ):
        RunningCovariance.of(VECTORS[:1]).covariance()


def test_averages_of_parts_agree_with_the_whole():
    parts = [RunningMean.of(VECTORS[a:b]) for a, b in ((0, 1), (1, 20), (20, 50))]
    total = parts[2] + parts[0] + parts[1]
    assert total.count == 50
    np.testing.assert_allclose(total.mean, VECTORS.mean(0), rtol=1e-14)
    expected = VECTORS.std(0, ddof=1) / np.sqrt(50)
    np.testing.assert_allclose(total.stderr, expected, rtol=1e-10)


def test_infinite_samples_have_an_infinite_mean_and_no_error():
    values = np.array([[1.0, 2.0], [np.inf, 3.0]])
    total = RunningMean.of(values) + RunningMean.of(values)
    assert total.mean.tolist() == [np.inf, 2.5]
    assert np.isnan(total.stderr[0])
    assert total.stderr[1] == pytest.approx(np.std([2, 3, 2, 3], ddof=1) / 2)


def test_one_sample_has_no_error():
    assert np.isnan(RunningMean.of(np.ones((1, 2))).stderr).all()


def test_standard_error_of_values_at_hand():
    assert standard_error(np.asarray([1.0, 3.0])) == pytest.approx(1.0)
    assert standard_error(VECTORS[:, 1]) == pytest.approx(RunningMean.of(VECTORS).stderr[1])
    for values in ([1.0], [1.0, np.inf]):
        assert np.isnan(standard_error(np.asarray(values)))
