"""What every metric that compares images one by one asks of its input."""

import numpy as np
from jaxtyping import Shaped

from diffc_jax.errors import InputError


def check_pairs(
    images: Shaped[np.ndarray, "..."], reconstructions: Shaped[np.ndarray, "..."]
) -> None:
    """Checks that both are uint8 and of one shape (b, h, w, c).

    Raises:
        InputError: they are not; the message says which is wrong and how.
    """
    for name, array in (("images", images), ("reconstructions", reconstructions)):
        if array.dtype != np.uint8:
            raise InputError(f"{name}: dtype is {array.dtype}, not uint8; round to 8 bits first")
    if images.shape != reconstructions.shape or images.ndim != 4:
        raise InputError(
            f"reconstructions: shape is {reconstructions.shape}, "
            f"that of the images {images.shape}; both must be the same (b, h, w, c)"
        )
