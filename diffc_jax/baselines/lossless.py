"""Lossless codecs in bits per dimension, to compare with the negative ELBO on the same images."""

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float64, UInt8

from diffc_jax.errors import InputError
from diffc_jax.metrics.statistics import RunningMean
from diffc_jax.runtime.images import decode_image, decode_jpegxl, encode_image, encode_jpegxl
from diffc_jax.runtime.progress import Progress

# Encoder and decoder of each, at the encoder's greatest effort.
LOSSLESS: Mapping[str, tuple[Callable[..., bytes], Callable[[bytes], np.ndarray]]] = {
    "png": (functools.partial(encode_image, container="PNG", optimize=True), decode_image),
    "webp": (
        functools.partial(encode_image, container="WEBP", lossless=True, quality=100, method=6),
        decode_image,
    ),
    "jpegxl": (functools.partial(encode_jpegxl, lossless=True, effort=9), decode_jpegxl),
}


def measure_lossless(
    images: UInt8[np.ndarray, "n h w 3"],
) -> dict[str, Float64[np.ndarray, " n"]]:
    """Bits per dimension of the whole file of each image, headers counted, by the names in `LOSSLESS`.

    Raises:
        InputError: a file that does not decode to its image.
    """
    progress = Progress("lossless codecs", len(images) * len(LOSSLESS), "files")
    bits = {}
    with ThreadPoolExecutor() as pool:
        for name in LOSSLESS:
            sizes = []
            for size in pool.map(functools.partial(_file_bytes, name), images):
                sizes.append(size)
                progress.advance()
            bits[name] = 8.0 * np.array(sizes, np.float64) / images[0].size
    return bits


def lossless_marks(
    bits: Mapping[str, Float64[np.ndarray, " n"]],
) -> dict[str, dict[str, float | None]]:
    """For each codec the mean over images, `bits_per_dim`, and its standard error, `bits_per_dim_stderr`.

    The standard error of a single image is None.
    """
    averages = {name: RunningMean.of(values) for name, values in bits.items()}
    return {
        name: {
            "bits_per_dim": float(average.mean),
            "bits_per_dim_stderr": float(average.stderr) if average.count > 1 else None,
        }
        for name, average in averages.items()
    }


def _file_bytes(name: str, image: UInt8[np.ndarray, "h w 3"]) -> int:
    encode, decode = LOSSLESS[name]
    data = encode(image)
    if not np.array_equal(decode(data), image):
        raise InputError(f"{name}: the installed library does not give back the image it was given")
    return len(data)
