"""Points of a rate-distortion curve by Monte Carlo, through the sweep that evaluates networks."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffc_jax.evaluation.rd_sweep import Sweep, SweepPlan
from diffc_jax.models import Denoiser, Variables
from diffc_jax.runtime.progress import Progress


@dataclasses.dataclass(frozen=True)
class SimulationSettings:
    """How finely time is cut.

    Attributes:
        rate_steps: T, steps of the chain from `first_gamma` to the last level.
        ancestral_steps: for the whole range of gamma.
        flow_steps: for every level.
        first_gamma: where the chain starts; the prior pays for what z tells there.
        final_gamma: where decoders stop; samples keep the noise exp(final_gamma) in each dimension.
        seed: of the noise.
    """

    rate_steps: int
    ancestral_steps: int
    flow_steps: int
    first_gamma: float
    final_gamma: float
    seed: int


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over samples and its standard error."""

    mean: float
    stderr: float

    @classmethod
    def of(cls, values: Float[np.ndarray, " n"]) -> "Estimate":
        """Of independent values, at least two."""
        return cls(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))


@dataclasses.dataclass(frozen=True)
class SimulatedPoint:
    """Of one decoder at one noise level.

    Attributes:
        decoder: ancestral, flow, mean or kappa=K.
        gamma: negative log signal-to-noise ratio.
        bits: ideal rate of the chain for a source vector.
        distortion: E|X - Y|^2 of a source vector.
        n_steps: denoiser evaluations of the decoder.
    """

    decoder: str
    gamma: float
    bits: Estimate
    distortion: Estimate
    n_steps: int


def simulate(
    name: str,
    eps_hat: Denoiser,
    variables: Variables,
    x: Float[np.ndarray, "n h w c"],
    gammas: tuple[float, ...],
    decoders: tuple[str, ...],
    settings: SimulationSettings,
    scale: Float[np.ndarray, "h w c"] | float = 1.0,
    further_error: Float[np.ndarray, " n"] | float = 0.0,
) -> list[SimulatedPoint]:
    """Sends samples of a source at several noise levels and decodes each.

    The chain passes through every level exactly; between them its steps are as even as T allows.

    Args:
        name: of the source or the code, for the log.
        eps_hat: denoiser.
        variables: of the denoiser.
        x: samples; position i of them is image i of the sweep.
        gammas: levels, decreasing, all below settings.first_gamma.
        decoders: what to decode with.
        settings: steps and range.
        scale: of the components, by which errors are multiplied before they are squared.
        further_error: squared error of each sample in components that are not part of x.
    """
    grid, levels = _chain_grid(gammas, settings)
    strata = np.arange(len(grid))
    plan = SweepPlan(grid, strata, levels, decoders, settings.ancestral_steps, settings.flow_steps)
    progress = Progress(f"simulation of {name}", plan.evaluations_per_image(), "denoiser calls")
    result = Sweep(eps_hat, plan, settings.seed).run(
        variables, jnp.asarray(x, jnp.float32), jnp.arange(len(x)), progress.advance
    )
    points = []
    for decoder in decoders:
        for i, y in enumerate(result.reconstructions[decoder]):
            error = np.square(scale * (x - np.asarray(y, np.float64))).sum((1, 2, 3))
            points.append(
                SimulatedPoint(
                    decoder,
                    float(grid[levels[i]]),
                    Estimate.of(result.ideal_bits[:, levels[i]]),
                    Estimate.of(error + further_error),
                    plan.n_steps(decoder, i),
                )
            )
    return points


def _chain_grid(
    gammas: tuple[float, ...], settings: SimulationSettings
) -> tuple[Float[np.ndarray, " n"], np.ndarray]:
    """Gammas of the chain, and the positions of the levels in it; one last step leads to the end."""
    stops = np.array([settings.first_gamma, *gammas])
    share = settings.rate_steps * np.diff(stops) / (stops[-1] - stops[0])
    counts = np.maximum(1, np.rint(share)).astype(int)
    pieces = [
        np.linspace(start, stop, count, endpoint=False)
        for start, stop, count in zip(stops[:-1], stops[1:], counts, strict=True)
    ]
    grid = np.concatenate([*pieces, [stops[-1], settings.final_gamma]])
    return grid, np.cumsum(counts)
