"""Which noise levels an evaluation visits, and with how many steps each decoder starts from them."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Int
from ml_collections import ConfigDict

from diffc_jax.diffusion import samplers
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
        ancestral_steps: see `StepBudget`; steps are evenly spaced in gamma.
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
        return self._n_steps(decoder, below / (self.gammas[0] - self.gammas[-1]))

    def evaluations_per_image(self) -> int:
        """Denoiser evaluations of the whole sweep of an image."""
        levels = range(len(self.levels))
        decoded = sum(self.n_steps(name, level) for name in self.decoders for level in levels)
        return len(self.strata) - 1 + decoded

    @functools.cached_property
    def decodings(self) -> list[dict[str, tuple[Float[np.ndarray, " n"], int]]]:
        """For each level, decoder -> gammas of its steps to the end, and their number.

        The gammas of a decoder are padded to one length for all levels.
        """
        return [
            {name: self._decoding(name, level) for name in self.decoders}
            for level in range(len(self.levels))
        ]

    def _decoding(self, decoder: str, level: int) -> tuple[Float[np.ndarray, " n"], int]:
        steps, longest = self.n_steps(decoder, level), self._n_steps(decoder, 1.0)
        grid = samplers.even_grid(self.level_gammas[level], self.gammas[-1], steps)
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
    strata = even_strata(n_steps, min(settings.rate_evaluations or n_steps, n_steps))
    levels = nearest_levels(gammas[strata], settings.first_gamma, settings.last_gamma, num_levels)
    if len(levels) < num_levels:
        raise UsageError(
            f"{len(strata) - 1} evaluations of the rate have only {len(levels)} levels "
            f"between eval.first_gamma and eval.last_gamma, not {num_levels}",
            field="eval.num_levels",
        )
    decoders, ancestral_steps = tuple(settings.decoders), settings.ancestral_steps
    return SweepPlan(gammas, strata, levels, decoders, ancestral_steps, settings.flow_steps)


def even_strata(n_steps: int, count: int) -> Int[np.ndarray, " s"]:
    """Ends of `count` strata of n_steps steps, as even as whole numbers allow."""
    return np.rint(np.linspace(0, n_steps, count + 1)).astype(int)


def nearest_levels(
    gammas: Float[np.ndarray, " n"], first: float, last: float, count: int
) -> Int[np.ndarray, " l"]:
    """Positions in a decreasing grid nearest to `count` even steps from `first` down to `last`."""
    wanted = np.linspace(first, last, count)
    return np.unique(np.argmin(np.abs(gammas[None] - wanted[:, None]), axis=1))
