"""Cutting images of any size into tiles and putting them together again."""

import numpy as np
import pytest

from diffc_jax.codec import tiles


def image(height, width):
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


@pytest.mark.parametrize("height", [1, 3, 7, 8, 9, 17, 24])
@pytest.mark.parametrize("width", [1, 5, 8, 31])
def test_round_trip(height, width):
    original = image(height, width)
    cut = tiles.cut(original, 8)
    assert cut.shape == (-(-height // 8) * -(-width // 8), 8, 8, 3)
    assert cut.dtype == np.uint8
    np.testing.assert_array_equal(tiles.assemble(cut, width, height), original)


def test_tiles_are_in_raster_order():
    original = image(16, 24)
    cut = tiles.cut(original, 8)
    np.testing.assert_array_equal(cut[0], original[:8, :8])
    np.testing.assert_array_equal(cut[1], original[:8, 8:16])
    np.testing.assert_array_equal(cut[3], original[8:, :8])


def test_edges_are_mirrored_with_the_outermost_row_twice():
    original = image(6, 11)
    cut = tiles.cut(original, 8)
    np.testing.assert_array_equal(cut[0][6:], original[:3:-1, :8])
    np.testing.assert_array_equal(cut[1][:6, 3:], original[:, 10:5:-1])


def test_an_image_smaller_than_half_a_tile_is_mirrored_again():
    original = image(1, 3)
    row = tiles.cut(original, 8)[0][5]
    np.testing.assert_array_equal(row, original[0][[0, 1, 2, 2, 1, 0, 0, 1]])


def test_one_pixel_fills_a_tile():
    original = image(1, 1)
    np.testing.assert_array_equal(tiles.cut(original, 4), np.broadcast_to(original, (1, 4, 4, 3)))
