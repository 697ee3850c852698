"""Dithered PCM: rate, and noise that does not depend on the image."""

import math

import numpy as np
import pytest

from diffc_jax.baselines import dithered_pcm


@pytest.mark.parametrize("levels", [2, 3, 7, 16, 256])
def test_dithered_pcm_takes_log2_levels_bits_a_sample(levels):
    image = np.random.default_rng(1).integers(0, 256, (48, 56, 3), dtype=np.uint8)
    file = dithered_pcm.encode(image, levels, 5)
    assert dithered_pcm.payload(file) == len(file) - 9
    assert dithered_pcm.payload(file) == math.ceil(image.size * math.log2(levels) / 8)
    error = dithered_pcm.decode(file).astype(float) - image
    assert np.abs(error).max() <= 255 / (levels - 1) / 2 + 0.5
    if levels == 256:
        assert not error.any()


@pytest.mark.parametrize("levels", [3, 7, 16])
def test_dithered_pcm_adds_uniform_noise_that_knows_nothing_of_the_image(levels):
    # Away from black and white nothing is clipped.
    image = np.random.default_rng(1).integers(120, 136, (48, 56, 3), dtype=np.uint8)
    error = dithered_pcm.decode(dithered_pcm.encode(image, levels, 5)).astype(float) - image
    step = 255 / (levels - 1)
    assert np.mean(error**2) == pytest.approx(step**2 / 12 + 1 / 12, rel=0.05)
    assert abs(np.mean(error)) < 0.02 * step
    assert abs(np.corrcoef(error.ravel(), image.ravel())[0, 1]) < 0.04


def test_dithered_pcm_noise_belongs_to_the_image():
    image = np.full((16, 16, 3), 100, np.uint8)
    first, again, other = (dithered_pcm.encode(image, 4, index) for index in (0, 0, 1))
    assert first == again
    assert first[9:] != other[9:]
    for extreme in (0, 255):
        black_or_white = np.full((16, 16, 3), extreme, np.uint8)
        decoded = dithered_pcm.decode(dithered_pcm.encode(black_or_white, 256, 3))
        assert np.abs(decoded.astype(int) - extreme).max() <= 1
