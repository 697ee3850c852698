"""Tiles in batches of one size, so that each program compiles once."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Array, Int

# Puts a batch on the devices, for instance a part of it on each.
Place = Callable[[np.ndarray], Array]


def batches(tiles: Sequence[int], batch_size: int) -> Iterator[Int[np.ndarray, " b"]]:
    """Consecutive tiles; the last batch is filled up with its first tile."""
    for start in range(0, len(tiles), batch_size):
        batch = list(tiles[start : start + batch_size])
        yield np.array(batch + batch[:1] * (batch_size - len(batch)))
