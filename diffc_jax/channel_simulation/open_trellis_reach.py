"""How far samples of the open trellis go in the direction of mu: benchmarks/open_trellis_calibration.py.

The tables are part of the format of files, so what is between their entries is interpolated in integers.
"""

import functools
import itertools
import math

# Bits after the point of lengths.
REACH_BITS = 16
# Path bits k for which tables have entries; paths have at least the first and at most the last of them.
LADDER = (
    *(8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128),
    *(160, 192, 224, 256, 320, 384, 448, 512, 576, 640),
)
LEAST_BITS, MOST_BITS = LADDER[0], LADDER[-1]
_UNIT = 100_000

# Mean projection of the best path's sample over sqrt(k), by memory, in units of 1e-5, from 3000 searches each
# in messages of 12288 dimensions. Standard errors: 260 at k = 8, 70 at 32, 40 at 64, 25 at 128, 10 at 512.
GAINS = {
    8: (
        *(97652, 100_207, 102_584, 103_697, 104_601, 106_319, 107_686, 108_266, 108_680),
        *(108_917, 109_328, 109_523, 109_895, 110_189, 110_410, 110_559, 110_655, 110_827),
        *(110_926, 110_969, 111_037, 111_075, 111_106, 111_173, 111_167, 111_230, 111_238),
    ),
    12: (
        *(97909, 100_545, 102_607, 103_796, 105_468, 107_327, 108_775, 109_693, 110_427),
        *(111_276, 111_908, 112_153, 112_415, 112_800, 112_969, 113_241, 113_346, 113_500),
        *(113_582, 113_650, 113_741, 113_822, 113_871, 113_921, 113_935, 113_962, 113_957),
    ),
    14: (
        *(96473, 99216, 102_244, 103_475, 104_987, 107_048, 108_813, 109_661, 110_537),
        *(111_600, 112_200, 112_617, 112_971, 113_290, 113_580, 113_813, 113_964, 114_140),
        *(114_289, 114_365, 114_433, 114_488, 114_550, 114_574, 114_630, 114_638, 114_637),
    ),
}
# Variance of this projection, likewise.
VARIANCES = {
    8: (
        *(16384, 14818, 12223, 11184, 9500, 8432, 7913, 7152, 6702),
        *(6266, 5609, 5241, 5338, 5146, 4695, 4609, 4405, 4455),
        *(4358, 4378, 4101, 4268, 4294, 3943, 4007, 4129, 4071),
    ),
    12: (
        *(16934, 14943, 11655, 11206, 9991, 7759, 6566, 5682, 5322),
        *(4377, 4125, 3657, 3333, 3053, 2705, 2767, 2668, 2352),
        *(2190, 2162, 2165, 2053, 2027, 1925, 1901, 2040, 1887),
    ),
    14: (
        *(16641, 14164, 12325, 11291, 9865, 8118, 6198, 5844, 4924),
        *(4256, 3640, 3367, 3064, 2422, 2250, 2277, 2044, 1904),
        *(1788, 1810, 1646, 1608, 1541, 1472, 1554, 1510, 1409),
    ),
}
MEMORIES = tuple(GAINS)


@functools.cache
def mean_projections(memory: int) -> list[int]:
    """R(k) for k = 0, 1, .. 640, 16 bits after the point; below 8, where no paths are, with the gain of 8."""
    projections = []
    for k in range(MOST_BITS + 1):
        gain, unit = _interpolated(GAINS[memory], k)
        projections.append(math.isqrt((k * gain * gain << 2 * REACH_BITS) // (unit * unit)))
    return projections


@functools.cache
def spreads(memory: int) -> list[int]:
    """sqrt(1 - v(k)) for k = 0, 1, .. 640, 16 bits after the point.

    v is the variance of the projection, and of rounding targets to the grid of R(k).
    """
    reach = mean_projections(memory)
    one = 1 << 2 * REACH_BITS
    spread = []
    for k in range(MOST_BITS + 1):
        variance, unit = _interpolated(VARIANCES[memory], k)
        gap = reach[k] - reach[k - 1] if k else 0
        spread.append(math.isqrt(one - (variance << 2 * REACH_BITS) // unit - gap * gap // 12))
    return spread


def _interpolated(entries: tuple[int, ...], k: int) -> tuple[int, int]:
    """What is on the line between neighbouring entries, as a fraction."""
    k = max(k, LEAST_BITS)
    for (low, first), (high, second) in itertools.pairwise(zip(LADDER, entries, strict=True)):
        if k <= high:
            return first * (high - k) + second * (k - low), (high - low) * _UNIT
    raise ValueError(f"paths have at most {MOST_BITS} bits")
