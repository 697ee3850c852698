"""Minimal random coding (Havasi et al. 2019): a sample from N candidates, its number sent in log2 N bits.

The winner is drawn with probabilities proportional to w_n: the smallest of t_n / w_n for independent
exponential t_n has this distribution. The sample is biased towards what N candidates hold.
"""

import dataclasses
from typing import ClassVar

from diffc_jax.channel_simulation.candidates import CandidateChannel, Race
from diffc_jax.channel_simulation.index_codes import FixedCode
from diffc_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class MinimalRace(Race):
    """Candidates arrive at exponential times of their own, not one after the other."""

    in_order: ClassVar[bool] = False


def minimal_channel(size: int, chunks: int, candidate_bits: int) -> CandidateChannel:
    """Minimal random coding of each chunk among 2^`candidate_bits` candidates.

    Args:
        size: M, dimensions of a message.
        chunks: divides M into chunks of at least `candidates.MIN_CHUNK_SIZE` dimensions.
        candidate_bits: 0 to 40; Havasi et al. take some bits more than a chunk's ideal rate.

    Raises:
        UsageError: an argument is out of range.
    """
    if candidate_bits < 0:
        raise UsageError(f"candidate_bits: {candidate_bits} is negative")
    race = MinimalRace(1 << candidate_bits)
    return CandidateChannel(size, chunks, race, FixedCode(candidate_bits))
