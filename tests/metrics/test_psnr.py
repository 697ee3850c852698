"""PSNR as in scikit-image, exact images, and what is refused."""

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from diffc_jax.errors import InputError
from diffc_jax.metrics import psnr


def _pair(seed: int = 0, n: int = 5) -> tuple[np.ndarray, np.ndarray]:
    images, reconstructions = np.random.default_rng(seed).integers(
        0, 256, (2, n, 7, 9, 3), dtype=np.uint8
    )
    # Errors of very different size, so that the two averages differ.
    reconstructions[0] = images[0]
    reconstructions[0, 0, 0, 0] ^= 1
    return images, reconstructions


def test_matches_scikit_image():
    images, reconstructions = _pair()
    expected = [
        peak_signal_noise_ratio(x, y, data_range=255)
        for x, y in zip(images, reconstructions, strict=True)
    ]
    errors = psnr.mse(images, reconstructions)
    assert errors.dtype == np.float64
    np.testing.assert_allclose(psnr.psnr_from_mse(errors), expected, rtol=0, atol=1e-9)
    assert psnr.psnr_mean(errors) == pytest.approx(np.mean(expected), abs=1e-9)
    assert psnr.psnr(errors) == pytest.approx(
        peak_signal_noise_ratio(images, reconstructions, data_range=255), abs=1e-9
    )
    assert psnr.psnr_mean(errors) > psnr.psnr(errors) + 1


def test_extremes_do_not_wrap_around():
    black, white = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 255, np.uint8)
    np.testing.assert_array_equal(psnr.mse(black, white), [255.0**2])
    np.testing.assert_array_equal(psnr.mse(white, black), [255.0**2])
    assert psnr.psnr(psnr.mse(black, white)) == 0.0


def test_one_exact_image_makes_the_mean_infinite_but_not_the_psnr():
    images, reconstructions = _pair()
    reconstructions[1] = images[1]
    errors = psnr.mse(images, reconstructions)
    assert psnr.psnr_from_mse(errors)[1] == math.inf
    assert psnr.psnr_mean(errors) == math.inf
    assert math.isfinite(psnr.psnr(errors))
    assert psnr.psnr(psnr.mse(images, images)) == math.inf


def test_refuses_other_types_and_shapes():
    images, reconstructions = _pair()
    with pytest.raises(InputError) as error:
        psnr.mse(images, reconstructions / np.float32(255))
    assert str(error.value) == (
        "reconstructions: dtype is float32, not uint8; round to 8 bits first"
    )
    with pytest.raises(InputError) as error:
        psnr.mse(images, reconstructions[:1])
    assert str(error.value) == (
        "reconstructions: shape is (1, 7, 9, 3), that of the images (5, 7, 9, 3); "
        "both must be the same (b, h, w, c)"
    )
    with pytest.raises(InputError, match=r"both must be the same \(b, h, w, c\)"):
        psnr.mse(images[0], reconstructions[0])
