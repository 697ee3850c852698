"""Steps of another size than planned: the numbers that announce them, and how a sender chooses one."""

import math
from typing import NamedTuple

from diffc_jax.codec.fixed_point import STEPS_PER_OCTAVE

SYMBOL_BITS = 24
# The share of 2^24 of the symbol that announces another size; uniform bits follow it.
OTHER_SIZE = 1 << 16
# Announcements of one step: fewer lead from any size to any other.
MOST_SIZES = 64
# A step that is out of reach is made so much smaller than what can be reached.
_WELL_WITHIN = 1.4


class SizeNumbers(NamedTuple):
    """What numbers mean.

    Attributes:
        bits: of a number.
        as_planned: the number of the planned size.
        per_octave: how many numbers double the precision.
    """

    bits: int
    as_planned: int
    per_octave: int

    @property
    def largest(self) -> int:
        """The largest number."""
        return (1 << self.bits) - 1

    @property
    def stream_bits(self) -> float:
        """What a number takes in a stream."""
        return SYMBOL_BITS - math.log2(OTHER_SIZE) + self.bits

    def change(self, numbers: tuple[int, ...]) -> int:
        """How much numbers change log2 of the planned precision, in 1 / 256 octaves."""
        finer = STEPS_PER_OCTAVE // self.per_octave
        return finer * (sum(numbers) - self.as_planned * len(numbers))

    def towards(self, left: int, planned: int, *, is_first: bool) -> tuple[int, ...] | None:
        """Announces the step that leads nearest to its goal; None if no step leads nearer.

        `left` is the precision to the goal, and `planned` that of a planned step. The first step is taken
        however far it leads, since there has to be one.
        """
        if left >= planned:
            return ()
        number = -1
        if left > 0:
            number = self.as_planned + round(self.per_octave * math.log2(left / planned))
        if number < 0:
            return (0,) if is_first else None
        return () if number == self.as_planned else (number,)

    def within_reach(self, reach: float, length: float) -> int:
        """Announces half the step that paths can reach, or as near to it as one number leads.

        `reach` is how far they go, and `length` is |mu| of the step that is out of reach.
        """
        octaves = 2 * math.log2(max(reach, 1) / (_WELL_WITHIN * length))
        number = self.as_planned + math.floor(self.per_octave * octaves)
        return min(max(number, 0), self.as_planned - 1)


# Of tiles, and of pictures (6 octaves fewer to 2 more).
TILE_STEPS, PICTURE_STEPS = SizeNumbers(5, 24, 8), SizeNumbers(8, 192, 32)
