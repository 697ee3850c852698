"""Images of any size as square tiles of the denoiser's size.

Tiles lie side by side without overlap, from the upper left corner. What the last ones hold beyond the
right and the lower edge is the image mirrored there (the outermost row or column comes twice; mirrored
again where the image is smaller than that), so that a denoiser sees a plausible continuation; it is coded
with the rest and cut off afterwards. Each tile is coded on its own: at low rates their borders may show, and
so larger images are coded as pictures (`picture_chain`). Residuals are of tiles there, too.
"""

import numpy as np
from jaxtyping import UInt8, UInt32


def cut(image: UInt8[np.ndarray, "h w 3"], tile: int) -> UInt8[np.ndarray, "n tile tile 3"]:
    """The tiles of an image, not empty, in raster order: ceil(h / tile) * ceil(w / tile) of them."""
    height, width, channels = image.shape
    padding = ((0, -height % tile), (0, -width % tile), (0, 0))
    padded = np.pad(image, padding, mode="symmetric")
    rows = padded.reshape(-1, tile, padded.shape[1] // tile, tile, channels)
    return rows.swapaxes(1, 2).reshape(-1, tile, tile, channels)


def assemble(
    tiles: UInt8[np.ndarray, "n tile tile 3"], width: int, height: int
) -> UInt8[np.ndarray, "h w 3"]:
    """Inverts `cut`: the image of this size in pixels that the tiles were cut from."""
    tile, channels = tiles.shape[1], tiles.shape[3]
    across = -(-width // tile)
    rows = tiles.reshape(-1, across, tile, tile, channels).swapaxes(1, 2)
    return rows.reshape(-1, across * tile, channels)[:height, :width]


def tile_keys(seed: int, n_tiles: int) -> UInt32[np.ndarray, "n 2"]:
    """The key of each tile of a file, (seed, tile), which chooses the randomness that both sides share."""
    return np.stack([np.full(n_tiles, seed), np.arange(n_tiles)], axis=1).astype(np.uint32)
