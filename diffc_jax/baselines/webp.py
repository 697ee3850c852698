"""Lossy WebP through FFmpeg, whose presets switch off libwebp's noise shaping; Pillow has no such option."""

import functools

import numpy as np
from jaxtyping import UInt8

from diffc_jax.baselines import ffmpeg

available = functools.partial(ffmpeg.has, "libwebp")


def encode(image: UInt8[np.ndarray, "h w 3"], quality: int | float, **options: str | int) -> bytes:
    """The WebP file of an image.

    Args:
        image: uint8 RGB.
        quality: of libwebp, 0 to 100.
        options: of FFmpeg's libwebp. `compression_level` is libwebp's method, 0 to 6; a `preset` other than
            "none" sets it to 4, whatever it says.
    """
    height, width, _ = image.shape
    # Opaque; libwebp then writes no alpha.
    bgra = np.dstack([image[..., ::-1], np.full((height, width), 255, np.uint8)])
    settings = {"quality": quality, **options}
    return ffmpeg.encode_picture(
        "libwebp",
        (width, height),
        "bgra",
        [bgra.reshape(height, 4 * width)],
        {name: str(value) for name, value in settings.items()},
    )
