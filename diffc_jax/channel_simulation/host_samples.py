"""Samples of the open trellis in machine code, for CPUs: those of `open_trellis`, to the last bit.

XLA compiles a program for each size and number of messages, which takes longer than most files need for
their samples; here there is one program for all.
"""

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt32

from diffc_jax.channel_simulation.bits import Stream
from diffc_jax.channel_simulation.host_scores import (
    ROTATION,
    TRELLIS_SIGNS,
    hadamard,
    signs_of,
    times,
)
from diffc_jax.channel_simulation.viterbi import compiled

_LATENT_CHECK = int(Stream.LATENT_CHECK)


@compiled
def _transform_back(v, block):  # type: ignore[no-untyped-def]
    size, other = v.shape[0], np.empty(block, np.float32)
    if size % block:
        hadamard(v[size - block :], other)
    for begin in range(0, size - block + 1, block):
        hadamard(v[begin : begin + block], other)


@compiled
def _labels(bits, ends, table, shifts, row_signs, memory, scale, v):  # type: ignore[no-untyped-def]
    """The labels of the stages, one after the other; the register holds `memory` bits, the newest on top."""
    n_rows, period = table.shape
    register = 0
    for stage in range(bits.shape[0]):
        state, oldest = register >> 1, register & 1
        group, row = state // n_rows, state % n_rows
        sign = np.float32(row_signs[group, row]) * np.float32(1 - 2 * (bits[stage] ^ oldest))
        factor = sign * scale
        shifted = (row + shifts[group]) % n_rows
        column = ends[stage] % period
        for i in range(ends[stage], ends[stage + 1]):
            v[i] = table[shifted, column] * factor
            column += 1
            if column == period:
                column = 0
        register = (register >> 1) | (np.int64(bits[stage]) << (memory - 1))


@compiled
def _sample(key, bits, ends, table, shifts, row_signs, memory, scale, dealing, block):  # type: ignore[no-untyped-def]
    size = dealing.shape[0]
    v, mixed = np.empty(size, np.float32), np.empty(size, np.float32)
    _labels(bits, ends, table, shifts, row_signs, memory, scale, v)
    signs = np.empty(-(-2 * size // 64) * 64, np.float32)
    signs_of(key, TRELLIS_SIGNS, signs[: -(-size // 64) * 64])
    times(v, signs, v)
    _transform_back(v, block)
    signs_of(key, ROTATION, signs)
    for i in range(np.uint64(size)):
        mixed[dealing[i]] = v[i] * signs[np.uint64(size) + i]
    _transform_back(mixed, block)
    times(mixed, signs, mixed)
    return mixed


def sample_of_path(
    key: UInt32[np.ndarray, "2"],
    bits: UInt8[np.ndarray, " k"],
    ends: Int[np.ndarray, " k1"],
    table: Float[np.ndarray, "rows period"],
    shifts: Int[np.ndarray, " groups"],
    row_signs: Int[np.ndarray, "groups rows"],
    memory: int,
    label_scale: int,
    dealing: Int[np.ndarray, " m"],
    block: int,
) -> Float[np.ndarray, " m"]:
    """The sample of a path of an `OpenTrellis`, whose tables and rotation the other arguments are."""
    scale = np.float32(1 / label_scale)
    return _sample(key, bits, ends, table, shifts, row_signs, memory, scale, dealing, block)


def check_signs(keys: UInt32[np.ndarray, "b 2"], size: int) -> Float[np.ndarray, "b m"]:
    """`bits.random_signs` for the check of latents."""
    signs = np.empty((len(keys), -(-size // 64) * 64), np.float32)
    for key, own in zip(keys, signs, strict=True):
        signs_of(key, _LATENT_CHECK, own)
    return signs[:, :size]
