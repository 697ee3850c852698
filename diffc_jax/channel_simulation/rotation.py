"""A shared random rotation, in n log n operations.

It spreads the energy of any vector evenly and makes its coordinates look Gaussian, and N(0, I) does not
change under it: a code for mu with few large coordinates can work on one without structure instead.

Twice: random signs, then Walsh-Hadamard transforms of blocks, with a fixed permutation in between
that deals every block out to all others (randomised Hadamard transforms: Ailon & Chazelle 2006). The signs
are all the randomness. Blocks are powers of four, so that the scale of a transform, 1 / sqrt(block), is a
power of two; every other operation is the sum or difference of two numbers, in a fixed order. Hence the
result is the same to the last bit in any batch and on any machine that rounds to nearest, and `unrotate` of
small integers over a power of two is even exact (if `size` is a multiple of the block).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from diffc_jax.channel_simulation.bits import Stream, random_signs

LARGEST_BLOCK = 4096


@jax.jit
def rotate(keys: UInt32[Array, "b 2"], vectors: Float[Array, "b m"]) -> Float[Array, "b m"]:
    """Rotates each vector by the orthogonal map of its key, another for each m; below m = 12 only signs."""
    first, second = _signs(keys, vectors.shape[1])
    mixed = _transform_blocks(vectors * first)[:, _dealing(vectors.shape[1])]
    return _transform_blocks(mixed * second)


@jax.jit
def unrotate(keys: UInt32[Array, "b 2"], vectors: Float[Array, "b m"]) -> Float[Array, "b m"]:
    """Undoes `rotate` with the same keys, up to rounding."""
    first, second = _signs(keys, vectors.shape[1])
    mixed = _transform_blocks(vectors, inverse=True) * second
    mixed = mixed[:, np.argsort(_dealing(vectors.shape[1]))]
    return _transform_blocks(mixed, inverse=True) * first


def dealing_and_block(size: int) -> tuple[Int[np.ndarray, " m"], int]:
    """The permutation of so many dimensions, and how many are in a block."""
    return _dealing(size), _block(size)


def _signs(
    keys: UInt32[Array, "b 2"], size: int
) -> tuple[Float[Array, "b m"], Float[Array, "b m"]]:
    signs = random_signs(keys, Stream.ROTATION, 2 * size)
    return signs[:, :size], signs[:, size:]


def _block(size: int) -> int:
    block = 1
    while 12 * block <= size:
        block *= 4
    return min(block, LARGEST_BLOCK)


def _dealing(size: int) -> Int[np.ndarray, " m"]:
    """Place i takes coordinate (step i) mod size, with the first coprime step above the golden section."""
    step = int(size * (math.sqrt(5) - 1) / 2) + 1
    while math.gcd(step, size) > 1:
        step += 1
    return np.arange(size) * step % size


def _transform_blocks(
    vectors: Float[Array, "b m"], *, inverse: bool = False
) -> Float[Array, "b m"]:
    """Transforms whole blocks, then the last `block` coordinates once more if some are left over."""
    b, size = vectors.shape
    block = _block(size)
    whole = size // block * block

    def whole_blocks(v: Array) -> Array:
        done = _hadamard(v[:, :whole].reshape(b, -1, block)).reshape(b, whole)
        return jnp.concatenate([done, v[:, whole:]], axis=1)

    def last_block(v: Array) -> Array:
        return jnp.concatenate([v[:, :-block], _hadamard(v[:, -block:])], axis=1)

    if whole == size:
        return whole_blocks(vectors)
    return whole_blocks(last_block(vectors)) if inverse else last_block(whole_blocks(vectors))


def _hadamard(v: Float[Array, "*b n"]) -> Float[Array, "*b n"]:
    """Orthonormal Walsh-Hadamard transform of the last axis, a power of four; its own inverse."""
    n = v.shape[-1]
    if n == 1:
        return v
    digits = (n.bit_length() - 1) // 2

    def butterfly(_: Array, v: Array) -> Array:
        v0, v1, v2, v3 = (v[..., i * n // 4 : (i + 1) * n // 4] for i in range(4))
        s01, s23, d01, d23 = v0 + v1, v2 + v3, v0 - v1, v2 - v3
        return jnp.stack([s01 + s23, d01 + d23, s01 - s23, d01 - d23], axis=-1).reshape(v.shape)

    return jax.lax.fori_loop(0, digits, butterfly, v) * np.float32(2.0**-digits)
