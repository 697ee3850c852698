"""Images of any size as square tiles of the denoiser's size, and tiles in batches.

Tiles lie side by side without overlap, from the upper left corner. What the last ones hold beyond the
right and the lower edge is the image mirrored there (the outermost row or column comes twice; mirrored
again where the image is smaller than that), so that a denoiser sees a plausible continuation; it is coded
with the rest and cut off afterwards. Each tile is coded on its own: at low rates their borders may show, and
so larger images are coded as pictures (`picture_chain`). Residuals are of tiles there, too.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Array, Int, UInt8, UInt32

# Puts a batch on the devices, for instance divided among them.
Place = Callable[[np.ndarray], Array]


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


def least_batch_size(n_tiles: int, batch_size: int, place: Place) -> int:
    """The size of a batch of all tiles, or `batch_size` if that is less.

    Both it and `batch_size` are multiples of the number of devices among which `place` divides a batch.
    """
    devices = len(place(np.zeros((batch_size, 1))).sharding.addressable_devices)
    return min(-(-n_tiles // devices) * devices, batch_size)


def batches(tiles: Sequence[int], batch_size: int) -> Iterator[Int[np.ndarray, " b"]]:
    """Consecutive tiles, in batches of one size so that each program compiles once.

    The last batch is filled up with its first tile.
    """
    for start in range(0, len(tiles), batch_size):
        batch = list(tiles[start : start + batch_size])
        yield np.array(batch + batch[:1] * (batch_size - len(batch)))
