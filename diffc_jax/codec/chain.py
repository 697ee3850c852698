"""The chain of latents that sender and receiver walk together, one message for each step.

A step adds an independent observation of x, of precision delta, to what z_t says: SNR_s = SNR_t + delta.
The sender's observation is N(x, I / delta), the receiver expects N(x_hat(z_t), I / delta), and what has to be
sent is a sample of N(mu, I) with mu = sqrt(delta) (x - x_hat). With SNR S before and S' after the step

    z_s = (sqrt(S (1 + S)) z_t + delta x_hat + sqrt(delta) sample) / sqrt(S' (1 + S')),

which is q(z_s | z_t, x) against p(z_s | z_t) of the paper (section 3; VDM, section 4 and appendix A), with
KL = delta |x - x_hat|^2 / 2 nats. It begins at S = 0, where z is noise that both sides draw.
`encoder.send_step` is the whole algorithm.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Float, Int, Key, UInt8, UInt32

from diffc_jax.channel_simulation.bits import Stream, random_signs, random_words
from diffc_jax.codec.batches import Place
from diffc_jax.codec.codebooks import Codebook
from diffc_jax.diffusion import process
from diffc_jax.diffusion.process import Images
from diffc_jax.models import Denoiser, Variables

# First counter of the blocks of words that the key of a tile gives; the last one is not part of the format.
_MESSAGES, _START, _RECEIVER = 0, 1, 2
# The check resolves 1 / 16 of the standard deviation of the noise in z. A drift that moves it by more than
# one cell (`stream.CHECK_TOLERANCE`) has about 1 % of the power of the noise or more.
CHECK_CELLS = 16

TileKeys = UInt32[np.ndarray, "b 2"]
Steps = Int[np.ndarray, " b"]
Ratios = Float[np.ndarray, " b"]


@dataclasses.dataclass(eq=False)
class Chain:
    """The compiled steps for one denoiser; each image of a batch has its own noise level.

    The key of a tile, two numbers below 2^32 (the seed of the file, the tile), and the number of the step
    choose all randomness that the two sides share. Signal-to-noise ratios are float64.

    Attributes:
        eps_hat: the denoiser.
        image_shape: (h, w, c) of its images.
        gamma_range: least and largest gamma that it was trained for; beyond them it is asked for the nearest.
        memory: nu of the trellis.
        codebook: of the messages.
        place: puts batches of images on the devices.
    """

    eps_hat: Denoiser
    image_shape: tuple[int, int, int]
    gamma_range: tuple[float, float]
    memory: int
    codebook: Codebook
    place: Place = jnp.asarray

    def start(self, keys: TileKeys) -> Images:
        """The latents at SNR 0: standard normal noise that both sides draw."""
        return start(keys, self.image_shape)

    def predict(self, variables: Variables, z: Images, snr: Ratios) -> Images:
        """Estimates of x, x_hat(z)."""
        with np.errstate(divide="ignore"):
            gamma = np.clip(-np.log(snr), *self.gamma_range)
        return estimate(self.eps_hat, variables, z, gamma.astype(np.float32))

    def step(
        self,
        keys: UInt32[Array, "b 2"],
        z: Images,
        x_hat: Images,
        sample: Float[Array, "b m"],
        snr: Ratios,
        delta: Ratios,
    ) -> tuple[Images, UInt8[Array, " b"]]:
        """The next latents z_s, at snr + delta, and one-byte checks of them; both sides compute the same.

        `keys` are `message_keys`, z are the latents z_t, at `snr`, `x_hat` the predictions from them, and
        `sample` is of N(mu, I), as the channel delivers it.
        """
        inverse_sigma = np.sqrt(1 + snr + delta)
        factors = (*step_weights(snr, delta), inverse_sigma)
        return _step(keys, z, x_hat, sample, *(one.astype(np.float32) for one in factors))


def step_weights(snr: Ratios, delta: Ratios) -> tuple[Ratios, Ratios, Ratios]:
    """Weights of z_t, x_hat and the sample in z_s, for a step by `delta` from `snr` on."""
    after = np.sqrt((snr + delta) * (1 + snr + delta))
    return np.sqrt(snr * (1 + snr)) / after, delta / after, np.sqrt(delta) / after


@jax.jit
def message_keys(tile_keys: UInt32[Array, "b 2"], steps: Int[Array, " b"]) -> UInt32[Array, "b 2"]:
    """Keys of the shared randomness of one message for each tile: that of a step, counted from 0."""
    return jax.vmap(_block, (0, None, 0))(tile_keys, _MESSAGES, steps)


@jax.jit
def receiver_keys(tile_keys: UInt32[Array, "b 2"]) -> Key[Array, " b"]:
    """Keys of noise that only the receiver draws, for each tile: another for every file and tile."""
    own = jax.vmap(_block, (0, None, None))(tile_keys, _RECEIVER, 0)
    return jax.random.wrap_key_data(own, impl="threefry2x32")


@jax.jit
def standardised_mean(x: Images, x_hat: Images, delta: Float[Array, " b"]) -> Float[Array, "b m"]:
    """Mean of q(z_s | z_t, x) in units in which p(z_s | z_t) is N(0, I): mu = sqrt(delta) (x - x_hat)."""
    mu = jnp.sqrt(process.per_image(delta, x)) * (x - x_hat)
    return mu.reshape(len(x), -1)


def check_distance(
    found: UInt8[np.ndarray, " b"], expected: UInt8[np.ndarray, " b"], check_bits: int
) -> Int[np.ndarray, " b"]:
    """Cells between checks of so many bits; more than `CHECK_TOLERANCE` means that latents drifted apart.

    Of `found` the last bits count.
    """
    n_cells = 1 << check_bits
    difference = (found.astype(int) - expected.astype(int)) % n_cells
    return np.minimum(difference, n_cells - difference)


@functools.partial(jax.jit, static_argnums=1)
def start(tile_keys: UInt32[Array, "b 2"], shape: tuple[int, int, int]) -> Images:
    """Latents at SNR 0, which the keys of tiles choose."""
    keys = jax.vmap(_block, (0, None, None))(tile_keys, _START, 0)
    words = random_words(keys, 0, int(np.prod(shape)))[..., 0]
    # Midpoints of 2^23 cells of the unit interval: exact in float32 and never 0 or 1.
    uniform = ((words >> 9).astype(jnp.float32) + 0.5) * 2.0**-23
    return jax.scipy.special.ndtri(uniform).reshape(-1, *shape)


def _block(key: UInt32[Array, "2"], high: int, low: Int[Array, ""] | int) -> UInt32[Array, "2"]:
    counter = jnp.stack([jnp.uint32(high), jnp.asarray(low, jnp.uint32)])
    return threefry_2x32((key[0], key[1]), counter)


@functools.partial(jax.jit, static_argnums=0)
def estimate(
    eps_hat: Denoiser, variables: Variables, z: Images, gamma: Float[Array, " b"]
) -> Images:
    """Estimates of x, x_hat(z): one program for all that need them."""
    return process.x_from_eps(z, eps_hat(variables, z, gamma), gamma)


@jax.jit
def _step(
    keys: UInt32[Array, "b 2"],
    z: Images,
    x_hat: Images,
    sample: Float[Array, "b m"],
    of_z: Float[Array, " b"],
    of_x_hat: Float[Array, " b"],
    of_sample: Float[Array, " b"],
    in_check: Float[Array, " b"],
) -> tuple[Images, UInt8[Array, " b"]]:
    z = (
        process.per_image(of_z, z) * z
        + process.per_image(of_x_hat, z) * x_hat
        + process.per_image(of_sample, z) * sample.reshape(z.shape)
    )
    flat = z.reshape(len(z), -1)
    signs = random_signs(keys, Stream.LATENT_CHECK, flat.shape[1])
    projection = jnp.sum(signs * flat, axis=1) / np.sqrt(flat.shape[1])
    cells = jnp.mod(jnp.round(CHECK_CELLS * in_check * projection), 256)
    return z, cells.astype(jnp.uint8)
