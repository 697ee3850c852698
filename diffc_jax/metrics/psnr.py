"""Peak signal-to-noise ratio of 8-bit images, the two ways of averaging it (NumPy, float64).

Both averages are reported everywhere, because they differ by about a decibel on a varied data set:
`psnr` is the PSNR of the mean squared error over all images, `psnr_mean` the mean of the per-image
PSNRs. Both start from the per-image errors of `mse`, so that a sweep can store those.
"""

import numpy as np
from jaxtyping import Float64, Shaped

from diffc_jax.metrics.pairs import check_pairs

PEAK = 255.0


def mse(
    images: Shaped[np.ndarray, "..."], reconstructions: Shaped[np.ndarray, "..."]
) -> Float64[np.ndarray, " b"]:
    """Mean squared error of each image over its pixels and channels, in squared 8-bit grey levels.

    Raises:
        InputError: not uint8 (PSNR is defined after rounding), or not of one shape (b, h, w, c).
    """
    check_pairs(images, reconstructions)
    difference = images.astype(np.int32) - reconstructions
    return np.square(difference).mean(axis=(1, 2, 3), dtype=np.float64)


def psnr_from_mse(mse: Float64[np.ndarray, "*b"] | float) -> Float64[np.ndarray, "*b"]:
    """`10 log10(255^2 / mse)` in dB, elementwise; infinite where `mse` is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(10.0 * np.log10(PEAK**2 / np.asarray(mse, np.float64)))


def psnr(mse: Float64[np.ndarray, " b"]) -> float:
    """PSNR of the mean of per-image errors, in dB; infinite only if every image is exact."""
    return float(psnr_from_mse(mse.mean()))


def psnr_mean(mse: Float64[np.ndarray, " b"]) -> float:
    """Mean of the per-image PSNRs, in dB; infinite as soon as one image is exact.

    The infinity is kept on purpose: leaving exact images out, or capping them, would make the mean
    depend on a choice that no number in the results shows. `psnr` stays finite in that case.
    """
    return float(psnr_from_mse(mse).mean())
