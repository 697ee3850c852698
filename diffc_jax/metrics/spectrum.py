"""Power spectra of images: how much of each frequency a reconstruction has, and how much of it is wrong.

A decoder that blurs loses power at high frequencies. One that invents texture keeps it, and its error there
has up to twice that power.
"""

import functools

import numpy as np
import scipy.fft
from jaxtyping import Complex64, Float, Float32, Int, UInt8

# Fourier coefficients of 8-bit images.
Coefficients = Complex64[np.ndarray, "b h k 3"]


def coefficients(images: UInt8[np.ndarray, "b h w 3"]) -> Coefficients:
    """Half of the Fourier coefficients, scaled so that white noise of variance v has the mean power v."""
    return scipy.fft.rfft2(images.astype(np.float32), axes=(1, 2), norm="ortho")


def radial_power(found: Coefficients, width: int) -> Float32[np.ndarray, "b f"]:
    """Mean power at each radial frequency: those of `frequencies`, means over angles and channels.

    Args:
        found: `coefficients` of images, or of differences of images.
        width: of the images, pixels.
    """
    power = (np.square(found.real) + np.square(found.imag)).mean(-1).reshape(len(found), -1)
    weights = _weights(found.shape[1], width)
    return (power @ weights).astype(np.float32)


def frequencies(height: int, width: int) -> Float[np.ndarray, " f"]:
    """Cycles per pixel, up to one half; the corners of the spectrum, which are beyond, are left out."""
    return np.arange(_n_rings(height, width)) / min(height, width)


def _n_rings(height: int, width: int) -> int:
    return min(height, width) // 2 + 1


@functools.lru_cache(maxsize=8)
def _weights(height: int, width: int) -> Float32[np.ndarray, "c f"]:
    """What each coefficient adds to the mean of its ring, whose width is that of a frequency step."""
    n_rings = _n_rings(height, width)
    vertical, horizontal = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    rings: Int[np.ndarray, " c"] = (
        np.rint(np.hypot(vertical, horizontal) * min(height, width)).astype(int).ravel()
    )
    # Coefficients that are not stored are conjugates of others.
    both = np.broadcast_to(2.0 - (horizontal % 0.5 == 0), (height, len(horizontal))).ravel()
    weights = (rings[:, None] == np.arange(n_rings)) * both[:, None]
    return (weights / weights.sum(0)).astype(np.float32)
