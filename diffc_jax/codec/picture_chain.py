"""The chain of latents of a whole picture: `chain` for a picture that is larger than the denoiser's images.

All pixels have the same signal-to-noise ratio. x_hat comes from windows that overlap (`windows`), and what a
step sends is divided into messages (`picture_sizes`): each is about some of the values of the picture, dealt
out evenly over it, and zeros up to the dimensions of its sample.

Whole pictures are NumPy arrays of float32, a few of them; only windows and messages go to the devices.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from diffc_jax.channel_simulation.bits import Stream, random_signs
from diffc_jax.codec.chain import CHECK_CELLS, message_keys, start, step_weights
from diffc_jax.codec.codebooks import OpenCodebook
from diffc_jax.codec.picture_sizes import largest_message
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.stream import Header, snr_to_float
from diffc_jax.codec.windows import Picture, WindowedDenoiser

# Values that get their first noise at once, about.
_START_VALUES = 1 << 22
_KEYS_AT_ONCE = 64

# Messages of one step may differ by a value.
Values = Float[np.ndarray, " _"]
# What a message says of its values: the samples of a batch of them.
Samples = Callable[[OpenCodebook, jax.Array, range], Float[np.ndarray, "b m"]]


class PictureChain:
    """The latents of one picture.

    Attributes:
        denoiser: of the picture.
        z: latents.
        snr: their signal-to-noise ratio, in units of 2^-48.
        n_steps: how many steps led there.
    """

    def __init__(
        self,
        programs: ProgramCache,
        header: Header,
        on_windows: Callable[[int], None] = lambda count: None,
    ):
        """The noise at SNR 0; `on_windows` is that of `WindowedDenoiser`."""
        assert header.stride is not None
        self.denoiser = WindowedDenoiser(programs, header.stride, header.octaves, on_windows)
        self._programs, self._header = programs, header
        self._largest = largest_message(3 * header.tile**2)
        self.z = _start(header)
        self.snr = self.n_steps = 0

    def x_hat(self) -> Picture:
        """The estimate of x from z."""
        return self.denoiser.x_hat(self.z, self.snr)

    def advance(
        self,
        x_hat: Picture,
        delta: int,
        n_messages: int,
        message_size: int,
        samples: Samples,
        checked: bool,
    ) -> int:
        """Takes a step of `n_messages`, whose samples of `message_size` dimensions `samples` tells.

        Returns:
            The check of the latents, 0 to 255; 0 if none is wanted.
        """
        before, step = (np.array([snr_to_float(one)]) for one in (self.snr, delta))
        of_z, of_x_hat, of_sample = (one.astype(np.float32) for one in step_weights(before, step))
        z, estimate, total = self.z.reshape(-1), x_hat.reshape(-1), 0.0
        codebook = self._programs.codebook(self._header.memory, message_size)
        for group in self._groups(n_messages, message_size):
            keys = self._keys(group)
            found = samples(codebook, keys, group)
            signs = _check_signs(keys, message_size) if checked else None
            for i, message in enumerate(group[: n_messages - group[0]]):
                own = values_of(message, n_messages, z.size)
                value = of_z * z[own] + of_x_hat * estimate[own] + of_sample * found[i, : len(own)]
                z[own] = value
                if signs is not None:
                    total += float(np.dot(signs[i, : len(own)].astype(float), value.astype(float)))
        self.snr += delta
        self.n_steps += 1
        scale = CHECK_CELLS * math.sqrt((1 + snr_to_float(self.snr)) / z.size)
        return round(scale * total) % 256 if checked else 0

    def _groups(self, n_messages: int, message_size: int) -> Iterator[range]:
        """Messages that are worked at side by side; the last ones may not exist, so that programs are few."""
        size = min(max(self._largest // message_size, 1), 1 << (n_messages - 1).bit_length())
        for first in range(0, n_messages, size):
            yield range(first, first + size)

    def _keys(self, group: range) -> jax.Array:
        # For more messages than there are, so that groups of nearly all sizes have one program.
        messages = group.start + np.arange(-(-len(group) // _KEYS_AT_ONCE) * _KEYS_AT_ONCE)
        keys = np.stack([np.full(len(messages), self._header.seed), messages], axis=1)
        found = message_keys(keys.astype(np.uint32), np.full(len(messages), self.n_steps))
        return jnp.asarray(np.asarray(found)[: len(group)])


def values_of(message: int, n_messages: int, size: int) -> Int[np.ndarray, " m"]:
    """Which of the values of a picture, row, column and channel, a message is about.

    They are dealt out with a stride near the golden section, so that each message has about equally many
    everywhere in the picture.
    """
    first, last = message * size // n_messages, (message + 1) * size // n_messages
    return np.arange(first, last) * _deal(size) % size


def padded(values: Sequence[Values], count: int, size: int) -> Float[np.ndarray, "count size"]:
    """Messages with zeros up to so many dimensions, and further ones of zeros."""
    rows = np.zeros((count, size), np.float32)
    for row, own in zip(rows, values, strict=False):
        row[: len(own)] = own
    return rows


@functools.lru_cache(maxsize=16)
def _deal(size: int) -> int:
    step = math.isqrt(5 * size * size) - size >> 1
    while math.gcd(step := step + 1, size) > 1:
        pass
    return step


def _check_signs(keys: jax.Array, size: int) -> Float[np.ndarray, "b m"]:
    try:
        from diffc_jax.channel_simulation.host_samples import check_signs
    except ImportError:  # numba is missing
        return np.asarray(random_signs(keys, Stream.LATENT_CHECK, size))
    return check_signs(np.asarray(keys), size)


def _start(header: Header) -> Picture:
    """Noise, each row with a key of its own: that of a tile of its number."""
    height, width = header.coded_shape
    z = np.empty((height, width, 3), np.float32)
    rows_at_once = min(max(_START_VALUES // (3 * width), 1), height)
    for first in range(0, height, rows_at_once):
        rows = np.arange(first, first + rows_at_once)
        keys = np.stack([np.full(len(rows), header.seed), rows], axis=1).astype(np.uint32)
        noise = np.asarray(start(jnp.asarray(keys), (1, width, 3)))[:, 0]
        z[first : first + rows_at_once] = noise[: height - first]
    return z
