"""Exact projections: errors of targets are the Gaussian that is wanted, and tables the same everywhere."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from diffc_jax.channel_simulation import projection
from diffc_jax.channel_simulation.bits import word_pair
from diffc_jax.channel_simulation.open_trellis_reach import (
    LADDER,
    LEAST_BITS,
    MEMORIES,
    MOST_BITS,
    mean_projections,
    spreads,
)
from diffc_jax.channel_simulation.projection import Grid, bits_for, make_grid
from tests.support.reference_trellis import words

UNIT = 1 << 16


def test_words_of_files_are_those_of_the_trellis():
    for key, counter in (((0, 0), (0, 0)), ((7, 300), (2, 9)), ((2**32 - 1, 1), (2**32 - 1, 5))):
        first, second = words(list(key), counter[0], counter[1] + 1)[-1]
        assert word_pair(key, counter) == (int(first), int(second))


def grids(number, path_bits, memory):
    words = np.random.default_rng(path_bits).integers(0, 1 << 32, number).tolist()
    return [make_grid(word, path_bits, memory) for word in words]


@pytest.mark.parametrize("path_bits", [8, 48, 448])
def test_errors_of_targets_are_gaussian(path_bits):
    """T_j - a is N(0, 1 - v), whatever a is."""
    sigma = spreads(14)[path_bits] / UNIT
    for length in (5.0, 9.37, 30.1):
        some = grids(4000, path_bits, 14)
        errors = np.array([grid.target(grid.nearest(length)) / UNIT - length for grid in some])
        assert stats.kstest(errors / sigma, "norm").pvalue > 1e-3
        assert np.var(errors) == pytest.approx(sigma**2, rel=0.08)


def test_cells_are_the_lengths_with_the_same_target():
    for grid in grids(50, 48, 14):
        for j in range(-1, 12):
            low, high = grid.below(j) / UNIT, grid.below(j + 1) / UNIT
            assert high - low == pytest.approx(2 * grid.half_width / UNIT, abs=1e-4)
            assert grid.target(j) / UNIT == pytest.approx((low + high) / 2, abs=1e-4)
            for share in (0.01, 0.5, 0.99):
                assert grid.nearest(low + share * (high - low)) == j
        assert grid.target(grid.last_up_to(20 * UNIT)) <= 20 * UNIT
        assert grid.target(grid.last_up_to(20 * UNIT) + 1) > 20 * UNIT
    assert Grid(UNIT, 0).target(3) == 6 * UNIT


@pytest.mark.parametrize("memory", MEMORIES)
def test_paths_have_the_length_whose_reach_is_nearest(memory):
    reach = np.array(mean_projections(memory))
    assert (np.diff(reach) > 0).all()
    assert len(reach) == MOST_BITS + 1
    for target in np.linspace(-UNIT, reach[-1], 200).astype(int).tolist():
        k = bits_for(target, memory)
        nearest = np.abs(reach[LEAST_BITS:] - target)
        assert nearest[k - LEAST_BITS] == nearest.min()


@pytest.mark.parametrize("memory", MEMORIES)
def test_tables_are_smooth_and_possible(memory):
    """No code reaches further than the best of 2^k independent samples of N(0, I), nearly sqrt(2 k ln 2)."""
    k = np.arange(LEAST_BITS, MOST_BITS + 1)
    gain = np.array(mean_projections(memory))[LEAST_BITS:] / UNIT / np.sqrt(k)
    assert (gain < np.sqrt(2 * np.log(2))).all()
    assert np.abs(np.diff(gain[k >= 32])).max() < 0.003
    spread = np.array(spreads(memory))[LEAST_BITS:] / UNIT
    assert ((spread > 0.88) & (spread < 1)).all()
    assert LADDER[-1] == MOST_BITS


def test_widths_are_the_same_everywhere():
    widths = np.array(projection._widths())
    digest = hashlib.sha256(widths.astype("<u4").tobytes()).hexdigest()
    assert digest == "065b6baf9a7644e940b627eaf0c1d6d788758a5b62325f762c385ab740a915b4"
    share = (np.arange(4096) + 0.5) / 4096
    np.testing.assert_allclose(widths / UNIT, stats.chi(3).ppf(share), atol=2**-16)
