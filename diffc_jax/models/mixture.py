"""Exact denoisers of Gaussian mixtures with any covariances; one component is a Gaussian.

For checks against closed forms and quadrature, and for the analysis of small sources. Images are flattened,
so the cost is that of dense (M, M) products for each component.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffc_jax.diffusion import process
from diffc_jax.models.base import Variables
from diffc_jax.theory.mixture import Mixture


def mixture_variables(
    weights: Sequence[float] | Float[np.ndarray, " k"],
    means: Float[np.ndarray, "k m"],
    covariances: Float[np.ndarray, "k m m"],
) -> Variables:
    """Variables of the exact denoiser of sum_k w_k N(mean_k, covariance_k), M = h w c dimensions.

    Raises:
        UsageError: what `theory.mixture.Mixture` refuses.
    """
    mixture = Mixture(*(np.asarray(array, np.float64) for array in (weights, means, covariances)))
    eigenvalues, eigenvectors = mixture.principal_components()
    arrays = {
        "log_weights": np.log(mixture.weights),
        "means": mixture.means,
        "eigenvalues": eigenvalues,
        "eigenvectors": eigenvectors,
    }
    return {"fixed": {name: jnp.asarray(array, jnp.float32) for name, array in arrays.items()}}


def eps_hat(
    variables: Variables, z: Float[Array, "b h w c"], gamma: Float[Array, " b"]
) -> Float[Array, "b h w c"]:
    """E[eps | z] = sum_k p(k | z) E[eps | z, k]."""
    fixed = variables["fixed"]
    flat = z.reshape(len(z), 1, -1)
    gamma = gamma[:, None, None]
    alpha, sigma = process.alpha(gamma), process.sigma(gamma)
    centred = flat - alpha * fixed["means"][None]
    rotated = jnp.einsum("bkm,kmn->bkn", centred, fixed["eigenvectors"], precision="highest")
    variance = alpha**2 * fixed["eigenvalues"][None] + sigma**2
    log_density = -0.5 * jnp.sum(rotated**2 / variance + jnp.log(variance), axis=-1)
    posterior = jax.nn.softmax(fixed["log_weights"][None] + log_density, axis=-1)
    rotated_eps = posterior[..., None] * sigma / variance * rotated
    eps = jnp.einsum("bkn,kmn->bm", rotated_eps, fixed["eigenvectors"], precision="highest")
    return eps.reshape(z.shape)
