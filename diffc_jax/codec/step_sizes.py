"""How large the next step of a tile is, and how probable each length of its path: what both sides predict.

A step of precision delta costs a^2 / 2 nats, a^2 = delta |x - x_hat|^2. The receiver does not know
|x - x_hat|^2, but it has been told how far the samples before went, which is a and noise of a known variance
(`channel_simulation.projection`). From these a Kalman filter predicts

    level = log2 |x - x_hat|^2      and      slope = -d level / d log2 SNR.

That says how large delta has to be for a step of the size that is wanted, so that delta need not be sent, and
which targets of the projection are to be expected, so that the one that is sent takes few bits.

All in integers, because the format depends on it: logarithms to base 2 with 20 bits after the point,
variances with 40. Constants fit photographs of 64x64 pixels; other images only take more bits.
"""

import dataclasses
import functools
import math

from diffc_jax.channel_simulation.bits import word_pair
from diffc_jax.channel_simulation.open_trellis_reach import (
    LEAST_BITS,
    MOST_BITS,
    REACH_BITS,
    mean_projections,
)
from diffc_jax.channel_simulation.projection import Grid, bits_for, make_grid
from diffc_jax.codec.fixed_point import (
    CDF_BITS,
    LOG_BITS,
    STEPS_PER_OCTAVE,
    log2,
    normal_cdf,
    power_of_two,
)
from diffc_jax.codec.stream import SNR_BITS

# delta is 2^(code / 256); codes beyond these occur in damaged data only.
_DELTA_CODES = range(-40 * STEPS_PER_OCTAVE, 40 * STEPS_PER_OCTAVE + 1)

# A step has a share of the path bits before it, within bounds.
_STEP_BITS = (48, 448)
_STEP_SHARE = 8
# Of small tiles less: so many dimensions for each bit, and for each of the longest path.
_DIMENSIONS_PER_BIT, _DIMENSIONS_PER_BIT_OF_LONGEST = 8, 4
# A packet ends after so many path bits, or three quarters of those before it.
_PACKET_BITS = 640

# A step of another size is announced by a symbol of this share of 2^24, and five bits: eighths of octaves.
SYMBOL_BITS = 24
OTHER_SIZE = 1 << 16
SIZE_BITS, SIZE_AS_PLANNED, SIZES_PER_OCTAVE = 5, 24, 8
# Announcements of one step: fewer lead from any size to any other.
MOST_SIZES = 64
# First counter of the words that a tile's key gives for targets; `chain` uses 0 and 1.
_TARGETS = 2

_ONE = 1 << LOG_BITS


def _fixed(value: float) -> int:
    return round(value * _ONE)


# Natural logarithms and their standard deviations, in octaves.
_OCTAVES = 1 / math.log(2)
_LEVEL, _LEVEL_SD = _fixed(8.1 * _OCTAVES), _fixed(0.7 * _OCTAVES)
_LEVEL_DIMENSIONS = 12288
_SLOPE, _SLOPE_SD = _fixed(0.36), _fixed(0.2)
# The first step leads from infinitely far away to somewhere.
_FIRST_FALL, _FIRST_FALL_SD = _fixed(1.3 * _OCTAVES), _fixed(0.55 * _OCTAVES)
_LEVEL_NOISE, _LEVEL_NOISE_PER_OCTAVE = _fixed(0.005 * _OCTAVES), _fixed(0.05)
_SLOPE_RISE, _SLOPE_NOISE = _fixed(0.01), _fixed(0.03)
# (d level / d ln a)^2 = (2 / ln 2)^2
_LEVEL_PER_LENGTH = _fixed(4 * _OCTAVES**2)


