"""Images side by side."""

import numpy as np
import pytest

from diffc_jax.runtime.images import tile


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_are_filled_up_with_white(channels):
    images = np.arange(3 * 2 * 4 * channels, dtype=np.uint8).reshape(3, 2, 4, channels)
    found = tile(images, 2)
    assert found.shape == (4, 8, channels)
    for image, place in zip(images, (np.s_[:2, :4], np.s_[:2, 4:], np.s_[2:, :4]), strict=True):
        np.testing.assert_array_equal(found[place], image)
    assert (found[2:, 4:] == 255).all()
    np.testing.assert_array_equal(tile(images[:1], 1), images[0])
