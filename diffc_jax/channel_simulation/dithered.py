"""Universal quantisation with subtractive dither: uniform noise instead of normal noise.

Both sides know a dither u, uniform on [-1/2, 1/2), in units of the step sqrt(12) for which uniform noise has
variance 1. The encoder sends n = round(mu / step - u) and the sample is step (n + u): mu plus uniform noise
that does not depend on mu (Roberts 1962; Zamir & Feder 1992; Agustsson & Theis 2020), one dimension at a time
and in linear time.

A message is rotated first. So coordinates of mu look like N(0, s^2) with s^2 = |mu|^2 / M, and undoing the
rotation makes noise that looks normal: a sum of uniform noise in each coordinate. Numbers are sent in the
order of their dithers. So the place of a number says what its dither is, up to a variance of u (1 - u) / M,
and with it how probable each number is: whoever parses a stream needs no keys.

The price is the information between mu and mu + noise. It falls with s, where that of normal noise falls with
s^2: the less there is to say about a dimension, the worse.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32
from scipy import special

from diffc_jax.channel_simulation.bits import Stream, random_words
from diffc_jax.channel_simulation.channel import check_means, length_of_rate
from diffc_jax.channel_simulation.index_codes import PlacesCode, integer_frequencies
from diffc_jax.channel_simulation.rotation import rotate, unrotate
from diffc_jax.errors import UsageError

STEP = float(np.sqrt(12.0))
# Coordinates of mu that can be coded, in units of the nominal s.
_REACH = 8.0


@dataclasses.dataclass(frozen=True)
class DitheredChannel:
    """Implements `channel.Channel`; `indices` are int32, the numbers n in the order of their dithers.

    Attributes:
        size: M, dimensions of a message.
        ideal_rate: nominal |mu|^2 / (2 ln 2), above 0. Only the code depends on it.

    Raises:
        UsageError: an attribute is out of range.
    """

    size: int
    ideal_rate: int | float

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"{self.size} dimensions; a message has at least one", field="size")
        if not 0 < self.ideal_rate < np.inf:
            raise UsageError(f"{self.ideal_rate} is not above 0 and finite", field="ideal_rate")

    def encode(
        self, keys: UInt32[Array, "b 2"], mu: Float[Array, "b m"]
    ) -> tuple[Int[Array, "b m"], Float[Array, "b m"]]:
        """See `channel.Channel.encode`.

        Raises:
            ValueError: mu is not `size` long, or not finite.
        """
        check_means(mu, self.size)
        indices = _quantise(keys, mu)
        return indices, _dequantise(keys, indices)

    def decode(
        self, keys: UInt32[Array, "b 2"], indices: Int[Array | np.ndarray, "b m"]
    ) -> Float[Array, "b m"]:
        """See `channel.Channel.decode`.

        Raises:
            ValueError: there are not `size` indices for each key.
        """
        if indices.shape != (len(keys), self.size):
            raise ValueError(f"indices are {indices.shape}, not {(len(keys), self.size)}")
        return _dequantise(keys, jnp.asarray(indices, jnp.int32))

    def to_bytes(self, indices: Int[Array | np.ndarray, "b m"]) -> bytes:
        """See `channel.Channel.to_bytes`.

        Raises:
            ValueError: a coordinate of mu was more than 8 times as large as its nominal standard deviation.
        """
        return self.code.encode(np.asarray(indices) + self._largest)

    def from_bytes(self, data: bytes, count: int) -> Int[np.ndarray, "b m"]:
        """See `channel.Channel.from_bytes`.

        Raises:
            InputError: no messages have these bytes.
        """
        return (self.code.decode(data, count) - self._largest).astype(np.int32)

    @functools.cached_property
    def code(self) -> PlacesCode:
        """What the numbers are written with, `_largest` added to them."""
        rank = (np.arange(self.size)[:, None] + 0.5) / self.size
        spread = np.sqrt(self._deviation**2 + rank * (1 - rank) / self.size)
        numbers = np.arange(-self._largest, self._largest + 1)
        lower, upper = ((numbers + rank + shift) / spread for shift in (-1.0, 0.0))
        return PlacesCode(integer_frequencies(special.ndtr(upper) - special.ndtr(lower)))

    @property
    def _deviation(self) -> float:
        """Nominal standard deviation of a coordinate of mu, in steps."""
        return length_of_rate(self.ideal_rate) / math.sqrt(self.size) / STEP

    @property
    def _largest(self) -> int:
        return int(_REACH * self._deviation + 1.0)


@jax.jit
def _quantise(keys: UInt32[Array, "b 2"], mu: Float[Array, "b m"]) -> Int[Array, "b m"]:
    order, dither = _sorted_dither(keys, mu.shape[1])
    places = jnp.take_along_axis(rotate(keys, mu), order, axis=1)
    return jnp.rint(places / STEP - dither).astype(jnp.int32)


@jax.jit
def _dequantise(keys: UInt32[Array, "b 2"], indices: Int[Array, "b m"]) -> Float[Array, "b m"]:
    order, dither = _sorted_dither(keys, indices.shape[1])
    places = STEP * (indices.astype(jnp.float32) + dither)
    return unrotate(keys, jnp.take_along_axis(places, jnp.argsort(order, axis=1), axis=1))


def _sorted_dither(
    keys: UInt32[Array, "b 2"], size: int
) -> tuple[Int[Array, "b m"], Float[Array, "b m"]]:
    """The order of the dimensions' dithers, and the dithers in this order, multiples of 2^-17."""
    words = random_words(keys, Stream.DITHER, -(-size // 2)).reshape(len(keys), -1)[:, :size]
    order = jnp.argsort(words, axis=1)
    high = jnp.take_along_axis(words, order, axis=1) >> 16
    return order, (high.astype(jnp.float32) + 0.5) * 2.0**-16 - 0.5
