"""How large the next step of a tile is, and how probable each length of its path: what both sides predict.

A step of precision delta costs a^2 / 2 nats with a^2 = delta |x - x_hat|^2. The receiver does not know
|x - x_hat|^2, but predicts it from the projections it has been told: T is a, but for noise whose variance it
knows. A Kalman filter follows

    level = log2 |x - x_hat|^2      and      slope = -d level / d log2 SNR,

and says how large delta has to be for a step of the size that is wanted, and which T are to be expected.
All in integers, because the format depends on it (`fixed_point`).
"""

import dataclasses
import functools
import math

from diffc_jax.channel_simulation import projection
from diffc_jax.channel_simulation.open_trellis_reach import MOST_BITS, mean_projections
from diffc_jax.channel_simulation.projection import Grid, make_grid
from diffc_jax.codec import fixed_point
from diffc_jax.codec.fixed_point import CDF_BITS, LOG_BITS, log2, power_of_two
from diffc_jax.errors import InputError

SNR_BITS = 48
# Path bits of a step by plan: a tenth of those before it, within bounds.
LEAST_STEP, MOST_STEP, STEP_SHARE = 48, 448, 10
_ONE = 1 << LOG_BITS
# Variances have twice as many bits after the point as logarithms.
_VARIANCE_BITS = 2 * LOG_BITS


def _fixed(value: float) -> int:
    return round(value * _ONE)


_NAT = 1 / math.log(2)
FIRST_LEVEL = _fixed(8.1 * _NAT)
FIRST_LEVEL_SIZE = 12288
FIRST_SLOPE = _fixed(0.36)
FIRST_DROP = _fixed(1.3 * _NAT)
LEVEL_SD, SLOPE_SD, DROP_SD = _fixed(0.7 * _NAT), _fixed(0.2), _fixed(0.55 * _NAT)
LEVEL_DRIFT, LEVEL_DRIFT_RATE = _fixed(0.005 * _NAT), _fixed(0.05)
SLOPE_RISE, SLOPE_DRIFT = _fixed(0.01), _fixed(0.03)
# Sizes of a step that differs from the plan: the special symbol is followed by a number up to 31.
SIZES, SIZE_UNCHANGED, SIZES_PER_OCTAVE = 32, 24, 8
TOTAL_BITS = 24
SPECIAL_WIDTH = 1 << 16


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    delta_code: int
    delta: int
    grid: Grid
    level: int
    sigma: int
    memory: int
    first: int
    count: int

    def cumulative(self, n: int) -> int:
        """Where the n-th cell begins among 2^24 equally likely numbers."""
        if n <= 0:
            return SPECIAL_WIDTH
        if n >= self.count:
            return 1 << TOTAL_BITS
        edge = self.grid.below(self.first + n)
        # log2 |x - x_hat|^2 if a were at the edge.
        level = 2 * (log2(edge) - (16 << LOG_BITS)) - (self.delta_code << LOG_BITS) // 256
        z = ((level - self.level) << 16) // self.sigma
        p = (9 * fixed_point.normal_cdf(z) + fixed_point.normal_cdf(z // 3)) // 10
        room = (1 << TOTAL_BITS) - SPECIAL_WIDTH - self.count
        return SPECIAL_WIDTH + (room * p >> CDF_BITS) + n

    def find(self, number: int):
        low, high = 0, self.count
        while high - low > 1:
            mid = (low + high) // 2
            if self.cumulative(mid) <= number:
                low = mid
            else:
                high = mid
        return low

    def target(self, n):
        return self.grid.target(self.first + n)

    def observed(self, target):
        return 2 * (log2(target) - (16 << LOG_BITS)) - (self.delta_code << LOG_BITS) // 256


class Predictor:
    __slots__ = ("level", "slope", "p00", "p01", "p11", "snr", "bits", "steps", "memory")

    def __init__(self, size: int, memory: int):
        self.level = FIRST_LEVEL + log2(size) - log2(FIRST_LEVEL_SIZE)
        self.slope = FIRST_SLOPE
        self.p00, self.p01, self.p11 = LEVEL_SD**2, 0, SLOPE_SD**2
        self.snr = self.bits = self.steps = 0
        self.memory = memory

    def step_bits(self):
        return min(max(self.bits // STEP_SHARE, LEAST_STEP), MOST_STEP)

    def offer(self, word: int, size_code: int = SIZE_UNCHANGED) -> Offer:
        bits = self.step_bits()
        eighths = size_code - SIZE_UNCHANGED
        code = (_log2_m2(bits, self.memory) - self.level + (1 << 11) >> 12) + 32 * eighths
        own = min(max(bits * power_of_two(32 * eighths, 16) >> 16, 8), MOST_STEP)
        grid = make_grid(word, own, self.memory)
        first = 0 if grid.below(1) > 0 and grid.below(0) <= 0 else -1
        while grid.below(first + 1) <= 0:
            first += 1
        count = max(bisect_count(grid, first, mean_projections(self.memory)[MOST_BITS]), 1)
        return Offer(code, power_of_two(code, SNR_BITS), grid, self.level, math.isqrt(self.p00), self.memory, first, count)

    def advance(self, offer: Offer, n: int, k: int):
        t = offer.target(n)
        t_ = max(t, offer.grid.half_width)
        noise = (offer.grid.half_width**2 * 4 << _VARIANCE_BITS) // (3 * t_ * t_)
        noise = noise * NAT2 >> 20
        y = offer.observed(t_) - self.level
        total = self.p00 + noise
        self.level += y * self.p00 // total
        self.slope += -(-y * self.p01 // total)
        p00, p01, p11 = self.p00, self.p01, self.p11
        self.p00 -= p00 * p00 // total
        self.p01 -= p00 * p01 // total
        self.p11 -= p01 * p01 // total
        before = self.snr
        self.snr += offer.delta
        self.bits += k
        self.steps += 1
        if not before:
            self.level -= FIRST_DROP
            self.p00 += DROP_SD**2
            return
        c = log2(self.snr) - log2(before)
        self.level -= self.slope * c >> LOG_BITS
        q = LEVEL_DRIFT + (LEVEL_DRIFT_RATE * c >> LOG_BITS)
        self.p00 += -2 * (c * self.p01 >> LOG_BITS) + (c * c * self.p11 >> 2 * LOG_BITS) + q * q
        self.p01 -= c * self.p11 >> LOG_BITS
        self.p11 += SLOPE_DRIFT**2
        self.slope += SLOPE_RISE


NAT2 = round((1 / math.log(2)) ** 2 * (1 << 20))

def bisect_count(grid, first, most):
    # cells whose target is not beyond the longest path
    n = ((most << 16) // (2 * grid.half_width) - grid.offset) // 65536 - first + 1
    return n


@functools.cache
def _log2_m2(bits: int, memory: int) -> int:
    """log2 of the |mu|^2 whose samples take so many path bits on average: R^2 - 1, 20 bits after the point."""
    reach = mean_projections(memory)[bits]
    return log2(reach * reach - (1 << 32)) - (32 << LOG_BITS)
