"""Distances between sets of images, reconstructions and a reference, in the features of a network."""

import math
from collections.abc import Collection, Mapping

from diffc_jax.config.base import SET_METRICS
from diffc_jax.metrics import kid, manifolds, two_sample
from diffc_jax.metrics.feature_sets import FeatureSet
from diffc_jax.metrics.frechet import FrechetReference
from diffc_jax.metrics.kid import KernelReference
from diffc_jax.metrics.manifolds import ManifoldReference
from diffc_jax.metrics.statistics import Estimate

# Numbers of a set by name, where they are known.
Estimates = Mapping[str, Estimate]

# What config.eval.set_metrics may name.
PRECISION_RECALL, CLASSIFIER = SET_METRICS
_OVERLAPS = ("precision", "recall", "density", "coverage")
_DISTANCES = ("fid", "kid")
_NAMES = (
    *_DISTANCES,
    *(f"{name}_originals" for name in _DISTANCES),
    *(f"{name}_minus_mean" for name in _DISTANCES),
    *_OVERLAPS,
    "auc",
)
# Columns of results, each name with its standard error.
SET_COLUMNS = tuple(column for name in _NAMES for column in (name, f"{name}_stderr"))


class Reference:
    """A reference set in the space of a feature network."""

    def __init__(
        self,
        features: FeatureSet,
        network: str,
        *,
        paired: bool = False,
        overlap: bool = False,
    ):
        """Does what does not depend on the images that are compared with it.

        Args:
            features: of the reference images.
            network: name of the feature network.
            paired: image i of every set belongs to reference image i.
            overlap: whether `estimates` has precision, recall, density and coverage.

        Raises:
            InputError: fewer than two images.
        """
        count = len(features.first)
        self._features, self._paired = features.first, paired
        self._frechet = FrechetReference(features.moments, network)
        self._kernel = (
            KernelReference(features.first, paired=paired) if count >= kid.MIN_IMAGES else None
        )
        self._manifold = (
            ManifoldReference(features.first) if overlap and count >= manifolds.MIN_IMAGES else None
        )

    def estimates(self, images: FeatureSet) -> dict[str, Estimate]:
        """Numbers of a set of images by name; without those for which it is too small."""
        first, count = images.first, len(images.first)
        found = {
            "fid": self._frechet.estimate(
                images.moments, first, self._features, paired=self._paired
            )
        }
        if self._kernel is not None and count >= kid.MIN_IMAGES:
            found["kid"] = self._kernel.distance(first)
        if self._manifold is not None and count >= manifolds.MIN_IMAGES:
            overlap = self._manifold.overlap(first)
            found |= {name: getattr(overlap, name) for name in _OVERLAPS}
        return found


class Comparison:
    """What sets of reconstructions are compared with: their originals, and others if there are some.

    Attributes:
        network: name of the feature network.
        description: of the images behind the columns `fid` and `kid`.
    """

    def __init__(
        self,
        originals: FeatureSet,
        others: FeatureSet | None,
        network: str,
        description: str,
        metrics: Collection[str],
    ):
        """`metrics` are some of `SET_METRICS`; `others` take the place of the originals where there are some.

        Raises:
            InputError: fewer than two images.
        """
        self.network, self.description = network, description
        overlap = PRECISION_RECALL in metrics
        self._originals = Reference(
            originals, network, paired=True, overlap=overlap and others is None
        )
        self._others = None if others is None else Reference(others, network, overlap=overlap)
        self._features = originals.first
        self._has_classifier = (
            CLASSIFIER in metrics and len(originals.first) >= two_sample.MIN_IMAGES
        )

    def estimates(self, images: FeatureSet) -> dict[str, Estimate]:
        """Numbers of a set of reconstructions, of the same images as the originals, by column."""
        found = of_originals = self._originals.estimates(images)
        if self._others is not None:
            found = self._others.estimates(images)
        found = found | {f"{n}_originals": of_originals[n] for n in _DISTANCES if n in of_originals}
        if self._has_classifier:
            found["auc"] = two_sample.distinguishability(images.first, self._features)
        return found


def compared_with_mean(found: Estimates, mean: Estimates) -> dict[str, Estimate]:
    """How much larger distances are than those of the posterior mean of the same latents."""
    return {
        f"{name}_minus_mean": found[name] - mean[name]
        for name in _DISTANCES
        if name in found and name in mean
    }


def set_columns(found: Estimates) -> dict[str, float]:
    """All `SET_COLUMNS`; not a number where there is nothing."""
    columns = dict.fromkeys(SET_COLUMNS, math.nan)
    for name, estimate in found.items():
        columns |= {name: estimate.value, f"{name}_stderr": estimate.stderr}
    return columns
