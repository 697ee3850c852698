"""How large the next step of a tile is, and how probable each length of its path: what both sides predict.

A step of precision delta costs a^2 / 2 nats, a^2 = delta |x - x_hat|^2. The receiver does not know
|x - x_hat|^2, but it has been told how far the samples before went, which is a and noise of a known variance
(`channel_simulation.projection`). From these `level_filter` predicts log2 |x - x_hat|^2.
That says how large delta has to be for a step of the size that is wanted, so that delta need not be sent, and
which targets of the projection are to be expected, so that the one that is sent takes few bits.
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
from diffc_jax.codec.announced_sizes import MOST_SIZES, OTHER_SIZE, SYMBOL_BITS, TILE_STEPS
from diffc_jax.codec.fixed_point import (
    CDF_BITS,
    LOG_BITS,
    STEPS_PER_OCTAVE,
    log2,
    normal_cdf,
    power_of_two,
)
from diffc_jax.codec.level_filter import ONE, LevelFilter, length_variance
from diffc_jax.codec.stream import SNR_BITS

# delta is 2^(code / 256); codes beyond these occur in damaged data only.
DELTA_CODES = range(-40 * STEPS_PER_OCTAVE, 40 * STEPS_PER_OCTAVE + 1)

# A step has a share of the path bits before it, within bounds.
SMALLEST_STEP, LARGEST_STEP = 48, 448
_STEP_SHARE = 8
# Of small tiles less: so many dimensions for each bit, and for each of the longest path.
_DIMENSIONS_PER_BIT, _DIMENSIONS_PER_BIT_OF_LONGEST = 8, 4
# A packet ends after so many path bits, or three quarters of those before it.
PACKET_BITS = 640

# First counter of the words that a tile's key gives for targets; `chain` uses 0 and 1.
TARGETS = 2


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
            ONE // STEPS_PER_OCTAVE
        )


def make_offer(
    delta_code: int, word: int, bits: int, level: int, level_sd: int, size: int, memory: int
) -> StepOffer:
    """The offer of a message of `size` dimensions and about so many bits; `word` chooses the grid."""
    grid = make_grid(word, min(max(bits, LEAST_BITS), LARGEST_STEP), memory)
    # The first cell that ends above 0, and the last one whose target a path can reach.
    first = -1 if grid.below(0) > 0 else 0
    n_cells = grid.last_up_to(mean_projections(memory)[most_bits(size)]) - first + 1
    return StepOffer(delta_code, grid, first, n_cells, level, level_sd, memory)


class StepSizes:
    """Follows one tile through its steps.

    Attributes:
        snr: signal-to-noise ratio of the latents, in units of 2^-48.
        n_steps: how many steps there were.
        bits: path bits of these steps.
        ends_packet: whether the last step is the last one of its packet.
    """

    __slots__ = (
        "_filter",
        "_key",
        "_memory",
        "_next_end",
        "_size",
        "bits",
        "ends_packet",
        "n_steps",
        "snr",
    )

    def __init__(self, key: tuple[int, int], size: int, memory: int):
        """A tile of `size` dimensions before its first step; `key` is that of its shared randomness."""
        self._key, self._size, self._memory = key, size, memory
        self._filter = LevelFilter(size)
        self.snr = self.n_steps = self.bits = 0
        self._next_end = PACKET_BITS
        self.ends_packet = False

    def copy(self) -> "StepSizes":
        """One that goes on from here by itself."""
        other = object.__new__(StepSizes)
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        other._filter = self._filter.copy()
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
        change = TILE_STEPS.change(sizes)
        bits = self.planned_bits
        unit = ONE // STEPS_PER_OCTAVE
        wanted = log2_energy(bits, self._memory) - self._filter.level
        code = (wanted + unit // 2) // unit + change
        if code not in DELTA_CODES:
            raise ValueError("a step is out of range")
        word, _ = word_pair(self._key, (TARGETS + len(sizes), self.n_steps))
        limit = 8 * STEPS_PER_OCTAVE
        own_bits = bits * power_of_two(min(max(change, -limit), limit), 16) >> 16
        level, level_sd = self._filter.level, self._filter.sd()
        return make_offer(code, word, own_bits, level, level_sd, self._size, self._memory)

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
        self._filter.observe(offer.level_at(length), length_variance(length, width))
        before = self.snr
        self.snr += offer.delta
        self._filter.predict(log2(self.snr) - log2(before) if before else None)
        self.n_steps += 1
        self.bits += path_bits
        self.ends_packet = self.bits >= self._next_end
        if self.ends_packet:
            self._next_end = self.bits + _packet_bits(self.bits)
        return path_bits


def planned_bits(bits_before: int, size: int) -> int:
    """Path bits that a step has on average after so many of them, of tiles of `size` dimensions."""
    return min(max(bits_before // _STEP_SHARE, SMALLEST_STEP), largest_step(size))


def largest_step(size: int) -> int:
    """The most bits that a message of `size` dimensions has on average."""
    return min(LARGEST_STEP, max(size // _DIMENSIONS_PER_BIT, LEAST_BITS))


def packet_end(number: int) -> int:
    """Path bits of a tile with which its packet of this number ends, counted from 1, or a bit more."""
    end = 0
    for _ in range(number):
        end += _packet_bits(end)
    return end


def _packet_bits(bits_before: int) -> int:
    return max(PACKET_BITS, 3 * bits_before // 4)


def planned_steps(bits: int | float, size: int) -> int:
    """Steps that a tile of `size` dimensions takes to at least so many path bits."""
    n_steps, sent, most = 0, 0, largest_step(size)
    while sent < bits and (now := planned_bits(sent, size)) < most:
        n_steps, sent = n_steps + 1, sent + now
    return n_steps + max(math.ceil((bits - sent) / most), 0)


@functools.cache
def log2_energy(path_bits: int, memory: int) -> int:
    """log2 of the a^2 whose targets take so many path bits: R^2 - 1, because T^2 is a^2 + 1 on average."""
    reach = mean_projections(memory)[path_bits]
    return log2(reach * reach - (1 << 2 * REACH_BITS)) - (2 * REACH_BITS << LOG_BITS)
