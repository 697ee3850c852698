"""A Kalman filter of how far the denoiser is from the image, which sender and receiver run alike.

    level = log2 |x - x_hat|^2      and      slope = -d level / d log2 SNR

In integers, because the format depends on it: logarithms to base 2 with 20 bits after the point, variances
with 40. Constants fit photographs of 64x64 pixels; other images only take more bits.
"""

import math

from diffc_jax.codec.fixed_point import LOG_BITS, log2

ONE = 1 << LOG_BITS


def fixed(value: float) -> int:
    """The integer nearest to a number with 20 bits after the point."""
    return round(value * ONE)


# Natural logarithms and their standard deviations, in octaves.
_OCTAVES = 1 / math.log(2)
_LEVEL, _LEVEL_SD = fixed(8.1 * _OCTAVES), fixed(0.7 * _OCTAVES)
_LEVEL_DIMENSIONS = 12288
_SLOPE, _SLOPE_SD = fixed(0.36), fixed(0.2)
# The first step leads from infinitely far away to somewhere.
_FIRST_FALL, _FIRST_FALL_SD = fixed(1.3 * _OCTAVES), fixed(0.55 * _OCTAVES)
_LEVEL_NOISE, _LEVEL_NOISE_PER_OCTAVE = fixed(0.005 * _OCTAVES), fixed(0.05)
_SLOPE_RISE, _SLOPE_NOISE = fixed(0.01), fixed(0.03)
# (d level / d ln a)^2 = (2 / ln 2)^2
_LEVEL_PER_LENGTH = fixed(4 * _OCTAVES**2)


class LevelFilter:
    """Mean and covariance of level and slope.

    Attributes:
        level: as predicted, 20 bits after the point.
    """

    __slots__ = ("_level_var", "_slope", "_slope_covar", "_slope_var", "level")

    def __init__(self, size: int):
        """What is known of an image of so many dimensions before the first step."""
        self.level = _LEVEL + log2(size) - log2(_LEVEL_DIMENSIONS)
        self._slope = _SLOPE
        self._level_var, self._slope_covar, self._slope_var = _LEVEL_SD**2, 0, _SLOPE_SD**2

    def copy(self) -> "LevelFilter":
        """One that goes on from here by itself."""
        other = object.__new__(LevelFilter)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def sd(self, more: int = 0) -> int:
        """Standard deviation of the level, at least 1, if its variance were so much more."""
        return max(math.isqrt(self._level_var + more), 1)

    def observe(self, level: int, variance: int) -> None:
        """Learns a level that was measured with an error of this variance."""
        total = self._level_var + variance
        error = level - self.level
        self.level += error * self._level_var // total
        self._slope += error * self._slope_covar // total
        _level_var, covar = self._level_var, self._slope_covar
        self._level_var -= _level_var * _level_var // total
        self._slope_covar -= _level_var * covar // total
        self._slope_var -= covar * covar // total

    def predict(self, octaves: int | None) -> None:
        """The level after an increase of log2 SNR; None stands for that of the first step."""
        if octaves is None:
            self.level -= _FIRST_FALL
            self._level_var += _FIRST_FALL_SD**2
            return
        self.level -= self._slope * octaves >> LOG_BITS
        noise = _LEVEL_NOISE + (_LEVEL_NOISE_PER_OCTAVE * octaves >> LOG_BITS)
        self._level_var += (
            noise * noise
            - (2 * octaves * self._slope_covar >> LOG_BITS)
            + (octaves * octaves * self._slope_var >> 2 * LOG_BITS)
        )
        self._slope_covar -= octaves * self._slope_var >> LOG_BITS
        self._slope_var += _SLOPE_NOISE**2
        self._slope += _SLOPE_RISE


def length_variance(length: int, half_width: int) -> int:
    """Variance of the level that follows from a length that is uniform in +- half_width around `length`."""
    width = half_width * half_width
    return (width * _LEVEL_PER_LENGTH << LOG_BITS) // (3 * length * length)
