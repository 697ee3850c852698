"""Images of any size as square tiles of the denoiser's size, and tiles in batches.

Tiles lie side by side without overlap, from the upper left corner. What the last ones hold beyond the
right and the lower edge is the image mirrored there (the outermost row or column comes twice; mirrored
again where the image is smaller than that), so that a denoiser sees a plausible continuation; it is coded
with the rest and cut off afterwards. Each tile is coded on its own: at low rates their borders may show, and
so larger images are coded as pictures (`picture_chain`). Residuals are of tiles there, too.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence

import jax
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


def batch_size_for(n_tiles: int, most: int, place: Place) -> int:
    """The size of the batches in which so many tiles go through a denoiser; each size is compiled.

    A single tile has a program of its own. `most` is a multiple of the number of devices among which `place`
    divides a batch. Where these are one CPU, a call takes as long as its images do in smaller calls, which
    are easier to fill.
    """
    devices = len(place(np.zeros((most, 1))).sharding.addressable_devices)
    if n_tiles <= devices:
        return devices
    if devices == 1 and jax.default_backend() == "cpu":
        return min(most, max(_TILES_ON_CPU, _TILES_PER_CORE * multiprocessing.cpu_count()))
    return most


_TILES_ON_CPU, _TILES_PER_CORE = 4, 2


def batches(tiles: Sequence[int], size: int) -> Iterator[tuple[Int[np.ndarray, " b"], int]]:
    """Consecutive tiles in batches of one size, with the number of those that count.

    The last batch is filled up with its first tile.
    """
    for start in range(0, len(tiles), size):
        some = list(tiles[start : start + size])
        yield np.array(some + some[:1] * (size - len(some))), len(some)
