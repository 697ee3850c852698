"""Kernel Inception Distance (Binkowski et al. 2018, arXiv:1801.01401), NumPy, float64.

The squared maximum mean discrepancy with the kernel `(x.y / d + 1)^3`, estimated without bias at
any number of images, unlike the Fréchet distance.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from diffc_jax import rng
from diffc_jax.errors import InputError
from diffc_jax.metrics.statistics import standard_error

MIN_SUBSETS = 10


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """A distance and how well it is known.

    Attributes:
        value: estimate of the squared MMD; around 0 (of either sign) for two sets of one source.
        stderr: its standard error.
        n_subsets: number of independent estimates averaged.
    """

    value: float
    stderr: float
    n_subsets: int


def kernel_distance(
    images: Float[np.ndarray, "n _"],
    reference: Float[np.ndarray, "m _"],
    *,
    subset_size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """KID of a set of images against a reference set.

    Both sets are shuffled and cut into disjoint subsets, so that the estimates averaged are
    independent and their scatter gives an honest standard error. (Subsets drawn anew each time, the
    other habit, have the same mean but share images.)

    Args:
        images: features of the images judged.
        reference: features of the reference images.
        subset_size: images in a subset, at least 2; fewer if there would not be 10 subsets.
        seed: of the shuffling.

    Raises:
        InputError: fewer than 20 images on either side, or features of another dimension.
    """
    if images.shape[1] != reference.shape[1]:
        raise InputError(
            f"KID: the images have {images.shape[1]} features, the reference {reference.shape[1]}; "
            "use the same feature network for both"
        )
    fewest = min(len(images), len(reference))
    size = min(subset_size, fewest // MIN_SUBSETS)
    if size < 2:
        raise InputError(
            f"KID: needs at least {2 * MIN_SUBSETS} images in both sets, and one has {fewest}"
        )
    count = fewest // size
    estimates = np.array(
        [
            squared_mmd(x, y)
            for x, y in zip(
                _subsets(images, count, size, rng.numpy_seed(seed, "kid/images")),
                _subsets(reference, count, size, rng.numpy_seed(seed, "kid/reference")),
                strict=True,
            )
        ]
    )
    return KernelDistance(float(estimates.mean()), standard_error(estimates), count)


def squared_mmd(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Unbiased estimate of the squared MMD from two independent samples of at least 2 vectors."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2.0 * float(_kernel(x, y).mean())


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _mean_of_pairs(x: np.ndarray) -> float:
    """Mean of the kernel over pairs of different vectors."""
    kernel = _kernel(x, x)
    n = len(x)
    return float(kernel.sum() - np.trace(kernel)) / (n * (n - 1))


def _subsets(
    vectors: Float[np.ndarray, "n d"], count: int, size: int, seed: int
) -> Float[np.ndarray, "count size d"]:
    order = np.random.default_rng(seed).permutation(len(vectors))[: count * size]
    return vectors[order.reshape(count, size)]
