"""Features of a set of images as distances need them: the moments of all, and the first of them."""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float32

from diffc_jax.errors import InputError
from diffc_jax.metrics.statistics import RunningCovariance
from diffc_jax.runtime import files
from diffc_jax.runtime.array_files import open_arrays

# What compares images one by one holds the features of this many: 51 MB of 1280 features.
MAX_KEPT = 10_000
# Features are summed in blocks: one product of large matrices instead of many small ones.
_BLOCK = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of a set of images.

    Attributes:
        moments: of all images.
        first: features of the first `MAX_KEPT` images.
    """

    moments: RunningCovariance
    first: Float32[np.ndarray, "n d"]

    @classmethod
    def of(
        cls, batches: Iterable[Float32[np.ndarray, "_ d"]], network: str = "features"
    ) -> "FeatureSet":
        """Takes features batch by batch; `network` is for messages.

        Raises:
            InputError: no images.
        """
        total: RunningCovariance | None = None
        kept: list[np.ndarray] = []
        n_kept = 0
        for block in _blocks(batches):
            moments = RunningCovariance.of(block)
            total = moments if total is None else total + moments
            kept.append(block[: MAX_KEPT - n_kept])
            n_kept += len(kept[-1])
        if total is None:
            raise InputError(f"{network}: there are no images to compute features of")
        return cls(total, np.concatenate(kept))


def save_features(path: files.AnyPath, features: FeatureSet) -> None:
    """Writes a set as `.npz`, whole or not at all."""
    with files.atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            allow_pickle=False,
            first=features.first,
            **dataclasses.asdict(features.moments),
        )


def load_features(path: files.AnyPath, dimension: int | None = None) -> FeatureSet:
    """Reads what `save_features` wrote; of features of this dimension, if it is given.

    Raises:
        InputError: it is missing or damaged, or holds something else.
    """
    with open_arrays(path, "is damaged", "delete it and run again") as content:
        count = int(content.read("count", (), np.integer))
        mean = content.read("mean", (dimension,), np.floating)
        scatter = content.read("scatter", (len(mean), len(mean)), np.floating)
        first = content.read("first", (None, len(mean)), np.float32)
        finite = all(np.isfinite(array).all() for array in (mean, scatter, first))
        if not finite or count < 1 or len(first) != min(count, MAX_KEPT):
            raise content.refuse(f"holds no finite features of {count} images")
    return FeatureSet(RunningCovariance(count, mean, scatter), first)


def _blocks(
    batches: Iterable[Float32[np.ndarray, "_ d"]],
) -> Iterator[Float32[np.ndarray, "_ d"]]:
    waiting: list[np.ndarray] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= _BLOCK:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
