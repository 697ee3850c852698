"""Loss weights over noise levels: to which bit rates training gives the capacity of a small network."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def loss_weight(gamma: Float[Array, " b"], low_rate_emphasis: float) -> Float[Array, " b"]:
    """cosh(gamma/2) to the power of -low_rate_emphasis: at most 1, where signal and noise are equal.

    It weights the diffusion loss (VDM, arXiv 2107.00630, section 5.2). The ELBO weighs errors in the noise
    equally over gamma, so that most of its terms are those of the last bits of pixels. 1/cosh(gamma/2) is
    the density in gamma of uniform times of the cosine schedule (Nichol & Dhariwal 2021). A network without
    limits has the same optimum for all weights (Kingma & Gao 2023). The emphasis is 0 for the ELBO, 1 for the
    cosine schedule's weights, or between them.
    """
    return jnp.cosh(0.5 * gamma) ** -low_rate_emphasis
