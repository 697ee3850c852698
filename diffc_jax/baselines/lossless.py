"""Lossless codecs in bits per dimension, to compare with the negative ELBO on the same images."""

import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import features

from diffc_jax.errors import InputError
from diffc_jax.metrics.statistics import RunningMean
from diffc_jax.runtime.images import decode_image, decode_jpegxl, encode_image, encode_jpegxl
from diffc_jax.runtime.optional import require

_Encoder = Callable[[UInt8[np.ndarray, "h w 3"]], bytes]


class LosslessCodec(NamedTuple):
    """Encoder settings by their names, of which each image takes the one with the smallest file."""

    settings: Mapping[str, _Encoder]
    decode: Callable[[bytes], np.ndarray]


def _png(image: UInt8[np.ndarray, "h w 3"], **settings: int) -> bytes:
    return bytes(require("imagecodecs").png_encode(image, 9, **settings))


# More effort does not mean a smaller file.
LOSSLESS: Mapping[str, LosslessCodec] = {
    "png": LosslessCodec(
        {
            "Pillow, optimize": functools.partial(encode_image, container="PNG", optimize=True),
            "libpng, strategy filtered": functools.partial(_png, strategy=1),
            "libpng, strategy rle": functools.partial(_png, strategy=3),
            "libpng, strategy rle, filter paeth": functools.partial(_png, strategy=3, filter=0x80),
        },
        decode_image,
    ),
    "webp": LosslessCodec(
        {
            f"method {method}": functools.partial(
                encode_image, container="WEBP", lossless=True, quality=100, method=method
            )
            for method in (4, 5, 6)
        },
        decode_image,
    ),
    "jpegxl": LosslessCodec(
        {
            f"effort {effort}": functools.partial(encode_jpegxl, lossless=True, effort=effort)
            for effort in (8, 9, 10)
        },
        decode_jpegxl,
    ),
}


def lossless_versions() -> dict[str, str]:
    """Versions of the libraries of these codecs.

    Raises:
        InputError: imagecodecs is not installed.
    """
    imagecodecs = require("imagecodecs")
    return {
        "lossless png": f"zlib {features.version('zlib')} in Pillow, {imagecodecs.png_version()}",
        "lossless webp": f"libwebp {features.version('webp')}",
        "lossless jpegxl": imagecodecs.jpegxl_version(),
    }


def measure_lossless(
    images: UInt8[np.ndarray, "n h w 3"], on_files: Callable[[int], None] = lambda count: None
) -> dict[str, Float64[np.ndarray, "n settings"]]:
    """Bits per dimension of whole files, headers counted, by the names in `LOSSLESS`.

    Each row is an image, each column one of the codec's settings, in their order. `on_files` is called with
    the number of files that are finished.

    Raises:
        InputError: a file that does not decode to its image.
    """
    jobs = [(name, setting) for name, codec in LOSSLESS.items() for setting in codec.settings]
    bits: dict[str, list[np.ndarray]] = {name: [] for name in LOSSLESS}
    with ThreadPoolExecutor() as pool:
        for name, setting in jobs:
            sizes = []
            for size in pool.map(functools.partial(_file_bytes, name, setting), images):
                sizes.append(size)
                on_files(1)
            bits[name].append(8.0 * np.array(sizes, np.float64) / images[0].size)
    return {name: np.stack(columns, axis=1) for name, columns in bits.items()}


def lossless_marks(bits: Mapping[str, Float64[np.ndarray, "n settings"]]) -> dict[str, Any]:
    """The results of each codec, with the smallest file of each image.

    The mean over images is `bits_per_dim` and its standard error, None for a single image,
    `bits_per_dim_stderr`. `settings` has for each setting the mean over images of its own files, and
    `smallest`, the number of images whose smallest file it made; the first of equals counts.
    """
    marks = {}
    for name, values in bits.items():
        average = RunningMean.of(values.min(axis=1))
        smallest = np.bincount(values.argmin(axis=1), minlength=values.shape[1])
        marks[name] = {
            "bits_per_dim": float(average.mean),
            "bits_per_dim_stderr": float(average.stderr) if average.count > 1 else None,
            "settings": {
                setting: {"bits_per_dim": float(mean), "smallest": int(count)}
                for setting, mean, count in zip(
                    LOSSLESS[name].settings, values.mean(axis=0), smallest, strict=True
                )
            },
        }
    return marks


def _file_bytes(name: str, setting: str, image: UInt8[np.ndarray, "h w 3"]) -> int:
    codec = LOSSLESS[name]
    data = codec.settings[setting](image)
    if not np.array_equal(codec.decode(data), image):
        raise InputError(f"{name}: the installed library does not give back the image it was given")
    return len(data)
