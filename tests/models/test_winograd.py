"""Winograd's convolution against sums in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.models.winograd import convolve, tile_side, transform_kernel


def exact(x, kernel):
    """The convolution in double precision, tap by tap."""
    height, width = x.shape[1:3]
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = ((i, j) for i in range(3) for j in range(3))
    return sum(
        padded[:, i : i + height, j : j + width] @ np.asarray(kernel[i, j], np.float64)
        for i, j in taps
    )


# Relative errors of sums of 9 * 64 products in float32 are 3e-7 in XLA's own convolution.
@pytest.mark.parametrize(("shape", "side", "error"), [((2, 8, 6), 2, 4e-7), ((3, 16, 24), 4, 1e-6)])
def test_products_are_those_of_the_sum(shape, side, error):
    assert tile_side(*shape[1:]) == side
    keys = jax.random.split(jax.random.key(0))
    x = jax.random.normal(keys[0], (*shape, 64))
    kernel = jax.random.normal(keys[1], (3, 3, 64, 50)) / 24
    whole = transform_kernel(kernel, side)
    for parts in [whole], jnp.split(whole, side + 2):
        found = convolve(x, parts)
        assert np.sqrt(np.mean((found - exact(x, kernel)) ** 2)) < error


@pytest.mark.parametrize("side", [2, 4])
def test_values_reach_their_neighbours_and_no_others(side):
    x = jnp.zeros((1, 8, 8, 1)).at[0, 4, 7, 0].set(1.0)
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    expected = np.zeros((8, 8))
    expected[3:6, 6:8] = [[9, 8], [6, 5], [3, 2]]
    found = convolve(x, [transform_kernel(kernel, side)])[0, :, :, 0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "side"),
    [
        ((8, 8), 2),
        ((12, 12), 2),
        ((16, 16), 4),
        ((16, 18), 2),
        ((20, 64), 4),
        ((16, 9), None),
        ((1, 1), None),
    ],
)
def test_tiles_fill_the_image(size, side):
    assert tile_side(*size) == side
