"""Fréchet distance between the features of two sets of images, each taken for a Gaussian.

Heusel et al. 2017 (arXiv:1706.08500): with Inception-v3 features this is the FID. Everything is
float64: single precision loses the distance between good reconstructions and their originals.

Standard errors are the infinitesimal jackknife's: the derivative of the distance by the weight of each image.
The bootstrap cannot give them. Its sets have repeated images, and a distance is biased by how few different
ones there are. That bias is no part of the standard error, which says how much the distance would vary
between sets of the same number of images.
"""

import dataclasses
import functools

import numpy as np
from absl import logging
from jaxtyping import Float, Float64

from diffc_jax.errors import InputError
from diffc_jax.metrics.statistics import Estimate, RunningCovariance

# Of a distance, over the sum of both variances.
_ROUNDING = 1e-13


class FrechetReference:
    """Reference set of images; its eigen-decomposition, the slow part, is computed once."""

    def __init__(self, moments: RunningCovariance, features: str):
        """Takes the moments of the reference set, in the space of the feature network `features`.

        Raises:
            InputError: fewer than two images.
        """
        _check_count(moments, "reference")
        self._moments = moments
        self._features = features
        self._root = _root(moments)
        self._warned = False

    def distance(self, moments: RunningCovariance) -> float:
        """`frechet_distance` of a set of images to the reference set; 0 is best.

        The first time that either set is no larger than the feature dimension, a warning is logged:
        its covariance is singular and the value is biased upwards by an amount that depends on the
        number of images, so it may be compared at equal numbers only.

        Raises:
            InputError: fewer than two images, or features of another dimension.
        """
        self._check(moments)
        return _distance(self._moments, self._root.matrix, moments)

    def estimate(
        self,
        moments: RunningCovariance,
        images: Float[np.ndarray, "n d"],
        reference: Float[np.ndarray, "m d"],
        *,
        paired: bool = False,
    ) -> Estimate:
        """`distance` with its standard error.

        Args:
            moments: of all images.
            images: features of the images, or of some of them, of which the error is then estimated.
            reference: features of the reference images, or of some of them.
            paired: image i belongs to reference image i, as a reconstruction to its original.

        Raises:
            InputError: as of `distance`.
        """
        self._check(moments)
        own, other = self._root, _root(moments)
        left, mixed, right = np.linalg.svd(own.matrix.T @ other.matrix, full_matrices=False)
        apart = moments.mean - self._moments.mean
        value = _value(apart, own.matrix, other.matrix, mixed)
        of_images = other.influences(images, moments, right.T, mixed, apart)
        of_reference = own.influences(reference, self._moments, left, mixed, -apart)
        parts = [(of_images, moments.count), (of_reference, self._moments.count)]
        if paired:
            parts = [(of_images + of_reference, moments.count)]
        # The error of all images, from some of them.
        scaled = (np.sqrt(len(part) / count) * part for part, count in parts)
        return Estimate(value, tuple(scaled))

    def _check(self, moments: RunningCovariance) -> None:
        _check_count(moments, "image")
        reference = self._moments
        if moments.mean.shape != reference.mean.shape:
            raise InputError(
                f"Fréchet distance: the images have {moments.mean.size} features, the reference "
                f"{reference.mean.size}; use the same feature network for both"
            )
        fewest = min(moments.count, reference.count)
        if fewest <= moments.mean.size and not self._warned:
            self._warned = True
            logging.warning(
                "%s: %d IMAGES ARE TOO FEW for %d features: the Fréchet distance is biased upwards; "
                "compare it at the same number of images only, and publish it from 10,000 or more",
                self._features,
                fewest,
                moments.mean.size,
            )


def frechet_distance(a: RunningCovariance, b: RunningCovariance) -> float:
    """`|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^(1/2) S_b S_a^(1/2))^(1/2))`, symmetric in its arguments.

    Raises:
        InputError: fewer than two vectors on either side.
    """
    return _distance(a, _root(a).matrix, b)


def _distance(
    a: RunningCovariance, root_a: Float64[np.ndarray, "d r"], b: RunningCovariance
) -> float:
    root_b = _root(b).matrix
    mixed = np.linalg.svd(root_a.T @ root_b, compute_uv=False)
    return _value(a.mean - b.mean, root_a, root_b, mixed)


def _value(
    apart: Float64[np.ndarray, " d"],
    root_a: Float64[np.ndarray, "d r"],
    root_b: Float64[np.ndarray, "d s"],
    mixed: Float64[np.ndarray, " _"],
) -> float:
    # With S = R R^T the trace of the mixed root is the sum of the singular values of R_a^T R_b. Roots of
    # the eigenvalues of S_a^(1/2) S_b S_a^(1/2) are the same in theory, but the rounding of small
    # eigenvalues, once its root is taken, adds up over the thousands of weak directions of features.
    traces = np.square(root_a).sum() + np.square(root_b).sum()
    value = float(np.square(apart).sum() + traces - 2.0 * mixed.sum())
    # What equal sets are apart is rounding, which a log axis would show as a distance of its own.
    return 0.0 if abs(value) <= _ROUNDING * traces else value


@dataclasses.dataclass(frozen=True, eq=False)
class _Root:
    """R with `R R^T` = covariance, without columns for directions in which only rounding is left."""

    matrix: Float64[np.ndarray, "d r"]
    variances: Float64[np.ndarray, " r"]

    @classmethod
    def of(cls, covariance: Float64[np.ndarray, "d d"]) -> "_Root":
        values, vectors = np.linalg.eigh(covariance)
        kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
        return cls(vectors[:, kept] * np.sqrt(values[kept]), values[kept])

    def influences(
        self,
        vectors: Float[np.ndarray, "n d"],
        moments: RunningCovariance,
        rotation: Float64[np.ndarray, "r k"],
        mixed: Float64[np.ndarray, " k"],
        apart: Float64[np.ndarray, " d"],
    ) -> Float64[np.ndarray, " n"]:
        """Derivatives of the distance by the weights of the vectors, whose moments these are.

        By the covariance S, the trace of the mixed root has the derivative T/2, with T the map that carries
        one Gaussian to the other; on a vector, it is a sum over the singular vectors `rotation`.
        """
        centred = vectors - moments.mean
        white = centred @ (self.matrix / self.variances) @ rotation
        carried = np.square(white) @ mixed - mixed.sum()
        spread = np.square(centred).sum(1) - self.variances.sum()
        return 2.0 * centred @ apart + spread - carried


@functools.lru_cache(maxsize=2)
def _root(moments: RunningCovariance) -> _Root:
    """The root of the covariance; a set that is compared with two references needs it twice."""
    return _Root.of(moments.covariance())


def _check_count(moments: RunningCovariance, kind: str) -> None:
    if moments.count < 2:
        raise InputError(
            f"Fréchet distance: the {kind} set has {moments.count} images and needs at least 2"
        )