def most_bits(size: int) -> int:
    """Bits of the longest path of tiles of `size` dimensions."""
    return min(MOST_BITS, max(size // _DIMENSIONS_PER_BIT_OF_LONGEST, LEAST_BITS))


@dataclasses.dataclass(frozen=True, slots=True)
class StepOffer:
    """A step of known precision, and the cells that its a may be in.

    Attributes:
        delta_code: log2 of delta, in 1 / 256 octaves.
        grid: of the targets.
        first: number in the grid of the first cell.
        n_cells: how many cells there are; beyond them paths are too short. Where all are, it is 0 or less.
        level: log2 |x - x_hat|^2 as predicted.
        level_sd: its standard deviation.
        memory: of the trellis.
    """

    delta_code: int
    grid: Grid
    first: int
    n_cells: int
    level: int
    level_sd: int
    memory: int

    @property
    def delta(self) -> int:
        """What the step adds to the signal-to-noise ratio, in units of 2^-48."""
        return power_of_two(self.delta_code, SNR_BITS)

    def cell(self, length: float) -> int:
        """The cell that a is in; `n_cells` or more if it is out of reach."""
        return max(self.grid.nearest(length) - self.first, 0)

    def start(self, cell: int) -> int:
        """Where the share of a cell in 2^24 begins, which ends where that of the next one begins."""
        if cell <= 0:
            return OTHER_SIZE
        if cell >= self.n_cells:
            return 1 << SYMBOL_BITS
        sigmas = (
            (self.level_at(self.grid.below(self.first + cell)) - self.level) << 16
        ) // self.level_sd
        # Now and then the prediction is far off: a tenth of the probability is three times as wide.
        below = (9 * normal_cdf(sigmas) + normal_cdf(sigmas // 3)) // 10
        room = (1 << SYMBOL_BITS) - OTHER_SIZE - self.n_cells
        return OTHER_SIZE + cell + (room * below >> CDF_BITS)

    def find(self, number: int) -> int:
        """The cell in whose share a number from `OTHER_SIZE` to 2^24 - 1 is.

        Raises:
            ValueError: there are no cells, so nothing of the kind was sent.
        """
        if self.n_cells < 1:
            raise ValueError("no path is long enough for a step")
        low, high = 0, self.n_cells
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.start(middle) <= number else (low, middle)
        return low

    def bits(self, cell: int) -> float:
        """What it takes to send a cell."""
        return SYMBOL_BITS - math.log2(self.start(cell + 1) - self.start(cell))

    def target(self, cell: int) -> int:
        """How far the sample shall go, 16 bits after the point."""
        return self.grid.target(self.first + cell)

    def path_bits(self, cell: int) -> int:
        """Bits of the path of such a sample."""
        return bits_for(self.target(cell), self.memory)

    def level_at(self, length: int) -> int:
        """log2 |x - x_hat|^2 if a had this length, which is positive and has 16 bits after the point."""
        return 2 * (log2(length) - (REACH_BITS << LOG_BITS)) - self.delta_code * (
            _ONE // STEPS_PER_OCTAVE
        )


class StepSizes:
    """Follows one tile through its steps.

    Attributes:
        snr: signal-to-noise ratio of the latents, in units of 2^-48.
        n_steps: how many steps there were.
        bits: path bits of these steps.
        ends_packet: whether the last step is the last one of its packet.
    """

    __slots__ = (
        "_key",
        "_level",
        "_level_var",
        "_memory",
        "_next_end",
        "_size",
        "_slope",
        "_slope_covar",
        "_slope_var",
        "bits",
        "ends_packet",
        "n_steps",
        "snr",
    )

    def __init__(self, key: tuple[int, int], size: int, memory: int):
        """A tile of `size` dimensions before its first step; `key` is that of its shared randomness."""
        self._key, self._size, self._memory = key, size, memory
        self._level = _LEVEL + log2(size) - log2(_LEVEL_DIMENSIONS)
        self._slope = _SLOPE
        self._level_var, self._slope_covar, self._slope_var = _LEVEL_SD**2, 0, _SLOPE_SD**2
        self.snr = self.n_steps = self.bits = 0
        self._next_end = _PACKET_BITS
        self.ends_packet = False

    def copy(self) -> "StepSizes":
        """One that goes on from here by itself."""
        other = object.__new__(StepSizes)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    @property
    def planned_bits(self) -> int:
        """Path bits that the next step has on average, if it is as planned."""
        return planned_bits(self.bits, self._size)

    def offer(self, sizes: tuple[int, ...] = ()) -> StepOffer:
        """The next step; `sizes` are the numbers that announced other ones than planned, so far.

        Raises:
            ValueError: delta is out of range, or there are more than `MOST_SIZES` numbers, so they are not a
                sender's.
        """
        if len(sizes) > MOST_SIZES:
            raise ValueError("too many other sizes")
        eighths = sum(sizes) - SIZE_AS_PLANNED * len(sizes)
        finer = STEPS_PER_OCTAVE // SIZES_PER_OCTAVE
        bits = self.planned_bits
        unit = _ONE // STEPS_PER_OCTAVE
        wanted = _log2_energy(bits, self._memory) - self._level
        code = (wanted + unit // 2) // unit + finer * eighths
        if code not in _DELTA_CODES:
            raise ValueError("a step is out of range")
        word, _ = word_pair(self._key, (_TARGETS + len(sizes), self.n_steps))
        own_bits = bits * power_of_two(finer * min(max(eighths, -64), 64), 16) >> 16
        grid = make_grid(word, min(max(own_bits, LEAST_BITS), _STEP_BITS[1]), self._memory)
        # The first cell that ends above 0, and the last one whose target a path can reach.
        first = -1 if grid.below(0) > 0 else 0
        n_cells = grid.last_up_to(mean_projections(self._memory)[most_bits(self._size)]) - first + 1
        level_sd = max(math.isqrt(self._level_var), 1)
        return StepOffer(code, grid, first, n_cells, self._level, level_sd, self._memory)

    def advance(self, offer: StepOffer, cell: int) -> int:
        """Takes a step.

        Returns:
            Bits of its path.
        """
        target = offer.target(cell)
        path_bits = offer.path_bits(cell)
        # The error of the target is uniform in +- half_width.
        width = offer.grid.half_width
        length = max(target, width)
        noise = (width * width * _LEVEL_PER_LENGTH << LOG_BITS) // (3 * length * length)
        self._observe(offer.level_at(length), noise)
        before = self.snr
        self.snr += offer.delta
        self._predict(log2(self.snr) - log2(before) if before else None)
        self.n_steps += 1
        self.bits += path_bits
        self.ends_packet = self.bits >= self._next_end
        if self.ends_packet:
            self._next_end = self.bits + _packet_bits(self.bits)
        return path_bits

    def _observe(self, level: int, variance: int) -> None:
        total = self._level_var + variance
        error = level - self._level
        self._level += error * self._level_var // total
        self._slope += error * self._slope_covar // total
        level_var, covar = self._level_var, self._slope_covar
        self._level_var -= level_var * level_var // total
        self._slope_covar -= level_var * covar // total
        self._slope_var -= covar * covar // total

    def _predict(self, octaves: int | None) -> None:
        """The level after an increase of log2 SNR; None stands for that of the first step."""
        if octaves is None:
            self._level -= _FIRST_FALL
            self._level_var += _FIRST_FALL_SD**2
            return
        self._level -= self._slope * octaves >> LOG_BITS
        noise = _LEVEL_NOISE + (_LEVEL_NOISE_PER_OCTAVE * octaves >> LOG_BITS)
        self._level_var += (
            noise * noise
            - (2 * octaves * self._slope_covar >> LOG_BITS)
            + (octaves * octaves * self._slope_var >> 2 * LOG_BITS)
        )
        self._slope_covar -= octaves * self._slope_var >> LOG_BITS
        self._slope_var += _SLOPE_NOISE**2
        self._slope += _SLOPE_RISE


def planned_bits(bits_before: int, size: int) -> int:
    """Path bits that a step has on average after so many of them, of tiles of `size` dimensions."""
    least, most = _STEP_BITS
    most = min(most, max(size // _DIMENSIONS_PER_BIT, LEAST_BITS))
    return min(max(bits_before // _STEP_SHARE, least), most)


def packet_end(number: int) -> int:
    """Path bits of a tile with which its packet of this number ends, counted from 1, or a bit more."""
    end = 0
    for _ in range(number):
        end += _packet_bits(end)
    return end


def _packet_bits(bits_before: int) -> int:
    return max(_PACKET_BITS, 3 * bits_before // 4)


def planned_steps(bits: int | float, size: int) -> int:
    """Steps that a tile of `size` dimensions takes to at least so many path bits."""
    n_steps, sent, most = 0, 0, planned_bits(_STEP_SHARE * _STEP_BITS[1], size)
    while sent < bits and (now := planned_bits(sent, size)) < most:
        n_steps, sent = n_steps + 1, sent + now
    return n_steps + max(math.ceil((bits - sent) / most), 0)


@functools.cache
def _log2_energy(path_bits: int, memory: int) -> int:
    """log2 of the a^2 whose targets take so many path bits: R^2 - 1, because T^2 is a^2 + 1 on average."""
    reach = mean_projections(memory)[path_bits]
    return log2(reach * reach - (1 << 2 * REACH_BITS)) - (2 * REACH_BITS << LOG_BITS)
