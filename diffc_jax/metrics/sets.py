"""Distances between sets of images, reconstructions and a reference, in the features of a network."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float32

from diffc_jax.metrics.frechet import FrechetReference
from diffc_jax.metrics.kid import MIN_SUBSETS, kernel_distance
from diffc_jax.metrics.statistics import RunningCovariance

# Kernel distances hold the features of this many images; Fréchet distances only their moments.
_MAX_KERNEL_IMAGES = 10_000
# Features are summed in blocks: one product of large matrices instead of many small ones.
_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class SetDistance:
    """Distances between the features of two sets of images, as columns of results."""

    fid: float
    fid_features: str
    fid_reference: str
    kid: float | None
    kid_stderr: float | None


class Reference:
    """A reference set in the space of a feature network.

    Attributes:
        network: name of the feature network.
        description: of the images.
    """

    def __init__(
        self,
        moments: RunningCovariance,
        features: Float32[np.ndarray, "n d"] | None,
        network: str,
        description: str,
    ):
        """Decomposes the covariance of all; `features` are the first, for kernel distances; None for none.

        Raises:
            InputError: fewer than two images.
        """
        self._features, self.network, self.description = features, network, description
        self._frechet = FrechetReference(moments, network)

    def distance(self, batches: Iterable[Float32[np.ndarray, "_ d"]]) -> SetDistance:
        """Fréchet and kernel distance of a set, the latter where there are features enough."""
        moments, kept = moments_of(batches)
        kid, stderr = None, None
        if self._features is not None and min(len(kept), len(self._features)) >= 2 * MIN_SUBSETS:
            kernel = kernel_distance(kept, self._features)
            kid, stderr = kernel.value, kernel.stderr
        fid = self._frechet.distance(moments)
        return SetDistance(fid, self.network, self.description, kid, stderr)


def moments_of(
    batches: Iterable[Float32[np.ndarray, "_ d"]],
) -> tuple[RunningCovariance, Float32[np.ndarray, "n d"]]:
    """Mean and covariance of all features, and the first features themselves."""
    total: RunningCovariance | None = None
    kept: list[np.ndarray] = []
    n_kept = 0
    for block in _blocks(batches):
        moments = RunningCovariance.of(block)
        total = moments if total is None else total + moments
        kept.append(block[: _MAX_KERNEL_IMAGES - n_kept])
        n_kept += len(kept[-1])
    assert total is not None
    return total, np.concatenate(kept)


def _blocks(
    batches: Iterable[Float32[np.ndarray, "_ d"]],
) -> Iterable[Float32[np.ndarray, "_ d"]]:
    waiting: list[np.ndarray] = []
    for batch in batches:
        waiting.append(batch)
        if sum(map(len, waiting)) >= _BLOCK:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)
