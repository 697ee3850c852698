"""From encoded files or arrays to RGB pixels of the size asked for, one by one or many in threads."""

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile

from diffc_jax.config.sources import SourceSpec
from diffc_jax.errors import InputError
from diffc_jax.runtime.images import encode_image

T = TypeVar("T")
R = TypeVar("R")

_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


class UnreadableImageError(InputError):
    """An image that cannot be decoded, and why; `SourceSpec.skip_corrupt` leaves it out."""

    def __init__(self, label: str, reason: object):
        self.flaw = f"{label}: cannot be decoded ({reason})"
        super().__init__(f"{self.flaw}; set skip_corrupt=True to leave it out")


def to_rgb(
    item: bytes | UInt8[np.ndarray, "h w 3"], label: str, spec: SourceSpec
) -> UInt8[np.ndarray, "s s 3"]:
    """Decodes, converts and scales one image as `spec` says.

    Of animations the first frame is used; EXIF orientation is ignored, as ImageNet's tools do. `item` is an
    encoded file in any format that Pillow reads, or 8-bit RGB pixels; `label` names it in messages.

    Raises:
        UnreadableImageError: the file cannot be decoded.
        InputError: the size or the kind of pixels is one that `spec` refuses.
    """
    size = spec.image_size
    if isinstance(item, np.ndarray):
        if item.shape[:2] == (size, size):
            return item
        return np.asarray(_fit(Image.fromarray(item), label, spec))
    try:
        image = Image.open(io.BytesIO(item))
        kind = _non_rgb_kind(image)
        image.load()
    except _DECODER_ERRORS as error:
        unknown = isinstance(error, Image.UnidentifiedImageError)
        raise UnreadableImageError(label, "unknown image format" if unknown else error) from None
    if kind and spec.non_rgb == "refuse":
        raise InputError(
            f"{label}: is {kind}, not 8-bit RGB; set non_rgb=convert to convert such images"
        )
    return np.asarray(_fit(_convert(image) if kind else image, label, spec))


def encode(image: UInt8[np.ndarray, "h w 3"], encoding: str) -> bytes:
    """Lossless file of one image; `encoding` is "webp" or "png"."""
    # Method 1 is much faster than the default 4 and makes hardly larger files.
    options = {"lossless": True, "method": 1} if encoding == "webp" else {}
    return encode_image(image, encoding, **options)


def map_in_windows(function: Callable[[T], R], items: Sequence[T]) -> Iterator[list[R]]:
    """Yields `function` of all items in order, some dozens a core at a time.

    Memory does not grow with the number of items. Pillow and the encoders run in parallel.
    """
    threads = os.cpu_count() or 1
    window = 64 * threads
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(items), window):
            yield list(pool.map(function, items[first : first + window]))


def _non_rgb_kind(image: ImageFile.ImageFile) -> str | None:
    # Pillow narrows 16-bit RGB to mode "RGB" silently; only the tile's raw mode still tells.
    if (
        image.mode.startswith("I")
        or image.mode == "F"
        or (image.tile and "16" in str(image.tile[0].args))
    ):
        return "a 16-bit or floating-point image"
    if image.has_transparency_data:
        return "an image with alpha"
    names = {"1": "a black-and-white image", "L": "a grey image", "P": "a palette image"}
    return None if image.mode == "RGB" else names.get(image.mode, f"a {image.mode} image")


def _convert(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return image.convert("RGB")


def _fit(image: Image.Image, label: str, spec: SourceSpec) -> Image.Image:
    (width, height), size = image.size, spec.image_size
    if (width, height) == (size, size):
        return image
    if spec.resize == "refuse":
        raise InputError(
            f"{label}: is {width}x{height}, not {size}x{size}; "
            "set resize=squash or resize=crop to scale it, or change image_size"
        )
    if min(width, height) < size:
        raise InputError(
            f"{label}: is {width}x{height}, smaller than image_size={size}; "
            "images are never enlarged"
        )
    if spec.resize == "squash":
        return image.resize((size, size), Image.Resampling.BOX)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.resize((size, size), Image.Resampling.BOX, (left, top, left + side, top + side))
