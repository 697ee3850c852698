"""Pictures made of 8-bit images."""

import numpy as np
import PIL.Image
from jaxtyping import UInt8

from diffc_jax.runtime.files import AnyPath, atomic_write


def tile(images: UInt8[np.ndarray, "n h w c"], columns: int) -> UInt8[np.ndarray, "H W c"]:
    """Images side by side in rows of `columns`, the last row filled up with white."""
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    blank = np.full((rows * columns - n, height, width, channels), 255, np.uint8)
    cells = np.concatenate([images, blank]).reshape(rows, columns, height, width, channels)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def save_png(image: UInt8[np.ndarray, "h w *c"], path: AnyPath) -> None:
    """Writes a PNG file, whole or not at all."""
    with atomic_write(path) as temporary:
        PIL.Image.fromarray(image).save(temporary, format="PNG")
