"""Distortions whose order is known, to check that a metric puts them into that order."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

from diffc_jax.runtime.images import decode_image, encode_image

Images = UInt8[np.ndarray, "b h w 3"]


def blur(images: Images, deviation: int | float) -> Images:
    """Gaussian blur; `deviation` in pixels, at least 0."""
    blurred = ndimage.gaussian_filter(images.astype(np.float64), deviation, axes=(1, 2))
    return _round(blurred)


def noise(images: Images, deviation: int | float) -> Images:
    """White Gaussian noise, clipped to 0..255; `deviation` in grey levels, the same noise each time."""
    return _round(images + deviation * np.random.default_rng(0).standard_normal(images.shape))


def jpeg(images: Images, quality: int) -> Images:
    """JPEG 4:2:0 and back; `quality` from 1 (worst) to 95."""
    return np.stack([_through_jpeg(image, quality) for image in images])


# Each with parameters from hardly visible to severe.
DISTORTIONS: dict[str, tuple[Callable[..., Images], tuple[float, ...]]] = {
    "blur": (blur, (0.5, 0.8, 1.2, 2.0)),
    "noise": (noise, (4, 10, 25, 60)),
    "jpeg": (jpeg, (90, 60, 25, 8)),
}


def _round(images: np.ndarray) -> Images:
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


def _through_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: int) -> UInt8[np.ndarray, "h w 3"]:
    return decode_image(encode_image(image, "JPEG", quality=quality, subsampling="4:2:0"))
