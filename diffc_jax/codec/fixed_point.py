"""Logarithms, powers and the normal distribution in integers, so that every machine gets the same bits.

Numbers with n bits after the point are integers in units of 2^-n. Logarithms are to base 2 (octaves).
"""

import functools
import math

import numpy as np
from jaxtyping import Int
from scipy.special import ndtr

# Bits after the point of logarithms, and of probabilities.
LOG_BITS = 20
CDF_BITS = 24
# Powers of two come in steps of 2^-8 octaves, with this many bits after the point.
STEPS_PER_OCTAVE = 256
POWER_BITS = 30
_CELLS_PER_SIGMA = 256
_MOST_SIGMAS = 8
_MANTISSA_BITS = 40


def log2(number: int) -> int:
    """log2 of a positive integer, rounded down to 20 bits after the point, up to the last of them.

    The mantissa is squared again and again: each time that it passes 2 is a one among the binary digits.
    """
    whole = number.bit_length() - 1
    shift = whole - _MANTISSA_BITS
    mantissa = number >> shift if shift >= 0 else number << -shift
    digits = whole
    for _ in range(LOG_BITS):
        mantissa = mantissa * mantissa >> _MANTISSA_BITS
        digits <<= 1
        if mantissa >> (_MANTISSA_BITS + 1):
            mantissa >>= 1
            digits |= 1
    return digits


@functools.cache
def power_of_two(code: int, bits: int) -> int:
    """2^(code / 256), rounded down, in units of 2^-bits; `code` may be negative."""
    octave, index = divmod(code, STEPS_PER_OCTAVE)
    shift = octave + bits - POWER_BITS
    return _powers()[index] << shift if shift >= 0 else _powers()[index] >> -shift


@functools.cache
def _powers() -> list[int]:
    """2^(i / 256) for i = 0, 1, .. 255, rounded down to 30 bits, by eight square roots each."""
    powers = []
    for index in range(STEPS_PER_OCTAVE):
        root = 1 << (STEPS_PER_OCTAVE * POWER_BITS + index)
        for _ in range(8):
            root = math.isqrt(root)
        powers.append(root)
    return powers


def normal_cdf(sigmas: int) -> int:
    """Probability, in units of 2^-24, that a standard normal variable is less.

    `sigmas` has 16 bits after the point. Linear between 256 points for each standard deviation; 0 and 2^24
    beyond 8 of them.
    """
    least = _MOST_SIGMAS << 16
    if sigmas <= -least:
        return 0
    if sigmas >= least:
        return 1 << CDF_BITS
    cell, rest = divmod(sigmas + least, (1 << 16) // _CELLS_PER_SIGMA)
    table = _normal_table()
    low, high = table[cell], table[cell + 1]
    return low + ((high - low) * rest * _CELLS_PER_SIGMA >> 16)


@functools.cache
def _normal_table() -> list[int]:
    table: Int[np.ndarray, " n"] = np.rint(
        ndtr(np.arange(-_MOST_SIGMAS, _MOST_SIGMAS + 1 / _CELLS_PER_SIGMA, 1 / _CELLS_PER_SIGMA))
        * (1 << CDF_BITS)
    ).astype(np.int64)
    return [int(value) for value in table]
