"""Ordered random coding (Theis & Yosri 2022): minimal random coding with cheaper numbers.

The sample is distributed as that of minimal random coding with as many candidates, but the exponential
times are sorted before they meet the candidates. So candidates with small numbers win more often, and numbers
can be coded in less than log2 N bits, at most about as many as for the Poisson functional representation.
"""

import dataclasses

from jaxtyping import Array, Float

from diffc_jax.channel_simulation.candidates import CandidateChannel, Race
from diffc_jax.channel_simulation.candidates_distribution import index_code, ordered_winner


@dataclasses.dataclass(frozen=True)
class OrderedRace(Race):
    """Times are those of sorted exponential variables, times N.

    The gap before the smallest of `left` exponential variables is exponential with mean 1 / `left` (Renyi).
    """

    def increments(self, gaps: Float[Array, " n"], left: Float[Array, " n"]) -> Float[Array, " n"]:
        """See `candidates.Race`."""
        return gaps * (self.candidates / left)


def ordered_channel(
    size: int, chunks: int, chunk_bits: int | float, candidates: int, *, code: str = "digits"
) -> CandidateChannel:
    """Ordered random coding of each chunk.

    Args:
        size: M, dimensions of a message.
        chunks: divides M into chunks of at least `candidates.MIN_CHUNK_SIZE` dimensions.
        chunk_bits: k > 0, nominal ideal rate of a chunk in bits, at most 40. Only the code depends on it.
        candidates: N; 2^(k + t) with some t > 0 makes the sample nearly exact.
        code: "digits", from the distribution of the index at k bits; or "zipf".

    Raises:
        UsageError: an argument is out of range.
    """
    race = OrderedRace(candidates)
    return CandidateChannel(
        size, chunks, race, index_code(code, ordered_winner, chunk_bits, candidates)
    )
