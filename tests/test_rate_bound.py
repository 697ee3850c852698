import numpy as np
import pytest

from diffc_jax.coding.bounds import poisson_functional_bound


def test_bound_of_no_information_is_five_bits():
    assert float(poisson_functional_bound(0.0)) == 5.0


def test_bound_is_the_formula_elementwise():
    bits = np.array([1.0, 7.0, 4095.0])
    np.testing.assert_allclose(poisson_functional_bound(bits), [7.0, 15.0, 4112.0])


def test_one_message_is_cheaper_than_its_parts():
    whole = float(poisson_functional_bound(100.0))
    parts = 10 * float(poisson_functional_bound(10.0))
    assert whole == pytest.approx(100 + np.log2(101) + 5)
    assert parts > 1.6 * whole
