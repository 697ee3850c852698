"""8-bit images as bytes of image formats, and several of them side by side."""

import io
from typing import Any

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
from jaxtyping import UInt8

from diffc_jax.runtime.files import AnyPath, atomic_write
from diffc_jax.runtime.image_files import decode_image_file
from diffc_jax.runtime.optional import require


def encode_image(image: UInt8[np.ndarray, "h w *c"], container: str, **settings: Any) -> bytes:
    """The file of an image, in a format that Pillow writes ("PNG", "WEBP"), with Pillow's settings."""
    stream = io.BytesIO()
    PIL.Image.fromarray(image).save(stream, container, **settings)
    return stream.getvalue()


def decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels of a file that Pillow reads and a program of ours has just made."""
    return np.asarray(decode_image_file(data, "encoded image").to_rgb())


def encode_jpegxl(image: UInt8[np.ndarray, "h w 3"], **settings: Any) -> bytes:
    """A JPEG XL codestream without a container; `settings` are those of `imagecodecs.jpegxl_encode`."""
    encode = require("imagecodecs").jpegxl_encode
    return bytes(encode(image, usecontainer=False, numthreads=1, **settings))


def decode_jpegxl(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """Pixels of a JPEG XL file."""
    return np.asarray(require("imagecodecs").jpegxl_decode(data, numthreads=1))


def save_png(image: UInt8[np.ndarray, "h w *c"], path: AnyPath) -> None:
    """Writes a PNG file that says that its colours are those of sRGB, whole or not at all."""
    colours = PIL.PngImagePlugin.PngInfo()
    colours.add(b"sRGB", b"\x00")  # for perceptual rendering
    with atomic_write(path) as temporary:
        temporary.write_bytes(encode_image(image, "PNG", pnginfo=colours))


def tile(images: UInt8[np.ndarray, "n h w c"], columns: int) -> UInt8[np.ndarray, "H W c"]:
    """Images side by side in rows of `columns`, the last row filled up with white."""
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    blank = np.full((rows * columns - n, height, width, channels), 255, np.uint8)
    cells = np.concatenate([images, blank]).reshape(rows, columns, height, width, channels)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)
