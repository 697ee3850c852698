"""Averages over the images of a set, as far as their numbers are in a store."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from diffc_jax.evaluation.store import Arrays, Store
from diffc_jax.metrics.psnr import psnr_from_mse
from diffc_jax.metrics.statistics import RunningMean


class Averages:
    """Means with their standard errors, which go on where they were when a store has more images.

    Attributes:
        count: number of images.
    """

    def __init__(
        self,
        store: Store,
        images: range,
        names: Sequence[str],
        averaged: Callable[[Arrays], Arrays],
    ):
        """Averages nothing yet; `averaged` makes of arrays `names` and "psnr/SERIES" what is averaged."""
        self.count = 0
        self._store, self._images, self._names, self._averaged = store, images, names, averaged
        self._means: dict[str, RunningMean] = {}

    def update(self) -> "Averages":
        """Takes in the images that come next in the set, up to the first that is not in the store."""
        rest = self._images[self.count :]
        for numbers in read_numbers(self._store, rest, self._names):
            self.count += len(numbers["index"])
            for name, values in self._averaged(numbers).items():
                new = RunningMean.of(values)
                self._means[name] = self._means[name] + new if name in self._means else new
        return self

    def __getitem__(self, name: str) -> RunningMean:
        """The mean of what is averaged under a name."""
        return self._means[name]


def read_numbers(store: Store, images: range, names: Sequence[str]) -> Iterator[Arrays]:
    """Arrays of a store, batch by batch, with "psnr/SERIES" (dB) for every "mse/SERIES"."""
    for numbers in store.read(images, names):
        yield numbers | {
            f"psnr/{name.removeprefix('mse/')}": psnr_from_mse(mse)
            for name, mse in numbers.items()
            if name.startswith("mse/")
        }


def finite(value: float | Float[np.ndarray, ""]) -> float | None:
    """None for what is not a finite number."""
    return float(value) if math.isfinite(value) else None
