"""Structural similarity at one scale and at several (NumPy, float64).

SSIM (Wang et al. 2004): 11x11 Gaussian window of standard deviation 1.5, K1 = 0.01, K2 = 0.03, data
range 255, population (co)variances, averaged over the positions where the window lies inside the
image, then over channels. This equals `skimage.metrics.structural_similarity` with
`gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1`.

MS-SSIM (Wang et al. 2003) has five scales, the last of which needs images of at least 161 pixels.
On smaller ones only the scales into which the window fits are used, and their exponents are raised
to the sum of all five: three scales, with exponents 0.071, 0.453 and 0.476, at 64x64. Values with different
numbers of scales do not compare.
"""

import numpy as np
from jaxtyping import Float64, Shaped
from scipy import ndimage

from diffc_jax.errors import InputError
from diffc_jax.metrics.pairs import check_pairs

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_EXPONENTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def number_of_scales(height: int, width: int) -> int:
    """How many scales, of at most five, MS-SSIM has for images of this size.

    Raises:
        InputError: the window does not fit into the image.
    """
    side = min(height, width)
    if side < _WINDOW:
        raise InputError(
            f"images: {height}x{width} is smaller than the {_WINDOW}x{_WINDOW} window of SSIM; "
            "leave this metric out"
        )
    return min(len(_EXPONENTS), int(np.log2((side - 1) / (_WINDOW - 1))) + 1)


def ms_ssim(
    images: Shaped[np.ndarray, "..."], reconstructions: Shaped[np.ndarray, "..."]
) -> Float64[np.ndarray, " b"]:
    """MS-SSIM of each image with as many scales as fit, in [0, 1].

    The product over scales is taken for each channel, then averaged. Between scales 2x2 pixels are
    averaged, the last row and column of an odd size repeated. A negative mean at some scale counts
    as zero, because it has no real power.

    Raises:
        InputError: not uint8, not of one shape (b, h, w, c), or smaller than the window.
    """
    check_pairs(images, reconstructions)
    scales = number_of_scales(*images.shape[1:3])
    exponents = _EXPONENTS[:scales] * (_EXPONENTS.sum() / _EXPONENTS[:scales].sum())
    x, y = images.astype(np.float64), reconstructions.astype(np.float64)
    product = np.ones((len(images), images.shape[3]))
    for scale, exponent in enumerate(exponents, start=1):
        luminance, contrast = ssim_terms(x, y)
        similarity = contrast * luminance if scale == scales else contrast
        product *= np.maximum(similarity.mean(axis=(1, 2)), 0) ** exponent
        x, y = _halve(x), _halve(y)
    return product.mean(axis=1)


def ssim_terms(
    x: Float64[np.ndarray, "b h w c"], y: Float64[np.ndarray, "b h w c"]
) -> tuple[Float64[np.ndarray, "b h2 w2 c"], Float64[np.ndarray, "b h2 w2 c"]]:
    """Luminance and contrast-structure terms where the window lies inside the image; SSIM: their product."""
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variances = _window_mean(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = _window_mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _window_mean(x: Float64[np.ndarray, "b h w c"]) -> Float64[np.ndarray, "b h2 w2 c"]:
    radius = _WINDOW // 2
    blurred = ndimage.gaussian_filter(x, _SIGMA, radius=radius, axes=(1, 2))
    return blurred[:, radius:-radius, radius:-radius]


def _halve(x: Float64[np.ndarray, "b h w c"]) -> Float64[np.ndarray, "b h2 w2 c"]:
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
