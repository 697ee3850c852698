"""Scores of the open trellis in machine code, for CPUs.

The same numbers as `open_trellis` and `rotation` compute with XLA, by the same additions in the same order:
shared signs, rotation, mu in integers, and what it has in common with the rows of the table. XLA multiplies
stages by the table as one matrix, folded to whole periods; here a stage that is shorter than a period meets
only the columns that it covers.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int16, UInt32

from diffc_jax.channel_simulation.bits import Stream
from diffc_jax.channel_simulation.viterbi import compiled

ROTATION, TRELLIS_SIGNS = int(Stream.ROTATION), int(Stream.TRELLIS_SIGNS)
# Rows of a tile of the table.
_TILE_ROWS = 256


class Tables(NamedTuple):
    """What searches of a trellis share.

    Attributes:
        tiles: the table, columns one after the other, each tile with some of their rows.
        period: columns of the table.
        dealing: the permutation in the rotation.
        block: dimensions of a block of the rotation.
        largest_target: mu is seen in integers up to this one.
        largest_score: the largest score of a message.
    """

    tiles: Float[np.ndarray, "tiles values"]
    period: int
    dealing: Int[np.ndarray, " m"]
    block: int
    largest_target: int
    largest_score: int


def in_tiles(table: Float[np.ndarray, "rows period"]) -> Float[np.ndarray, "tiles values"]:
    """The table as `Tables` has it."""
    width = min(len(table), _TILE_ROWS)
    tiles = table.reshape(-1, width, table.shape[1]).swapaxes(1, 2)
    return np.ascontiguousarray(tiles).reshape(len(tiles), -1)


@compiled
def _turn(word, turn):  # type: ignore[no-untyped-def]
    return np.uint32(np.uint32(word << np.uint32(turn)) | (word >> np.uint32(32 - turn)))


@compiled
def signs_of(key, stream, signs):  # type: ignore[no-untyped-def]
    """`bits.random_signs`; there is room for whole pairs of words."""
    last = np.uint32(key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    schedule = (key[0], key[1], last, key[0], key[1], last, key[0])
    for pair in range(signs.shape[0] // 64):
        first, second = np.uint32(np.uint32(stream) + key[0]), np.uint32(np.uint32(pair) + key[1])
        for block in range(5):
            for turn in (13, 15, 26, 6) if block % 2 == 0 else (17, 29, 16, 24):
                first = np.uint32(first + second)
                second = np.uint32(_turn(second, turn) ^ first)
            first = np.uint32(first + schedule[block + 1])
            second = np.uint32(second + schedule[block + 2] + np.uint32(block + 1))
        for half in range(2):
            word = second if half else first
            place = np.uint64(64 * pair + 32 * half)
            for bit in range(np.uint32(32)):
                one = np.int32((word >> (np.uint32(31) - bit)) & np.uint32(1))
                signs[place + np.uint64(bit)] = np.float32(np.int32(1) - np.int32(2) * one)


@compiled
def _butterflies(before, after):  # type: ignore[no-untyped-def]
    n = np.uint64(before.shape[0] // 4)
    for i in range(n):
        v0, v1, v2, v3 = before[i], before[n + i], before[n + n + i], before[n + n + n + i]
        s01, s23, d01, d23 = v0 + v1, v2 + v3, v0 - v1, v2 - v3
        place = np.uint64(4) * i
        after[place] = s01 + s23
        after[place + np.uint64(1)] = d01 + d23
        after[place + np.uint64(2)] = s01 - s23
        after[place + np.uint64(3)] = d01 - d23


@compiled
def hadamard(v, other):  # type: ignore[no-untyped-def]
    """In place; `other` is as long."""
    digits = 0
    while 1 << 2 * digits < v.shape[0]:
        if digits % 2 == 0:
            _butterflies(v, other)
        else:
            _butterflies(other, v)
        digits += 1
    scale = np.float32(1 / (1 << digits))
    done = v if digits % 2 == 0 else other
    for i in range(np.uint64(v.shape[0])):
        v[i] = done[i] * scale


@compiled
def _transform_blocks(v, block):  # type: ignore[no-untyped-def]
    size, other = v.shape[0], np.empty(block, np.float32)
    for begin in range(0, size - block + 1, block):
        hadamard(v[begin : begin + block], other)
    if size % block:
        hadamard(v[size - block :], other)


@compiled
def times(v, signs, product):  # type: ignore[no-untyped-def]
    """Products, one by one."""
    for i in range(np.uint64(v.shape[0])):
        product[i] = v[i] * signs[i]


@compiled
def _rounded_targets(v, largest_target):  # type: ignore[no-untyped-def]
    largest = np.float32(0)
    for i in range(np.uint64(v.shape[0])):
        largest = max(largest, abs(v[i]))
    unit = max(largest * np.float32(1 / largest_target), np.finfo(np.float32).tiny)
    factor = np.float32(np.float32(1) / unit)
    for i in range(np.uint64(v.shape[0])):
        v[i] = np.rint(v[i] * factor)


@compiled
def _targets(key, mu, dealing, block, largest_target):  # type: ignore[no-untyped-def]
    """See `open_trellis._targets`."""
    size = mu.shape[0]
    signs = np.empty(-(-2 * size // 64) * 64, np.float32)
    signs_of(key, ROTATION, signs)
    mixed, target = np.empty(size, np.float32), np.empty(size, np.float32)
    times(mu, signs, mixed)
    _transform_blocks(mixed, block)
    for i in range(np.uint64(size)):
        target[i] = mixed[dealing[i]] * signs[np.uint64(size) + i]
    _transform_blocks(target, block)
    signs = signs[: -(-size // 64) * 64]
    signs_of(key, TRELLIS_SIGNS, signs)
    times(target, signs, target)
    _rounded_targets(target, largest_target)
    return target


@functools.partial(compiled, fastmath={"contract"})
def _add_columns(target, first, last, table, place, total):  # type: ignore[no-untyped-def]
    """Adds targets from `first` to `last` times columns of the table, of which the first is at `place`."""
    n, at = np.uint64(total.shape[0]), np.uint64(place)
    n2, n3, n4 = n + n, n + n + n, n + n + n + n
    n5, n6, n7 = n4 + n, n4 + n2, n4 + n3
    # Several at once, so that sums are loaded and stored less often.
    while first + 8 <= last:
        t0, t1, t2, t3 = target[first], target[first + 1], target[first + 2], target[first + 3]
        t4, t5, t6, t7 = target[first + 4], target[first + 5], target[first + 6], target[first + 7]
        for row in range(n):
            i = at + row
            value = total[row] + t0 * table[i] + t1 * table[i + n] + t2 * table[i + n2]
            value = value + t3 * table[i + n3] + t4 * table[i + n4] + t5 * table[i + n5]
            total[row] = value + t6 * table[i + n6] + t7 * table[i + n7]
        at += n4 + n4
        first += 8
    while first < last:
        t0 = target[first]
        for row in range(n):
            total[row] += t0 * table[at + row]
        at += n
        first += 1


@compiled
def _fold(target, first, last, folded):  # type: ignore[no-untyped-def]
    """Adds up what meets the same column of the table."""
    period = folded.shape[0]
    column = first % period
    for i in range(first, last):
        folded[column] += target[i]
        column += 1
        if column == period:
            column = 0


@compiled
def _to_largest(values, largest):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(values.shape[0])):
        size = abs(values[i])
        largest[i] = size if size > largest[i] else largest[i]


@compiled
def _round(values, factor, rounded):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(values.shape[0])):
        rounded[i] = np.int16(np.rint(values[i] * factor))


@compiled
def _scores(target, ends, tiles, period, largest_score):  # type: ignore[no-untyped-def]
    """See `open_trellis._correlations` and `open_trellis._rounded`."""
    n_tiles, width = tiles.shape[0], tiles.shape[1] // period
    n_stages = len(ends) - 1
    found = np.zeros((n_stages, n_tiles * width), np.float32)
    largest = np.ones(width, np.float32)
    folded = np.zeros((n_stages, period), np.float32)
    for stage in range(n_stages):
        if ends[stage + 1] - ends[stage] > period:
            _fold(target, ends[stage], ends[stage + 1], folded[stage])
    # A tile stays in the cache while all stages are multiplied by it.
    for tile in range(n_tiles):
        for stage in range(n_stages):
            total = found[stage, tile * width : (tile + 1) * width]
            first = ends[stage]
            if ends[stage + 1] - first > period:
                _add_columns(folded[stage], 0, period, tiles[tile], 0, total)
                first = ends[stage + 1]
            while first < ends[stage + 1]:
                column = first % period
                last = min(ends[stage + 1], first + period - column)
                _add_columns(target, first, last, tiles[tile], column * width, total)
                first = last
            _to_largest(total, largest)
    scores = np.empty(found.shape, np.int16)
    factor = np.float32(np.float32(largest_score) / largest.max())
    for stage in range(n_stages):
        _round(found[stage], factor, scores[stage])
    return scores


def scores_of_stages(
    key: UInt32[np.ndarray, "2"],
    mu: Float[np.ndarray, " m"],
    ends: Int[np.ndarray, " k1"],
    tables: Tables,
) -> Int16[np.ndarray, "k rows"]:
    """Scores of the rows of the table in each stage of a message.

    Args:
        key: shared randomness.
        mu: direction.
        ends: 0, and where each stage ends.
        tables: of the trellis.

    Returns:
        Integers up to `tables.largest_score`.
    """
    target = _targets(key, mu, tables.dealing, tables.block, tables.largest_target)
    return _scores(target, ends, tables.tiles, tables.period, tables.largest_score)
