"""Kernel Inception Distance (Binkowski et al. 2018, arXiv:1801.01401), NumPy, float64.

The squared maximum mean discrepancy with the kernel `(x.y / d + 1)^3`, estimated without bias at any number
of images, unlike the Fréchet distance. All pairs of different images are averaged, which has the least
variance (a U-statistic, Gretton et al. 2012, JMLR 13), and the standard error is the jackknife's: to leave
out one image at a time needs sums of the kernel's rows only. The bootstrap would repeat images, whose pairs
with themselves are no pairs of different images.
"""

import numpy as np
from jaxtyping import Float

from diffc_jax.errors import InputError
from diffc_jax.metrics.statistics import Estimate, blocks, jackknife

# Fewer tell nothing, and leave the jackknife without a distribution.
MIN_IMAGES = 20


class KernelReference:
    """Reference features, whose pairs among themselves are summed once."""

    def __init__(self, features: Float[np.ndarray, "m d"], *, paired: bool = False):
        """`paired`: image i of every set belongs to reference image i, as reconstructions to originals.

        Raises:
            InputError: fewer than 20 images.
        """
        self._features, self._paired = np.asarray(features, np.float64), paired
        _check_count(self._features)
        self._own = _sums(self._features, self._features)[0] - _diagonal(self._features, None)

    def distance(self, images: Float[np.ndarray, "n _"]) -> Estimate:
        """KID of a set of images; around 0, of either sign, for two sets of one source.

        Of pairs, an image is never compared with its own reference, so that the estimate stays unbiased and
        what the two share falls out of its error.

        Raises:
            InputError: fewer than 20 images, features of another dimension, or pairs that do not add up.
        """
        x, y = np.asarray(images, np.float64), self._features
        if x.shape[1] != y.shape[1]:
            raise InputError(
                f"KID: the images have {x.shape[1]} features, the reference {y.shape[1]}; "
                "use the same feature network for both"
            )
        _check_count(x)
        n, m = len(x), len(y)
        own = _sums(x, x)[0] - _diagonal(x, None)
        across, back = _sums(x, y)
        if self._paired:
            if n != m:
                raise InputError(f"KID: {n} images cannot be pairs with {m} references")
            diagonal = _diagonal(x, y)
            rows = own + self._own - (across - diagonal) - (back - diagonal)
            value, without = _without_each(rows)
            return Estimate(value, (jackknife(without),))
        (mean_own, own_without), (mean_reference, reference_without) = map(
            _without_each, (own, self._own)
        )
        total = across.sum()
        value = mean_own + mean_reference - 2.0 * total / (n * m)
        without_image = own_without - 2.0 * (total - across) / ((n - 1) * m)
        without_reference = reference_without - 2.0 * (total - back) / (n * (m - 1))
        return Estimate(float(value), (jackknife(without_image), jackknife(without_reference)))


def squared_mmd(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Unbiased estimate of the squared MMD from two independent samples of at least 2 vectors."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    within = ((_sums(z, z)[0] - _diagonal(z, None)).sum() / (len(z) * (len(z) - 1)) for z in (x, y))
    return float(sum(within) - 2.0 * _sums(x, y)[0].sum() / (len(x) * len(y)))


def _without_each(rows: Float[np.ndarray, " n"]) -> tuple[float, Float[np.ndarray, " n"]]:
    """Mean over ordered pairs, and what it is without each image, from sums over the others of each."""
    n, total = len(rows), rows.sum()
    return float(total / (n * (n - 1))), (total - 2.0 * rows) / ((n - 1) * (n - 2))


def _kernel(products: np.ndarray, dimension: int) -> np.ndarray:
    products /= dimension
    products += 1.0
    return products**3


def _sums(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """Sums of the kernel over y for each x, and over x for each y; memory for a block of rows."""
    rows, columns = np.empty(len(x)), np.zeros(len(y))
    for block in blocks(len(x)):
        kernel = _kernel(x[block] @ y.T, x.shape[1])
        rows[block] = kernel.sum(1)
        columns += kernel.sum(0)
    return rows, columns


def _diagonal(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n d"] | None
) -> Float[np.ndarray, " n"]:
    """The kernel of each x with its own y, or with itself."""
    return _kernel(np.sum(x * (x if y is None else y), axis=1), x.shape[1])


def _check_count(features: Float[np.ndarray, "n d"]) -> None:
    if len(features) < MIN_IMAGES:
        raise InputError(
            f"KID: needs at least {MIN_IMAGES} images in both sets, and one has {len(features)}"
        )
