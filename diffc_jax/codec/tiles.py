"""Images of any size as square tiles of the denoiser's size, and tiles in batches.

Tiles lie side by side without overlap, from the upper left corner. What the last ones hold beyond the
right and the lower edge is the image mirrored there (the outermost row or column comes twice; mirrored
again where the image is smaller than that), so that a denoiser sees a plausible continuation; it is coded
with the rest and cut off afterwards. Each tile is coded on its own: at low rates their borders may show, and
so larger images are coded as pictures (`picture_chain`). Residuals are of tiles there, too.
"""

import dataclasses
import functools
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


@dataclasses.dataclass(frozen=True)
class Batching:
    """How tiles or windows go through the denoiser together.

    Attributes:
        sizes: of batches, falling; programs are compiled for each that is needed, whatever the image.
        fills_up: whether a large batch that is not full takes less time than several small ones.
    """

    sizes: tuple[int, ...]
    fills_up: bool

    def __call__(self, rows: Sequence[int]) -> Iterator[tuple[Int[np.ndarray, " b"], int]]:
        """Consecutive rows in batches, with the number of those that count.

        The first one of a batch fills it up. Unless `fills_up`, fewer are added than the next smaller size,
        which would have been another batch.
        """
        first = 0
        while left := len(rows) - first:
            size = self._size_for(left)
            count = min(left, size)
            some = list(rows[first : first + count])
            yield np.array(some + some[:1] * (size - count)), count
            first += count

    def _size_for(self, left: int) -> int:
        if self.fills_up:
            return min((one for one in self.sizes if one >= left), default=self.sizes[0])
        smaller = (*self.sizes[1:], 1)
        fitting = (one for one, less in zip(self.sizes, smaller, strict=True) if left > one - less)
        return next(fitting, self.sizes[-1])


@functools.lru_cache(maxsize=16)
def make_batching(batch_size: int, place: Place) -> Batching:
    """Batches of `batch_size`, of a quarter, a sixteenth and so on, down to one for each device.

    `batch_size` is a multiple of the number of devices among which `place` divides a batch. On one CPU a
    call takes about as long as its images do one after the other.
    """
    placed = place(np.zeros((batch_size, 1)))
    devices = len(placed.sharding.addressable_devices)
    sizes = [batch_size]
    while sizes[-1] > devices:
        sizes.append(-(-sizes[-1] // (4 * devices)) * devices)
    return Batching(tuple(sizes), jax.default_backend() != "cpu")
