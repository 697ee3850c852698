"""Tiles in batches of one size, so that each program compiles once."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Array, Int

# Puts a batch on the devices, for instance a part of it on each.
Place = Callable[[np.ndarray], Array]


def least_batch_size(n_tiles: int, batch_size: int, place: Place) -> int:
    """The size of a batch of all tiles, or `batch_size` if that is less.

    Args:
        n_tiles: how many tiles there are.
        batch_size: the largest size, which `place` can divide among its devices.
        place: puts batches on the devices; the size is a multiple of their number, too.
    """
    devices = len(place(np.zeros((batch_size, 1))).sharding.addressable_devices)
    return min(-(-n_tiles // devices) * devices, batch_size)


def batches(tiles: Sequence[int], batch_size: int) -> Iterator[Int[np.ndarray, " b"]]:
    """Consecutive tiles; the last batch is filled up with its first tile."""
    for start in range(0, len(tiles), batch_size):
        batch = list(tiles[start : start + batch_size])
        yield np.array(batch + batch[:1] * (batch_size - len(batch)))
