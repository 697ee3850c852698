"""Shared randomness: words that any decoder, in any language and on any machine, can compute exactly.

Everything is a function of a message's key and of two 32-bit counters, nothing else: batch, position,
number of devices and version of JAX do not matter. The generator is Threefry-2x32 with 20 rounds (Salmon
et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), as the Random123 library defines it.
"""

import enum

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32
from jaxtyping import Array, Bool, Float, UInt32


class Stream(enum.IntEnum):
    """First counter: what the words are for. Numbers of what a decoder needs are part of the file format."""

    ROTATION = 0
    TRELLIS_SIGNS = 1
    TRELLIS_TABLE = 2
    TRELLIS_FREE_BITS = 3
    TRELLIS_FORCED_BITS = 4
    OPEN_TRELLIS_TABLE = 5
    CANDIDATES = 16
    ARRIVALS = 17
    DITHER = 18
    LATENT_CHECK = 0x43484543


def random_words(
    keys: UInt32[Array, "b 2"], stream: int | UInt32[Array, ""], count: int
) -> UInt32[Array, "b count 2"]:
    """Independent uniform words: word i of a key is Threefry-2x32-20 of the counter (stream, i).

    `stream` may be traced; `count` is at most 2^32.
    """
    first = jnp.full(count, stream, jnp.uint32)
    counters = jnp.concatenate([first, jnp.arange(count, dtype=jnp.uint32)])

    def words(key: UInt32[Array, "2"]) -> UInt32[Array, "count 2"]:
        return threefry_2x32((key[0], key[1]), counters).reshape(2, count).T

    return jax.vmap(words)(keys)


def word_pair(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32-20 of one counter, in Python's integers: for readers of files, who have no device."""
    mask = 0xFFFFFFFF
    schedule = *key, key[0] ^ key[1] ^ 0x1BD11BDA
    first, second = (counter[0] + key[0]) & mask, (counter[1] + key[1]) & mask
    for index in range(20):
        turn = _ROTATIONS[index % 8]
        first = (first + second) & mask
        second = (second << turn | second >> (32 - turn)) & mask ^ first
        if index % 4 == 3:
            block = index // 4 + 1
            first = (first + schedule[block % 3]) & mask
            second = (second + schedule[(block + 1) % 3] + block) & mask
    return first, second


_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)


def random_bits(
    keys: UInt32[Array, "b 2"], stream: int | UInt32[Array, ""], count: int
) -> Bool[Array, "b count"]:
    """Independent fair bits: the words' own, first half first, from the most significant bit down."""
    halves = random_words(keys, stream, -(-count // 64))
    bits = (halves[..., None] >> np.arange(31, -1, -1, dtype=np.uint32).reshape(1, 1, 1, 32)) & 1
    return bits.reshape(len(keys), -1)[:, :count].astype(bool)


def random_signs(
    keys: UInt32[Array, "b 2"], stream: int | UInt32[Array, ""], count: int
) -> Float[Array, "b count"]:
    """Independent signs: -1 where `random_bits` has a one, otherwise 1."""
    return 1 - 2 * random_bits(keys, stream, count).astype(jnp.float32)
