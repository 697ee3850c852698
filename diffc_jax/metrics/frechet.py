"""Fréchet distance between the features of two sets of images, each taken for a Gaussian.

Heusel et al. 2017 (arXiv:1706.08500): with Inception-v3 features this is the FID. Everything is
float64: single precision loses the distance between good reconstructions and their originals.
"""

import numpy as np
from absl import logging
from jaxtyping import Float64

from diffc_jax.errors import InputError
from diffc_jax.metrics.statistics import RunningCovariance


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
        self._root = _root(moments.covariance())
        self._warned = False

    def distance(self, moments: RunningCovariance) -> float:
        """`frechet_distance` of a set of images to the reference set; 0 is best.

        The first time that either set is no larger than the feature dimension, a warning is logged:
        its covariance is singular and the value is biased upwards by an amount that depends on the
        number of images, so it may be compared at equal numbers only.

        Raises:
            InputError: fewer than two images, or features of another dimension.
        """
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
        return _distance(reference, self._root, moments)


def frechet_distance(a: RunningCovariance, b: RunningCovariance) -> float:
    """`|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^(1/2) S_b S_a^(1/2))^(1/2))`, symmetric in its arguments.

    Raises:
        InputError: fewer than two vectors on either side.
    """
    return _distance(a, _root(a.covariance()), b)


def _distance(
    a: RunningCovariance, root_a: Float64[np.ndarray, "d r"], b: RunningCovariance
) -> float:
    # With S = R R^T the trace of the mixed root is the sum of the singular values of R_a^T R_b. Roots of
    # the eigenvalues of S_a^(1/2) S_b S_a^(1/2) are the same in theory, but the rounding of small
    # eigenvalues, once its root is taken, adds up over the thousands of weak directions of features.
    root_b = _root(b.covariance())
    mixed = np.linalg.svd(root_a.T @ root_b, compute_uv=False).sum()
    spread = np.square(root_a).sum() + np.square(root_b).sum() - 2.0 * mixed
    return float(np.square(a.mean - b.mean).sum() + spread)


def _root(covariance: Float64[np.ndarray, "d d"]) -> Float64[np.ndarray, "d r"]:
    """R with `R R^T` = covariance, without columns for directions in which only rounding is left."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > len(values) * np.finfo(np.float64).eps * values[-1]
    return vectors[:, kept] * np.sqrt(values[kept])


def _check_count(moments: RunningCovariance, kind: str) -> None:
    if moments.count < 2:
        raise InputError(
            f"Fréchet distance: the {kind} set has {moments.count} images and needs at least 2"
        )
