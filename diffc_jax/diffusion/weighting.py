"""Weights over noise levels for training: which rates a network that cannot be good at all of them serves.

The bound weighs errors in the noise equally over gamma (Kingma & Gao 2023, section 3), so that most of its
terms are those of the last bits of pixels. A network without limits has the same optimum for all weights.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, Float

Weighting = Callable[[Float[Array, " b"]], Float[Array, " b"]]


def _cosine(gamma: Float[Array, " b"]) -> Float[Array, " b"]:
    return 1.0 / jnp.cosh(0.5 * gamma)


# bound: that of the variational bound, for bits. cosine: 1/cosh(gamma/2), the density in gamma of times of
# the cosine schedule (Nichol & Dhariwal 2021), for pictures at low rates.
WEIGHTINGS: Mapping[str, Weighting] = {"bound": jnp.ones_like, "cosine": _cosine}
