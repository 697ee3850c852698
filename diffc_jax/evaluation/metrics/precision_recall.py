"""Precision and recall of a set of images (Kynkaanniemi et al. 2019, arXiv:1904.06991), NumPy.

The support of a set is estimated by balls around its features, each reaching to the k-th nearest
neighbour. Precision is the share of the images within the reference's support, recall the share of
the reference within the images': blur costs recall, artefacts cost precision.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float64

from diffc_jax.errors import InputError

_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class PrecisionRecall:
    """Both shares and what they cannot be read without.

    Attributes:
        precision: share of the images inside the reference's support, 0 to 1.
        recall: share of the reference images inside the images' support, 0 to 1.
        features: name of the feature network.
        n_images: number of images judged.
        n_reference: number of reference images.
        neighbours: k.
    """

    precision: float
    recall: float
    features: str
    n_images: int
    n_reference: int
    neighbours: int


def precision_recall(
    images: Float[np.ndarray, "n _"],
    reference: Float[np.ndarray, "m _"],
    features: str,
    neighbours: int = 3,
) -> PrecisionRecall:
    """Precision and recall of a set of images against a reference set.

    Both depend on the numbers of images, which should be equal. Takes time in proportion to their
    product and memory in proportion to the larger one.

    Args:
        images: features of the images judged.
        reference: features of the reference images.
        features: name of the feature network; it stands beside the values.
        neighbours: k of the balls' radii.

    Raises:
        InputError: too few images on either side for k neighbours, or features of another dimension.
    """
    if images.shape[1] != reference.shape[1]:
        raise InputError(
            f"precision and recall: the images have {images.shape[1]} features, the reference "
            f"{reference.shape[1]}; use the same feature network for both"
        )
    fewest = min(len(images), len(reference))
    if fewest <= neighbours:
        raise InputError(
            f"precision and recall: {neighbours} neighbours need at least {neighbours + 1} images in "
            f"both sets, and one has {fewest}"
        )
    return PrecisionRecall(
        precision=float(_inside(images, reference, neighbours).mean()),
        recall=float(_inside(reference, images, neighbours).mean()),
        features=features,
        n_images=len(images),
        n_reference=len(reference),
        neighbours=neighbours,
    )


def _inside(
    vectors: Float[np.ndarray, "n d"], support: Float[np.ndarray, "m d"], neighbours: int
) -> Bool[np.ndarray, " n"]:
    """Which vectors lie within a ball of the support."""
    # A vector of the support is its own nearest, at distance 0.
    squared_radii = np.concatenate(
        [
            np.partition(rows, neighbours, axis=1)[:, neighbours]
            for rows in _squared_distances(support, support)
        ]
    )
    return np.concatenate(
        [(rows <= squared_radii[None]).any(axis=1) for rows in _squared_distances(vectors, support)]
    )


def _squared_distances(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> Iterator[Float64[np.ndarray, "_ m"]]:
    """Rows of the matrix of squared distances, some at a time."""
    y = np.asarray(y, np.float64)
    norms = np.square(y).sum(axis=1)
    for start in range(0, len(x), _ROWS):
        part = np.asarray(x[start : start + _ROWS], np.float64)
        squares = np.square(part).sum(axis=1)[:, None] + norms[None] - 2.0 * part @ y.T
        yield np.maximum(squares, 0.0)
