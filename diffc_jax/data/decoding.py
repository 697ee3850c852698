"""From encoded files or arrays to RGB pixels of the size asked for, one by one or many in threads."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from absl import logging
from jaxtyping import UInt8
from PIL import Image

from diffc_jax.config.sources import SourceSpec, check_pixels
from diffc_jax.data.scaling import shrink
from diffc_jax.errors import InputError
from diffc_jax.runtime.environment import available_cores
from diffc_jax.runtime.image_files import UndecodableError, decode_image_file
from diffc_jax.runtime.images import encode_image

T = TypeVar("T")
R = TypeVar("R")


class UnreadableImageError(InputError):
    """An image that is damaged or cannot be decoded, and why; `SourceSpec.skip_corrupt` leaves it out."""

    def __init__(self, label: str, reason: object, what: str = "cannot be decoded", fix: str = ""):
        self.flaw = f"{label}: {what} ({reason})"
        remedy = f"{fix}, or " if fix else ""
        super().__init__(f"{self.flaw}; {remedy}set skip_corrupt=True to leave it out")


def to_rgb(
    item: bytes | UInt8[np.ndarray, "h w 3"], label: str, spec: SourceSpec
) -> UInt8[np.ndarray, "s s 3"]:
    """Decodes, converts and scales one image as `spec` says.

    EXIF orientation is ignored, as ImageNet's tools do. `item` is an encoded file in one of
    `runtime.image_files.FORMATS`, or 8-bit RGB pixels; `label` names it in messages.

    Raises:
        UnreadableImageError: the file cannot be decoded.
        InputError: the size or the kind of pixels is one that `spec` refuses.
    """
    if isinstance(item, np.ndarray):
        if item.shape[:2] == (spec.image_size, spec.image_size):
            return item
        return _fit(Image.fromarray(item), label, spec)
    try:
        decoded = decode_image_file(
            item, label, check_size=lambda width, height: _check_size(width, height, label, spec)
        )
        kind = decoded.kind
        if kind and spec.non_rgb == "refuse" and not decoded.inconvertible:
            raise InputError(
                f"{label}: is {kind}, not 8-bit RGB; set non_rgb=convert to convert such images"
            )
        return _fit(decoded.to_rgb(), label, spec)
    except UndecodableError as error:
        raise UnreadableImageError(label, error.reason) from None


def encode(image: UInt8[np.ndarray, "h w 3"], encoding: str) -> bytes:
    """Lossless file of one image; `encoding` is "webp" or "png"."""
    # Method 1 is much faster than the default 4 and makes hardly larger files.
    options = {"lossless": True, "method": 1} if encoding == "webp" else {}
    return encode_image(image, encoding, **options)


def map_in_windows(function: Callable[[T], R], items: Sequence[T]) -> Iterator[list[R]]:
    """Yields `function` of all items in order, some dozens a core at a time.

    Memory does not grow with the number of items. Pillow and the encoders run in parallel.
    """
    threads = available_cores() or os.cpu_count() or 1
    window = 64 * threads
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(items), window):
            yield list(pool.map(function, items[first : first + window]))


def _check_size(width: int, height: int, label: str, spec: SourceSpec) -> None:
    """Refuses images that `spec` does not scale, before they are decoded; InputError."""
    size = spec.image_size
    if (width, height) == (size, size):
        return
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
    check_pixels(label, width, height, spec.max_pixels)


def _fit(image: Image.Image, label: str, spec: SourceSpec) -> UInt8[np.ndarray, "s s 3"]:
    (width, height), size = image.size, spec.image_size
    _check_size(width, height, label, spec)
    if (width, height) == (size, size):
        return np.asarray(image)
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side) if spec.resize == "crop" else (0, 0, width, height)
    if spec.resize_filter == "box" and size < side < 2 * size:
        _warn_of_box_filter(spec)
    return shrink(image, (size, size), spec.resize_filter, box)


@functools.cache
def _warn_of_box_filter(spec: SourceSpec) -> None:
    """Once for each source."""
    logging.warning(
        "%s: images of less than %d pixels are shrunk to %d by Pillow's box filter, which is neither "
        "an area average nor symmetric at such factors; set resize_filter=area unless they are to be "
        "compared with ImageNet 64x64 as it was made",
        spec.path or spec.source,
        2 * spec.image_size,
        spec.image_size,
    )
