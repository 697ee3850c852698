"""Integers for logarithms, powers and the normal distribution, beside exact rationals and floats."""

import math
import random
from fractions import Fraction

import pytest
from scipy.special import ndtr

from diffc_jax.codec.fixed_point import CDF_BITS, LOG_BITS, log2, normal_cdf, power_of_two


def test_logarithms():
    rng = random.Random(0)
    for bits in [*range(1, 60), 100, 500]:
        number = rng.getrandbits(bits) | 1 << (bits - 1)
        # Of the number that the leading 53 bits make, so that floats know it.
        expected = math.log2(number >> max(bits - 53, 0)) + max(bits - 53, 0)
        assert 0 <= expected * (1 << LOG_BITS) - log2(number) < 1.01
    for octave in range(70):
        assert log2(1 << octave) == octave << LOG_BITS


def test_logarithms_rise():
    values = [log2(number) for number in range(1, 3000)]
    assert values == sorted(values)


@pytest.mark.parametrize("bits", [16, 48])
def test_powers(bits):
    for code in range(-10_240, 10_241, 37):
        value = power_of_two(code, bits)
        exact = 2.0 ** (code / 256 + bits)
        # Rounded down to 30 bits and to a whole number.
        assert exact * (1 - 2**-29) - 1 < value <= exact * (1 + 1e-12)
    assert power_of_two(0, bits) == 1 << bits


def test_powers_are_rounded_down_exactly():
    """2^(i / 256) in 30 bits: its 256th power is on the right side of 2^i."""
    for index in range(256):
        value = power_of_two(index, 30)
        low, high = (Fraction(value + up, 1 << 30) ** 256 for up in (0, 1))
        assert low <= 2**index < high


def test_normal_distribution():
    for sigmas in range(-9 << 16, 9 << 16, 4999):
        expected = float(ndtr(sigmas / (1 << 16))) * (1 << CDF_BITS)
        # Linear interpolation of a curvature up to 0.24 over 1 / 256, and two roundings.
        assert abs(normal_cdf(sigmas) - expected) < 0.25 / 8 / 256**2 * (1 << CDF_BITS) + 2
    assert [normal_cdf(sigmas << 16) for sigmas in (-8, 0, 8)] == [0, 1 << 23, 1 << 24]


def test_normal_distribution_rises():
    values = [normal_cdf(sigmas) for sigmas in range(-8 << 16, 8 << 16, 101)]
    assert values == sorted(values)
