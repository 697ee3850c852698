"""The search for the fewest steps that reach a PSNR."""

import numpy as np
import pytest

from diffc_jax.codec.image_encoder import search_near


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2), (3, 20), (5, 37)])
@pytest.mark.parametrize("guess", [0, 4, 12, 37])
def test_search_near_finds_where_a_condition_begins(guess, low, high):
    for begin in range(low + 1, high + 1):
        asked = []

        def holds(number, begin=begin, asked=asked):
            asked.append(number)
            return number >= begin

        assert search_near(guess, low, high, holds) == begin
        assert all(low < number < high for number in asked)
        distance = abs(begin - min(max(guess, low + 1), high - 1))
        assert len(asked) == len(set(asked)) <= 2 * np.log2(distance + 1) + 2
