import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.moments import Moments

VECTORS = 100.0 + np.random.default_rng(0).normal(size=(50, 4)) @ np.diag([1.0, 2.0, 0.1, 5.0])


def test_parts_agree_with_the_whole():
    parts = [Moments.of(VECTORS[a:b]) for a, b in ((0, 1), (1, 20), (20, 50))]
    for order in ((0, 1, 2), (2, 0, 1)):
        total = sum((parts[i] for i in order[1:]), start=parts[order[0]])
        assert total.count == 50
        np.testing.assert_allclose(total.mean, VECTORS.mean(0), rtol=1e-14)
        np.testing.assert_allclose(total.covariance(), np.cov(VECTORS.T), rtol=1e-11, atol=1e-11)


def test_vectors_of_another_type_are_summed_in_float64():
    moments = Moments.of(VECTORS.astype(np.float32))
    np.testing.assert_allclose(moments.covariance(), np.cov(VECTORS.T), rtol=1e-5, atol=1e-5)
    assert moments.scatter.dtype == np.float64


def test_one_vector_has_no_covariance():
    with pytest.raises(
        InputError, match=r"^a covariance needs at least 2 vectors, and there are 1$"
    ):
        Moments.of(VECTORS[:1]).covariance()
