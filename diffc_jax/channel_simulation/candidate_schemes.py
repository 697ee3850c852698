"""The races of `candidates`: Poisson functional representation, ordered and minimal random coding.

The Poisson functional representation (Li & El Gamal 2018) makes exact samples, if enough candidates are
looked at. They arrive as a Poisson process of rate 1. The density ratio of Gaussians is not bounded, so no
number of candidates is certain to hold the winner; but how probable a later winner is follows from its
distribution.

Minimal random coding (Havasi et al. 2019) draws one of N candidates with probabilities proportional to w_n
and sends its number in log2 N bits. The smallest of t_n / w_n for independent exponential t_n has this
distribution. The sample is biased towards what N candidates hold.

Ordered random coding (Theis & Yosri 2022) has samples of the same distribution, but the exponential times are
sorted before they meet the candidates. So candidates with small numbers win more often, and numbers can be
coded in less than log2 N bits, at most about as many as for the Poisson functional representation.
"""

import dataclasses
from typing import ClassVar

import numpy as np
from jaxtyping import Array, Bool, Float
from scipy import special

from diffc_jax.channel_simulation.candidates import MAX_CANDIDATES, CandidateChannel, Race
from diffc_jax.channel_simulation.candidates_distribution import (
    index_code,
    ordered_winner,
    poisson_winner,
)
from diffc_jax.channel_simulation.index_codes import FixedCode
from diffc_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class PoissonRace(Race):
    """Ends when a later winner is improbable.

    Attributes:
        candidates: most that are looked at.
        tail: probability of a later winner at which the search ends, 0 to 1; 0 for all candidates.
    """

    tail: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.tail < 1:
            raise UsageError(f"{self.tail}; a probability in [0, 1)", field="tail")

    def is_over(
        self,
        log_score: Float[np.ndarray, " a"],
        elapsed: Float[np.ndarray, " a"],
        length: Float[np.ndarray, " a"],
    ) -> Bool[np.ndarray, " a"]:
        """See `candidates.Race`."""
        return later_winners(log_score, elapsed, length) <= -np.log1p(-self.tail)


def later_winners(
    log_score: Float[np.ndarray, "*a"] | float,
    elapsed: Float[np.ndarray, "*a"] | float,
    length: Float[np.ndarray, "*a"] | float,
) -> Float[np.ndarray, "*a"]:
    """Expected number of candidates after time T = `elapsed` that beat the score s = exp(`log_score`).

    Candidates at t > T beat it if w > t / s, so they are Poisson with mean E[max(s w - T, 0)] for candidates'
    w = exp(|mu| g - |mu|^2 / 2), g ~ N(0, 1); none comes with probability exp(-mean). This is the
    price of a call option in the formula of Black and Scholes.
    """
    length = np.maximum(length, 1e-12)
    upper = (log_score - np.log(elapsed)) / length + length / 2
    # Both terms are astronomically small or large where it does not matter.
    beaten = np.exp(np.minimum(log_score, 500.0)) * special.ndtr(upper)
    return np.asarray(beaten - elapsed * special.ndtr(upper - length))


def poisson_channel(
    size: int,
    chunks: int,
    chunk_bits: int | float,
    *,
    tail: float = 1e-3,
    candidates: int = MAX_CANDIDATES,
    code: str = "digits",
) -> CandidateChannel:
    """The Poisson functional representation of each chunk.

    The time of an encoder grows so fast with k that `candidates` has to be bounded from about 10 bits a
    chunk on. Bounded by 2^(k + 2), with a tail of 0, this is what the DiffC codec of Vonderfecht & Liu
    (2025) sends.

    Args:
        size: M, dimensions of a message.
        chunks: divides M into chunks of at least `candidates.MIN_CHUNK_SIZE` dimensions.
        chunk_bits: k > 0, nominal ideal rate of a chunk in bits, at most 40. Only the code depends on it.
        tail: see `PoissonRace`.
        candidates: see `PoissonRace`.
        code: "digits", from the distribution of the index at k bits; or "zipf".

    Raises:
        UsageError: an argument is out of range.
    """
    race = PoissonRace(candidates, tail)
    return CandidateChannel(
        size, chunks, race, index_code(code, poisson_winner, chunk_bits, candidates)
    )


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
        raise UsageError(f"{candidate_bits} is negative", field="candidate_bits")
    race = MinimalRace(1 << candidate_bits)
    return CandidateChannel(size, chunks, race, FixedCode(candidate_bits))
