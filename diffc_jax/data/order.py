"""Which image comes when in training, and which way round: random access, on the host, for many at once.

The order and the flips are those of Grain's `shuffle`, `repeat` and `random_map` (google/grain 0.2.18), so
that a run is the same whichever reader feeds it. Two known constructions do it: a permutation by cycle
walking over a Feistel cipher with the round function of SIMON (Black & Rogaway 2002; Beaulieu et al. 2013),
whose keys come from C++'s `std::seed_seq`, and a counter-based generator (Philox4x64-10, Salmon et al. 2011).
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt64

from diffc_jax.errors import UsageError
from diffc_jax.rng import numpy_seed

_ROUNDS = 4
_SMALLEST_BLOCK = 16
_MASK_32 = 0xFFFFFFFF
_PHILOX_MULTIPLIERS = np.array([0xD2E7470EE14C6C93, 0xCA5A826395121157], np.uint64)
_PHILOX_INCREMENTS = np.array([0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B], np.uint64)
_PHILOX_ROUNDS = 10


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of training batches, in the order in which they are used.

    Attributes:
        source: which of the sources, (k, b).
        index: position of the image in its source, (k, b).
        flip: whether the image is mirrored left to right, (k, b).
    """

    source: Int[np.ndarray, "k b"]
    index: Int[np.ndarray, "k b"]
    flip: Bool[np.ndarray, "k b"]


class TrainingOrder:
    """The endless sequence of training batches: each epoch of a source is one permutation of it.

    A batch has the same number of images of each source, those of one source side by side. Batches run across
    the ends of epochs, so that every image of a source is used once in each of its epochs.
    """

    def __init__(self, lengths: Sequence[int], counts: Sequence[int], seed: int, flip: bool):
        """Makes the sequence for sources of some lengths; a batch has `counts` images of each.

        With `flip`, images are mirrored with probability 1/2, drawn anew in each epoch.

        Raises:
            UsageError: a source without images in a batch.
        """
        if min(counts) < 1:
            raise UsageError(f"must be positive, not {min(counts)}", field="batch_size")
        self.counts = tuple(counts)
        self._lengths, self._flip = list(lengths), flip
        self.batch_size = sum(counts)
        self._first = np.concatenate([[0], np.cumsum(counts)])
        names = ["", *(f"/{number}" for number in range(1, len(lengths)))]
        self._shuffle_seeds = [numpy_seed(seed, f"data/shuffle{name}") for name in names]
        self._flip_seeds = [numpy_seed(seed, f"data/flip{name}") for name in names]

    def rows(self, batches: Sequence[int], rows: Sequence[int] | None = None) -> Rows:
        """These rows (None: all) of several batches, numbered from 0 on: arrays (batches, rows)."""
        wanted = np.arange(self.batch_size) if rows is None else np.asarray(rows, np.int64)
        source = np.searchsorted(self._first, wanted, side="right") - 1
        shape = (len(batches), len(wanted))
        index, flip = np.empty(shape, np.int64), np.zeros(shape, bool)
        for number, length in enumerate(self._lengths):
            own = source == number
            start = self.counts[number] * np.asarray(batches, np.int64)
            position = np.add.outer(start, wanted[own] - self._first[number])
            index[:, own] = self._shuffled(number, position.ravel(), length).reshape(position.shape)
            if self._flip:
                coins = fair_coins(self._flip_seeds[number], position.ravel())
                flip[:, own] = coins.reshape(position.shape)
        return Rows(np.broadcast_to(source, shape), index, flip)

    def _shuffled(self, number: int, position: Int[np.ndarray, " n"], length: int) -> np.ndarray:
        index = np.empty_like(position)
        epochs = position // length
        for epoch in np.unique(epochs):
            own = epochs == epoch
            seed = (self._shuffle_seeds[number] + int(epoch)) & _MASK_32
            index[own] = permuted(position[own] - epoch * length, length, seed)
        return index


def permuted(index: Int[np.ndarray, " n"], length: int, seed: int) -> Int[np.ndarray, " n"]:
    """Where a random permutation of 0 .. length - 1, of a seed of 32 bits, puts each index.

    Equal to Grain's `index_shuffle`, except for lengths 2^16 + 1, 2^18 + 1, ..., at which Grain's uses one
    bit too few: it returns one index twice and the last one never.
    """
    block = max(_SMALLEST_BLOCK, (length - 1).bit_length())
    if block == _SMALLEST_BLOCK:
        return _small_permutation(length, seed)[index]
    result = np.array(index, np.int64)
    # The cipher permutes a power of two; what lands outside is enciphered again until it is inside.
    walking = np.arange(len(result))
    while len(walking):
        result[walking] = _encipher(result[walking], block, seed)
        walking = walking[result[walking] >= length]
    return result


