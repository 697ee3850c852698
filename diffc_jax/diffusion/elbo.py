"""The ELBO, the variational bound on log p(x), of a diffusion model (VDM, section 3.5).

    -log2 p(x) <= prior + diffusion + reconstruction

The right side is the negative ELBO. Every term is in bits for each image; divide by the number of dimensions
for bits per dimension. VDM is Kingma et al. 2021, arXiv 2107.00630.
"""

import math
from collections.abc import Callable, Sequence

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from diffc_jax.diffusion import process
from diffc_jax.diffusion.process import Images, NoisePredictor

BITS_PER_NAT = 1.0 / math.log(2.0)
_GOLDEN_RATIO = 0.6180339887498949


@flax.struct.dataclass
class Elbo:
    """The three terms of the negative ELBO, in bits for each image, each `(b,)`."""

    prior: Float[Array, " b"]
    diffusion: Float[Array, " b"]
    reconstruction: Float[Array, " b"]

    @property
    def total(self) -> Float[Array, " b"]:
        """Bits for each image."""
        return self.prior + self.diffusion + self.reconstruction


def stratified_times(key: Key[Array, ""], n: int) -> Float[Array, " n"]:
    """Times in [0, 1), one uniform shift of an even grid (VDM, appendix I.1)."""
    return (jax.random.uniform(key) + jnp.arange(n) / n) % 1.0


def mixture_times(
    key: Key[Array, ""], counts: Sequence[int], lowest: Sequence[float], highest: float = 1.0
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Times for a batch from sources that are used at different noise levels, and the weights of their terms.

    The times of a source are stratified over its own range. The mean of weighted terms is an unbiased
    estimate of the integral over time, from the lowest of all times to the highest, of the expected term of
    an image drawn from the sources that are used at that time, in proportion to their images there.

    Args:
        key: of one uniform shift of all strata.
        counts: how many images of each source the batch has, those of one source side by side.
        lowest: time from which on a source is used, below `highest`.
        highest: the end of the range.
    """
    shift = jax.random.uniform(key)
    times = jnp.concatenate(
        [
            low + (highest - low) * ((shift + jnp.arange(count) / count) % 1.0)
            for count, low in zip(counts, lowest, strict=True)
        ]
    )
    density = jnp.zeros_like(times) + sum(
        (times >= low) * (count / sum(counts) / (highest - low))
        for count, low in zip(counts, lowest, strict=True)
    )
    return times, 1.0 / density


def indexed_times(key: Key[Array, ""], indices: Int[Array, " b"]) -> Float[Array, " b"]:
    """Times in [0, 1) that fill the interval evenly over any run of indices.

    A Weyl sequence: the time of an image depends on its index only, so that a full pass over a split
    is stratified whatever the batches are.
    """
    # The fraction of index * ratio in float32 would lose digits for large indices; products of
    # integers modulo 2^32 are exact.
    step = jnp.uint32(round(_GOLDEN_RATIO * 2**32))
    fraction = (indices.astype(jnp.uint32) * step).astype(jnp.float32) / 2.0**32
    return (jax.random.uniform(key) + fraction) % 1.0


def diffusion_term(eps: Images, eps_hat: Images, slope: Float[Array, " b"]) -> Float[Array, " b"]:
    """Diffusion loss at a uniform time, 1/2 gamma'(t) |eps - eps_hat|^2, in bits (VDM, section 5)."""
    return BITS_PER_NAT * 0.5 * slope * process.squared_norm(eps - eps_hat)


def reconstruction_term(
    pixels: UInt8[Array, "b h w c"], z_0: Images, gamma_0: Float[Array, ""]
) -> Float[Array, " b"]:
    """Reconstruction loss -log2 p(x | z_0), a softmax over the 256 pixel values (VDM, section 3.3).

    The logits are those of a Gaussian of variance exp(gamma_0) around z_0 / alpha_0.
    """
    centres = process.pixels_to_unit(jnp.arange(process.LEVELS))
    unit = z_0 / process.alpha(gamma_0)
    logits = -0.5 * jnp.exp(-gamma_0) * jnp.subtract.outer(unit, centres) ** 2
    chosen = -0.5 * jnp.exp(-gamma_0) * (unit - process.pixels_to_unit(pixels)) ** 2
    nats = jax.nn.logsumexp(logits, axis=-1) - chosen
    return BITS_PER_NAT * jnp.sum(nats, axis=(1, 2, 3))


def end_terms(
    pixels: UInt8[Array, "b h w c"],
    eps_0: Images,
    gamma_0: Float[Array, ""],
    gamma_1: Float[Array, ""],
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Prior and reconstruction losses, the two that need no denoiser, in bits (VDM, section 3.5)."""
    x = process.pixels_to_unit(pixels)
    z_0 = process.diffuse(x, eps_0, gamma_0)
    prior = BITS_PER_NAT * process.prior_kl(x, gamma_1)
    return prior, reconstruction_term(pixels, z_0, gamma_0)


def estimate_elbo(
    denoise: NoisePredictor,
    gamma: Callable[[Float[Array, "*s"]], Float[Array, "*s"]],
    pixels: UInt8[Array, "b h w c"],
    t: Float[Array, " b"],
    keys: Key[Array, " b"],
    n_steps: int = 0,
) -> Elbo:
    """Unbiased estimate of the ELBO from one time and key for each image (VDM, sections 4 and 5).

    `gamma` is the schedule as a function of t in [0, 1]; times are uniform over the batch or the pass;
    `n_steps` is 0 for continuous time, or T for a chain of T steps, whose terms are larger.
    """
    x = process.pixels_to_unit(pixels)
    noise_keys, end_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    eps = process.image_noise(noise_keys, x.shape[1:])
    if n_steps:
        t = (jnp.floor(t * n_steps) + 1.0) / n_steps
        gamma_t, gamma_s = gamma(t), gamma(t - 1.0 / n_steps)
        # A step of the chain stands for all T of them, each as likely.
        eps_hat = denoise(process.diffuse(x, eps, gamma_t), gamma_t)
        nats = n_steps * process.step_kl(eps, eps_hat, gamma_t, gamma_s)
        diffusion = BITS_PER_NAT * nats
    else:
        gamma_t, slope = jax.jvp(gamma, (t,), (jnp.ones_like(t),))
        eps_hat = denoise(process.diffuse(x, eps, gamma_t), gamma_t)
        diffusion = diffusion_term(eps, eps_hat, slope)
    eps_0 = process.image_noise(end_keys, x.shape[1:])
    prior, reconstruction = end_terms(pixels, eps_0, gamma(jnp.zeros(())), gamma(jnp.ones(())))
    return Elbo(prior=prior, diffusion=diffusion, reconstruction=reconstruction)
