"""Tiles in batches of one size, which go through a denoiser."""

import dataclasses
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import jax
import numpy as np
from jaxtyping import Array, Int

# Puts a batch on the devices, for instance divided among them.
Place = Callable[[np.ndarray], Array]

Rows = Int[np.ndarray, " b"]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Batches:
    """How tiles are divided.

    Attributes:
        size: of each batch; each size is compiled.
        at_once: how many batches are worked on at the same time, each by a thread.
    """

    size: int
    at_once: int = 1

    def of(self, tiles: Sequence[int]) -> Iterator[tuple[Rows, int]]:
        """Consecutive tiles in batches, with the number of those that count.

        The last batch is filled up with its first tile.
        """
        for start in range(0, len(tiles), self.size):
            some = list(tiles[start : start + self.size])
            yield np.array(some + some[:1] * (self.size - len(some))), len(some)

    def map(
        self, function: Callable[[Rows], T], tiles: Sequence[int]
    ) -> Iterator[tuple[Rows, int, T]]:
        """Those batches in order, each with what the function makes of it."""
        batches = list(self.of(tiles))
        if self.at_once == 1 or len(batches) == 1:
            for rows, count in batches:
                yield rows, count, function(rows)
            return
        pool = ThreadPoolExecutor(self.at_once)
        try:
            results = pool.map(function, [rows for rows, _ in batches])
            for (rows, count), result in zip(batches, results, strict=True):
                yield rows, count, result
        finally:
            pool.shutdown(cancel_futures=True)


def batches_for(n_tiles: int, most: int, place: Place) -> Batches:
    """How so many tiles are divided, into batches of up to `most`.

    A single tile has a program of its own. `most` is a multiple of the number of devices among which `place`
    divides a batch. Where these are one CPU, a call takes as long as its images do in smaller calls, which
    are easier to fill, and a second one uses the cores that the first leaves idle.
    """
    devices = len(place(np.zeros((most, 1))).sharding.addressable_devices)
    if n_tiles <= devices:
        return Batches(devices)
    if devices == 1 and jax.default_backend() == "cpu":
        enough = max(_TILES_ON_CPU, _TILES_PER_CORE * multiprocessing.cpu_count())
        return Batches(min(most, enough), _AT_ONCE_ON_CPU)
    return Batches(most)


_TILES_ON_CPU, _TILES_PER_CORE, _AT_ONCE_ON_CPU = 4, 2, 2