@functools.lru_cache(maxsize=8)
def _small_permutation(length: int, seed: int) -> Int[np.ndarray, " n"]:
    """All of a permutation that may be much shorter than what the cipher permutes, where walks are long."""
    everything = np.arange(1 << _SMALLEST_BLOCK)
    enciphered = _encipher(everything, _SMALLEST_BLOCK, seed)
    step = np.where(everything < length, everything, enciphered)
    for _ in range(_SMALLEST_BLOCK):  # each time, twice as many steps at once
        step = step[step]
    return step[enciphered[:length]]


def _encipher(value: Int[np.ndarray, " n"], block: int, seed: int) -> Int[np.ndarray, " n"]:
    word = (block + 1) // 2
    mask = (1 << word) - 1

    def rotate(value: np.ndarray, by: int) -> np.ndarray:
        return ((value << by) | (value >> (word - by))) & mask

    def mix(value: np.ndarray) -> np.ndarray:
        return (rotate(value, 1) & rotate(value, 8)) ^ rotate(value, 2)

    left, right = value >> word, value & mask
    keys = [key & mask for key in _round_keys(seed)]
    for first, second in zip(keys[::2], keys[1::2], strict=True):
        left = left ^ mix(right) ^ first
        right = right ^ mix(left) ^ second
    return (left << word) | right


@functools.lru_cache(maxsize=64)
def _round_keys(seed: int) -> list[int]:
    """Four 32-bit words of `std::seed_seq{seed}` (C++ standard, [rand.util.seedseq]) for four outputs."""
    n, shift, second_shift = _ROUNDS, 1, 2
    words = [0x8B8B8B8B] * n

    def scramble(value: int) -> int:
        return value ^ (value >> 27)

    for k in range(n):
        here, there, far = k, (k + shift) % n, (k + second_shift) % n
        product = 1664525 * scramble(words[here] ^ words[there] ^ words[k - 1]) & _MASK_32
        entropy = product + (1 if k == 0 else k + (seed if k == 1 else 0)) & _MASK_32
        words[there] = words[there] + product & _MASK_32
        words[far] = words[far] + entropy & _MASK_32
        words[here] = entropy
    for k in range(n):
        here, there, far = k, (k + shift) % n, (k + second_shift) % n
        total = words[here] + words[there] + words[k - 1] & _MASK_32
        product = 1566083941 * scramble(total) & _MASK_32
        words[there] ^= product
        words[far] ^= product - k & _MASK_32
        words[here] = product - k & _MASK_32
    return words


def fair_coins(seed: int, index: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """One fair coin for each index: whether NumPy's Philox with that last word of its counter draws < 1/2."""
    key = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    counter = np.zeros((4, len(index)), np.uint64)
    counter[0] = 1  # NumPy counts before it draws
    counter[3] = index
    with np.errstate(over="ignore"):
        for _ in range(_PHILOX_ROUNDS):
            (high_0, low_0), (high_1, low_1) = (
                _wide_product(multiplier, counter[word])
                for multiplier, word in zip(_PHILOX_MULTIPLIERS, (0, 2), strict=True)
            )
            counter = np.stack(
                [high_1 ^ counter[1] ^ key[0], low_1, high_0 ^ counter[3] ^ key[1], low_0]
            )
            key = key + _PHILOX_INCREMENTS
    return counter[0] < np.uint64(1 << 63)


def _wide_product(
    factor: np.uint64, values: UInt64[np.ndarray, " n"]
) -> tuple[UInt64[np.ndarray, " n"], UInt64[np.ndarray, " n"]]:
    """High and low 64 bits of products of 64-bit integers."""
    half, mask = np.uint64(32), np.uint64(_MASK_32)
    high, low = factor >> half, factor & mask
    cross = (low * (values & mask) >> half) + (high * (values & mask) & mask)
    cross += low * (values >> half) & mask
    carried = (high * (values & mask) >> half) + (low * (values >> half) >> half)
    return high * (values >> half) + carried + (cross >> half), factor * values
