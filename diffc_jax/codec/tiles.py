"""Images of any size as square tiles of the denoiser's size.

Tiles lie side by side without overlap, from the upper left corner. What the last ones hold beyond the
right and the lower edge is the image mirrored there (the outermost row or column comes twice; mirrored
again where the image is smaller than that), so that a denoiser sees a plausible continuation; it is coded
with the rest and cut off afterwards. Each tile is coded on its own: at low rates their borders may show.
"""

import numpy as np
from jaxtyping import UInt8


def cut(image: UInt8[np.ndarray, "h w 3"], tile: int) -> UInt8[np.ndarray, "n tile tile 3"]:
    """The tiles of an image in raster order, ceil(h / tile) * ceil(w / tile) of them.

    Args:
        image: of any size but empty.
        tile: side of a tile in pixels.
    """
    height, width, channels = image.shape
    padding = ((0, -height % tile), (0, -width % tile), (0, 0))
    padded = np.pad(image, padding, mode="symmetric")
    rows = padded.reshape(-1, tile, padded.shape[1] // tile, tile, channels)
    return rows.swapaxes(1, 2).reshape(-1, tile, tile, channels)


def assemble(
    tiles: UInt8[np.ndarray, "n tile tile 3"], width: int, height: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Inverts `cut`: the image of this size that the tiles were cut from.

    Args:
        tiles: in raster order.
        width: of the image in pixels.
        height: of the image in pixels.
    """
    tile, channels = tiles.shape[1], tiles.shape[3]
    across = -(-width // tile)
    rows = tiles.reshape(-1, across, tile, tile, channels).swapaxes(1, 2)
    return rows.reshape(-1, across * tile, channels)[:height, :width]
