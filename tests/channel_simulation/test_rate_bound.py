"""The achievable rate of one message, of chunks and of steps."""

import numpy as np
import pytest

from diffc_jax.channel_simulation.rate_bound import (
    chunked_rate_bound,
    rate_bound,
    rate_bound_slope,
    stepwise_rate_bound,
)


def test_bound_of_no_information_is_five_bits():
    assert float(rate_bound(0.0)) == 5.0


def test_bound_is_the_formula_elementwise():
    bits = np.array([1.0, 7.0, 4095.0])
    np.testing.assert_allclose(rate_bound(bits), [7.0, 15.0, 4112.0])


def test_one_message_is_cheaper_than_its_parts():
    whole = float(rate_bound(100.0))
    parts = 10 * float(rate_bound(10.0))
    assert whole == pytest.approx(100 + np.log2(101) + 5)
    assert parts > 1.6 * whole


def test_chunks_are_messages_of_their_own_and_the_last_one_carries_the_rest():
    bits = np.array([0.0, 3.0, 7.0, 8.0, 21.0])
    np.testing.assert_allclose(
        chunked_rate_bound(bits, 7.0), [0.0, 3 + 2 + 5, 15, 15 + 1 + 1 + 5, 3 * 15]
    )
    np.testing.assert_allclose(chunked_rate_bound(100.0, 1000.0), rate_bound(100.0))
    assert (
        chunked_rate_bound(1024.0, 4.0)
        > chunked_rate_bound(1024.0, 16.0)
        > chunked_rate_bound(1024.0, 64.0)
    )


@pytest.mark.parametrize("chunk_bits", [0, np.nan, np.inf])
def test_chunks_have_some_bits(chunk_bits):
    with pytest.raises(ValueError, match=f"^chunk_bits is {chunk_bits}, not positive and finite$"):
        chunked_rate_bound(10.0, chunk_bits)


def test_steps_are_messages_of_their_own():
    np.testing.assert_allclose(
        stepwise_rate_bound(np.array([1.0, 0.0, 14.0]), np.array([1, 1, 2])), [7.0, 12.0, 42.0]
    )


def test_slope_is_the_derivative_of_the_bound():
    bits, step = np.array([0.5, 3.0, 40.0, 1e4]), 1e-5
    rise = rate_bound(bits + step) - rate_bound(bits - step)
    np.testing.assert_allclose(rate_bound_slope(bits), rise / (2 * step), rtol=1e-6)


def test_groups_without_steps_are_refused():
    with pytest.raises(ValueError, match=r"^n_steps is 0 in a group, not at least 1$"):
        stepwise_rate_bound(np.array([1.0, 2.0]), np.array([1, 0]))
