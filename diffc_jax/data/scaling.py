"""Shrinking images: with Pillow's BOX filter, or to exact averages over areas.

A pixel of the result covers a rectangle of the image. Pillow's BOX takes the plain mean of those pixels
whose centres lie in it: the mean over the rectangle if the factor is a whole number, else not, and not
mirror-symmetric either. From 80 to 64 pixels, three of four pixels of a row are copies of one pixel and
the fourth is the mean of two. ImageNet 64x64 was made with such a filter (Chrabaszcz et al. 2017,
arXiv 1707.08819).
"""

import itertools

import numpy as np
from jaxtyping import Int, Integer, UInt8
from PIL import Image


def shrink(
    image: Image.Image,
    size: tuple[int, int],
    resize_filter: str,
    box: tuple[int, int, int, int] | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """An RGB image, or a part of it, at a size that is nowhere larger.

    Args:
        image: in RGB.
        size: width and height of the result.
        resize_filter: one of `config.sources.RESIZE_FILTERS`.
        box: left, top, right and bottom of the part. Pillow rounds a part otherwise than a crop.
    """
    if resize_filter == "box":
        return np.asarray(image.resize(size, Image.Resampling.BOX, box))
    width, height = size
    return area_average(np.asarray(image.crop(box)), height, width)


def area_average(
    pixels: UInt8[np.ndarray, "h w c"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} c"]:
    """Each value the mean over the rectangle that it covers, in whole numbers, halves rounded up."""
    columns = _integrals(pixels, height)
    total = _integrals(columns.swapaxes(0, 1), width).swapaxes(0, 1)
    area = pixels.shape[0] * pixels.shape[1]
    return ((2 * total + area) // (2 * area)).astype(np.uint8, order="C")


def _integrals(values: Integer[np.ndarray, "n m c"], count: int) -> Int[np.ndarray, "{count} m c"]:
    """Sums over `count` equal parts of the first axis, times `count`, so that they are whole numbers."""
    # Each edge lies `rest / count` into the value number `whole`.
    whole, rest = np.divmod(np.arange(count + 1) * len(values), count)
    begun = values[np.minimum(whole, len(values) - 1)] * np.expand_dims(rest, (1, 2))
    sums = [values[a:b].sum(axis=0, dtype=np.int64) for a, b in itertools.pairwise(whole)]
    return count * np.stack(sums) + np.diff(begun, axis=0)
