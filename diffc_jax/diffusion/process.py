"""The variance-preserving Gaussian process, written in gamma = -log SNR (VDM, sections 3.1 and 3.2).

    z = alpha x + sigma eps,   alpha^2 = sigmoid(-gamma),   sigma^2 = sigmoid(gamma)

VDM is "Variational Diffusion Models" (Kingma et al. 2021, arXiv 2107.00630), the model of DiffC.

`z`, `x`, `eps` are batches of images `(b, h, w, c)`; `gamma` is one value for each image, `(b,)`, or
a scalar. Small gamma means little noise. KL divergences are in nats for each image.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

Images = Float[Array, "b h w c"]
Gamma = Float[Array, " b"] | Float[Array, ""]
# eps_hat as a function of (z, gamma): a denoiser with its variables.
NoisePredictor = Callable[[Images, Float[Array, " b"]], Images]

LEVELS = 256


def alpha(gamma: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Signal scale, in (0, 1) (VDM, section 3.2)."""
    return jnp.exp(-0.5 * jax.nn.softplus(gamma))


def sigma(gamma: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Noise scale, in (0, 1) (VDM, section 3.2)."""
    return jnp.exp(-0.5 * jax.nn.softplus(-gamma))


def per_image(values: Gamma, like: Images) -> Float[Array, "#b 1 1 1"]:
    """Reshapes one value for each image (or for all) so that it multiplies images."""
    return jnp.reshape(values, (-1, *(1,) * (like.ndim - 1)))


def diffuse(x: Images, eps: Images, gamma: Gamma) -> Images:
    """A sample z_t of q(z_t | x) for standard normal `eps` (VDM, section 3.1, eq. 1)."""
    gamma = per_image(gamma, x)
    return alpha(gamma) * x + sigma(gamma) * eps


def x_from_eps(z: Images, eps: Images, gamma: Gamma) -> Images:
    """The x for which z = alpha x + sigma eps; x_hat for the predicted noise (VDM, section 3.4)."""
    gamma = per_image(gamma, z)
    return (z - sigma(gamma) * eps) / alpha(gamma)


def eps_from_x(z: Images, x: Images, gamma: Gamma) -> Images:
    """The eps for which z = alpha x + sigma eps."""
    gamma = per_image(gamma, z)
    return (z - alpha(gamma) * x) / sigma(gamma)


def conditional(z_t: Images, eps: Images, gamma_t: Gamma, gamma_s: Gamma) -> tuple[Images, Array]:
    """Mean and standard deviation of z_s given z_t, for gamma_s < gamma_t.

    With the true noise this is q(z_s | z_t, x), with the predicted noise p(z_s | z_t); both have the same
    variance (VDM, section 3.3 and eqs. 31 to 34). DiffC sends a sample of the first to a receiver who knows
    the second (arXiv 2206.08889, section 3).
    """
    gamma_t, gamma_s = per_image(gamma_t, z_t), per_image(gamma_s, z_t)
    c = -jnp.expm1(gamma_s - gamma_t)
    mean = alpha(gamma_s) / alpha(gamma_t) * (z_t - c * sigma(gamma_t) * eps)
    return mean, sigma(gamma_s) * jnp.sqrt(c)


def step_kl(eps: Images, eps_hat: Images, gamma_t: Gamma, gamma_s: Gamma) -> Float[Array, " b"]:
    """KL[q(z_s | z_t, x) || p(z_s | z_t)] in nats (VDM, eq. 41 in terms of the noise).

    The ideal rate of DiffC is a sum of these and of `prior_kl` (arXiv 2206.08889, section 3).
    """
    return 0.5 * jnp.expm1(gamma_t - gamma_s) * squared_norm(eps - eps_hat)


def prior_kl(x: Images, gamma: Gamma) -> Float[Array, " b"]:
    """KL[q(z_t | x) || N(0, I)] in nats; the prior loss at t = 1 (VDM, section 3.5)."""
    gamma = per_image(gamma, x)
    # sigma^2 - 1 = -alpha^2 and -log(sigma^2) = softplus(-gamma), exact where sigma^2 rounds to one.
    terms = jax.nn.sigmoid(-gamma) * (x**2 - 1.0) + jax.nn.softplus(-gamma)
    return 0.5 * jnp.sum(terms, axis=(1, 2, 3))


def squared_norm(x: Images) -> Float[Array, " b"]:
    """Sum of squares over everything but the batch."""
    return jnp.sum(x**2, axis=(1, 2, 3))


def pixels_to_unit(pixels: UInt8[Array, "*s"] | Int[Array, "*s"]) -> Float[Array, "*s"]:
    """Pixel values 0..255 to the bin centres x = 2 (v + 0.5) / 256 - 1."""
    return (2.0 * pixels.astype(jnp.float32) + 1.0) / LEVELS - 1.0


def unit_to_pixels(x: Float[Array, "*s"]) -> UInt8[Array, "*s"]:
    """Nearest pixel value; for x = z_0 / alpha_0 the argmax of the model's p(x | z_0) (VDM, section 3.3)."""
    return jnp.clip(jnp.round((x + 1.0) * (LEVELS / 2) - 0.5), 0, LEVELS - 1).astype(jnp.uint8)


def image_noise(keys: Key[Array, " b"], shape: tuple[int, ...]) -> Images:
    """Standard normal noise of the given image shape, from one key for each image."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)
