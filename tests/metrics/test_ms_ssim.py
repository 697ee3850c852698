"""SSIM and MS-SSIM as in other implementations, and what is refused."""

import numpy as np
import pytest
import skimage.data
from skimage.metrics import structural_similarity

from benchmarks.distortions import DISTORTIONS
from diffc_jax.errors import InputError
from diffc_jax.metrics.ms_ssim import ms_ssim, number_of_scales, ssim_terms
from tests.support.image_files import photo_crops


def _noisy(images: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 20, images.shape).round()
    return np.clip(images + noise, 0, 255).astype(np.uint8)


def ssim(images: np.ndarray, reconstructions: np.ndarray) -> np.ndarray:
    terms = ssim_terms(images.astype(np.float64), reconstructions.astype(np.float64))
    return np.prod(terms, axis=0).mean(axis=(1, 2, 3))


def test_ssim_equals_scikit_image():
    images = photo_crops(6)[:, :53]
    others = _noisy(images, 0)
    expected = [
        structural_similarity(
            x,
            y,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
            channel_axis=-1,
        )
        for x, y in zip(images, others, strict=True)
    ]
    np.testing.assert_allclose(ssim(images, others), expected, rtol=0, atol=1e-9)


def test_ms_ssim_equals_pytorch_msssim():
    # From pytorch-msssim 1.0 in float64: with its five default weights, and at 64x64 with the first
    # three of them, scaled to the same sum.
    cat = skimage.data.chelsea()
    big = cat[None, 50:242, 150:342]
    np.testing.assert_allclose(ms_ssim(big, _noisy(big, 0)), [0.8902946], atol=1e-5)
    small = np.stack([cat[100:164, 100:164], cat[60:124, 200:264]])
    noise = np.random.default_rng(1).normal(0, 20, (4, 64, 64, 3)).round()[:2]
    noisy = np.clip(small + noise, 0, 255).astype(np.uint8)
    np.testing.assert_allclose(ms_ssim(small, noisy), [0.8703631, 0.8005835], atol=1e-5)


def test_odd_sizes_repeat_their_last_row_and_column():
    images = photo_crops(2)[:, :21, :21]
    others = _noisy(images, 0)

    def halved(x: np.ndarray) -> np.ndarray:
        repeated = x[:, [*range(21), 20]][:, :, [*range(21), 20]].astype(np.float64)
        return repeated.reshape(len(x), 11, 2, 11, 2, 3).mean(axis=(2, 4))

    _, first = ssim_terms(images.astype(np.float64), others.astype(np.float64))
    last = np.prod(ssim_terms(halved(images), halved(others)), axis=0)
    weights = 1.0001 * np.array([0.0448, 0.2856]) / (0.0448 + 0.2856)
    means = [np.maximum(one.mean(axis=(1, 2)), 0) for one in (first, last)]
    expected = (means[0] ** weights[0] * means[1] ** weights[1]).mean(axis=1)
    np.testing.assert_allclose(ms_ssim(images, others), expected, rtol=1e-12)


def test_number_of_scales_that_fit():
    sizes = {11: 1, 20: 1, 21: 2, 40: 2, 41: 3, 64: 3, 80: 3, 81: 4, 160: 4, 161: 5, 1000: 5}
    for size, scales in sizes.items():
        assert number_of_scales(size, 2000) == scales
        assert number_of_scales(2000, size) == scales
    with pytest.raises(InputError) as error:
        number_of_scales(10, 64)
    assert str(error.value) == (
        "images: 10x64 is smaller than the 11x11 window of SSIM; leave this metric out"
    )


@pytest.mark.parametrize("metric", [ssim, ms_ssim])
def test_identity_symmetry_and_batch(metric):
    images, others = photo_crops(8)[:4, :43, :61], photo_crops(8)[4:, :43, :61]
    np.testing.assert_allclose(metric(images, images), 1, rtol=0, atol=1e-12)
    values = metric(images, others)
    assert values.dtype == np.float64
    assert (values < 0.6).all()
    np.testing.assert_allclose(metric(others, images), values, rtol=1e-12)
    np.testing.assert_array_equal(metric(images[1:2], others[1:2]), values[1:2])


def test_a_negative_similarity_counts_as_zero():
    images = np.indices((1, 64, 64, 3)).sum(axis=0).astype(np.uint8) % 2 * 255
    assert ssim(images, 255 - images) < 0
    assert ms_ssim(images, 255 - images) == 0


@pytest.mark.parametrize("metric", [ssim, ms_ssim])
@pytest.mark.parametrize("name", DISTORTIONS)
def test_similarity_falls_with_distortion(metric, name):
    crops = photo_crops(8)
    distort, levels = DISTORTIONS[name]
    similarities = [metric(crops, distort(crops, level)).mean() for level in levels]
    assert similarities[0] < 0.9999
    assert (np.diff(similarities) < -0.004).all()


def test_refuses_other_types_and_shapes():
    crops = photo_crops(2)
    with pytest.raises(InputError) as error:
        ms_ssim(crops.astype(np.int32), crops)
    assert str(error.value) == "images: dtype is int32, not uint8; round to 8 bits first"
    with pytest.raises(InputError) as error:
        ms_ssim(crops[0], crops[0])
    assert str(error.value) == (
        "reconstructions: shape is (64, 64, 3), that of the images (64, 64, 3); "
        "both must be the same (b, h, w, c)"
    )
