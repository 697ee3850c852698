"""Which noise levels an evaluation visits, and with how many steps each decoder starts from them."""

import dataclasses
import functools
import itertools

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from diffc_jax.diffusion.decoders import StepBudget, parse_decoder
from diffc_jax.errors import UsageError


@dataclasses.dataclass(frozen=True, eq=False)
class SweepPlan:
    """Which noise levels are visited, and how each is decoded.

    Attributes:
        gammas: decreasing grid of the rate's chain, T + 1 values.
        strata: positions in `gammas` at which strata begin and end, increasing from 0 to T.
        levels: increasing positions in `strata` at which images are reconstructed.
        decoders: names of `diffusion.decoders`.
        ancestral_steps: see `StepBudget`.
        flow_steps: see `StepBudget`.
    """

    gammas: Float[np.ndarray, " n"]
    strata: Int[np.ndarray, " s"]
    levels: Int[np.ndarray, " l"]
    decoders: tuple[str, ...]
    ancestral_steps: int
    flow_steps: int

    @functools.cached_property
    def rate_gammas(self) -> Float[np.ndarray, " s"]:
        """Negative log signal-to-noise ratio at the ends of strata, where the rate is known."""
        return self.gammas[self.strata]

    @functools.cached_property
    def level_gammas(self) -> Float[np.ndarray, " l"]:
        """Negative log signal-to-noise ratio of each level."""
        return self.rate_gammas[self.levels]

    def n_steps(self, decoder: str, level: int) -> int:
        """Denoiser evaluations for each image."""
        below = self.level_gammas[level] - self.gammas[-1]
        if below <= 0:  # a level at the end of the chain; several steps of length 0 have no slope
            return 1
        return self._n_steps(decoder, below / (self.gammas[0] - self.gammas[-1]))

    def evaluations_per_image(self) -> int:
        """Denoiser evaluations of the whole sweep of an image; decoders share the first one of a level."""
        levels = range(len(self.levels)) if self.decoders else ()
        more = sum(self.n_steps(name, level) - 1 for name in self.decoders for level in levels)
        return len(self.strata) - 1 + len(levels) + more

    @functools.cached_property
    def decodings(self) -> list[dict[str, tuple[Float[np.ndarray, " n"], int]]]:
        """For each level, decoder -> gammas of its steps to the end, and their number.

        Gammas are padded to one length, so that decoders that differ in a number share a program.
        """
        return [
            {name: self._decoding(name, level) for name in self.decoders}
            for level in range(len(self.levels))
        ]

    def _decoding(self, decoder: str, level: int) -> tuple[Float[np.ndarray, " n"], int]:
        steps = self.n_steps(decoder, level)
        longest = max(self._n_steps(name, 1.0) for name in self.decoders)
        grid = parse_decoder(decoder).steps(self.level_gammas[level], self.gammas[-1], steps)
        return np.pad(grid, (0, max(longest - steps, 0)), mode="edge").astype(np.float32), steps

    def _n_steps(self, decoder: str, fraction: float) -> int:
        budget = StepBudget(flow=self.flow_steps, ancestral=self.ancestral_steps)
        return parse_decoder(decoder).n_steps(budget, fraction)


def make_plan(gammas: Float[np.ndarray, " n"], settings: ConfigDict) -> SweepPlan:
    """The plan that the fields of config.eval, `settings`, describe for a decreasing grid of T + 1 gammas.

    Raises:
        UsageError: fewer distinct levels on the chain than asked for.
    """
    n_steps, num_levels = len(gammas) - 1, settings.num_levels
    steps = nearest_levels(gammas, settings.first_gamma, settings.last_gamma, num_levels)
    if len(steps) < num_levels:
        raise UsageError(
            f"{n_steps} steps of the rate have only {len(steps)} levels "
            f"between eval.first_gamma and eval.last_gamma, not {num_levels}",
            field="eval.num_levels",
        )
    strata = paired_strata(gammas, steps, settings.rate_evaluations or n_steps)
    levels = np.searchsorted(strata, steps)
    decoders, ancestral_steps = tuple(settings.decoders), settings.ancestral_steps
    return SweepPlan(gammas, strata, levels, decoders, ancestral_steps, settings.flow_steps)


def paired_strata(
    gammas: Float[np.ndarray, " n"], levels: Int[np.ndarray, " l"], count: int
) -> Int[np.ndarray, " s"]:
    """Ends of about `count` strata, an even number of them between neighbours among 0, the levels and T.

    Within an interval they share the ideal rate of a normal variable, ln(1 + SNR) / 2, so that none of them
    dominates the error. The first interval, whose error is in the rate of every level, gets more of them.

    Raises:
        UsageError: `count` is too small for a pair in each interval.
    """
    n_steps = len(gammas) - 1
    if count >= n_steps:
        return np.arange(n_steps + 1)
    ends = np.unique([0, *levels, n_steps])
    if count < 2 * (len(ends) - 1):
        raise UsageError(
            f"{count} are too few for {len(levels)} levels; choose {2 * len(ends) - 2} or more, or 0: all",
            field="eval.rate_evaluations",
        )
    lengths, n_pairs = -np.diff(gammas[ends]), np.ones(len(ends) - 1, int)
    lengths[0] *= 2
    while 2 * n_pairs.sum() + 2 <= count:
        n_pairs[np.argmax(lengths / n_pairs)] += 1
    rates = np.logaddexp(0, -gammas.astype(np.float64))
    parts = []
    for (begin, end), pairs in zip(itertools.pairwise(ends), n_pairs, strict=True):
        shares = np.linspace(rates[begin], rates[end], 2 * pairs + 1)
        steps = np.interp(shares, rates[begin : end + 1], np.arange(begin, end + 1))
        parts.append(np.rint(steps))
    return np.unique(np.concatenate(parts)).astype(int)


def even_strata(n_steps: int, count: int) -> Int[np.ndarray, " s"]:
    """Ends of `count` strata of n_steps steps, as even as whole numbers allow."""
    return np.rint(np.linspace(0, n_steps, count + 1)).astype(int)


def nearest_levels(
    gammas: Float[np.ndarray, " n"], first: float, last: float, count: int
) -> Int[np.ndarray, " l"]:
    """Positions in a decreasing grid nearest to `count` even steps from `first` down to `last`.

    `SweepPlan.levels` are those in the grid of the ends of strata, gammas[strata].
    """
    wanted = np.linspace(first, last, count)
    return np.unique(np.argmin(np.abs(gammas[None] - wanted[:, None]), axis=1))
