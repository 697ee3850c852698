"""Tables by Monte Carlo through the sweep that evaluates networks, with the exact denoiser of the source."""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from diffc_jax import rng
from diffc_jax.evaluation.plan import SweepPlan
from diffc_jax.evaluation.rd_sweep import Sweep
from diffc_jax.metrics.statistics import standard_error
from diffc_jax.models import Denoiser, Variables
from diffc_jax.models import mixture as mixture_model
from diffc_jax.models.gaussian import independent_eps_hat
from diffc_jax.runtime.progress import Progress
from diffc_jax.studies.gaussian_analysis.closed_forms import Row, decibels, n_pixels
from diffc_jax.theory import allocation, gaussian
from diffc_jax.theory.curves import CURVES, Curve, score_scaled
from diffc_jax.theory.gaussian import Eigenvalues
from diffc_jax.theory.mixture import Mixture

_CURVE_OF_DECODER: dict[str, str] = {
    "ancestral": "diffc_a",
    "flow": "diffc_f",
    "mean": "diffc_d",
    "kappa=1.5": "kappa=1.5",
}
# Components with a lower signal-to-noise ratio (0.0007 bits) count as not sent in the simulation.
_LEAST_SNR = 1e-3
_DISTORTION_OF_DECODER = {"ancestral": "d_a", "flow": "d_f", "mean": "d_d"}
# Samples from which a differential entropy is estimated, to about 0.003 bits.
_ENTROPY_SAMPLES = 200_000


class SimulatedPoint(NamedTuple):
    """Rate and distortion of one decoder at one noise level, means over the samples of a source vector.

    Attributes:
        decoder: ancestral, flow, mean or kappa=K.
        gamma: negative log signal-to-noise ratio.
        bits: ideal rate of the chain.
        bits_stderr: its standard error over the samples.
        distortion: E|X - Y|^2.
        distortion_stderr: its standard error over the samples.
        n_steps: denoiser evaluations of the decoder.
        n_rate_steps: steps of the chain.
    """

    decoder: str
    gamma: float
    bits: float
    bits_stderr: float
    distortion: float
    distortion_stderr: float
    n_steps: int
    n_rate_steps: int


def gaussian_rows(eigenvalues: Eigenvalues, config: ConfigDict, seed: int) -> Iterator[Row]:
    """Rows of simulation.csv, as config.gaussian says, with the closed form at the same parameter."""
    generator = np.random.default_rng(rng.numpy_seed(seed, "analysis/gaussian"))
    shape = (config.samples, len(eigenvalues))
    x, other = (np.sqrt(eigenvalues) * generator.standard_normal(shape) for _ in range(2))
    targets = sorted(bpp * n_pixels(eigenvalues) for bpp in config.sample_bpp)
    ends = [CURVES["diffc_d"].at_rate(eigenvalues, bits) for bits in targets]
    points = _simulate_gaussian(
        "isotropic noise",
        eigenvalues,
        x,
        [end.parameter for end in ends],
        tuple(_CURVE_OF_DECODER),
        (targets[0], ends[-1].distortion),
        config,
        seed,
    )
    for point in points:
        name = _CURVE_OF_DECODER[point.decoder]
        curve = CURVES[name] if name in CURVES else score_scaled(1.5)
        yield _simulated_row(name, eigenvalues, point, curve, point.gamma, config)

    # Noise of its own for each component is isotropic noise on components scaled to 1 / sqrt(n_i).
    for name, allocate, decoder in (
        ("diffc_a_star", allocation.water_filling, "ancestral"),
        ("diffc_f_star", allocation.realistic, "flow"),
    ):
        for bits in targets:
            star = CURVES[name].at_rate(eigenvalues, bits)
            noise = allocate(eigenvalues, star.parameter)
            # Of other components (almost) nothing is sent: the receiver draws them from their distribution.
            sent = eigenvalues > _LEAST_SNR * noise if decoder == "ancestral" else eigenvalues > 0
            sent[np.argmax(eigenvalues / noise)] = True  # at the lowest rates nothing else
            drawn = np.square(x - other)[:, ~sent].sum(1)
            (point,) = _simulate_gaussian(
                f"{name} at {bits:.4g} bits",
                eigenvalues[sent],
                x[:, sent],
                [0.0],
                (decoder,),
                (bits, star.distortion),
                config,
                seed,
                np.sqrt(noise[sent]),
                drawn,
            )
            yield _simulated_row(name, eigenvalues, point, CURVES[name], star.parameter, config)


def mixture_rows(name: str, source: Mixture, config: ConfigDict, seed: int) -> Iterator[Row]:
    """Monte Carlo through the sweep with exact scores, with the bounds of the Gaussian and of Shannon.

    Columns are those of the quadrature, each measured one with its standard error beside it. Every sample is
    sent at every level, as config.mixture says.
    """
    generator = np.random.default_rng(rng.numpy_seed(seed, f"analysis/{name}"))
    # A mean is no information, but would have its price at the start of the chain, N(0, I).
    mean = source.weights @ source.means
    x = source.sample(config.samples, generator) - mean
    entropy, _ = source.entropy(_ENTROPY_SAMPLES, generator)
    eigenvalues = np.linalg.eigvalsh(source.covariance())
    levels = np.sort(np.array(config.sigma2))[::-1]
    gammas = np.log(levels / (1.0 - levels))
    first = max(float(gammas[0]) + 1.0, float(np.log(eigenvalues.sum())) + 7.0)
    grid, positions = _chain_grid([first, *gammas], float(gammas[-1]) - 7.0, config.steps)
    strata = np.arange(len(grid))
    decoders = tuple(_DISTORTION_OF_DECODER)
    points = _simulate(
        name,
        mixture_model.eps_hat,
        mixture_model.mixture_variables(source.weights, source.means - mean, source.covariances),
        x[:, None, None],
        SweepPlan(grid, strata, positions, decoders, config.steps, config.steps),
        seed,
    )
    dimension = x.shape[1]
    for i, sigma2 in enumerate(levels):
        by_decoder = {
            _DISTORTION_OF_DECODER[p.decoder]: p for p in points if p.gamma == points[i].gamma
        }
        flow = by_decoder["d_f"]
        row: Row = {
            "source": name,
            "sigma2": float(sigma2),
            "bits": flow.bits,
            "bits_stderr": flow.bits_stderr,
        }
        for column, point in by_decoder.items():
            row |= {column: point.distortion, f"{column}_stderr": point.distortion_stderr}
        noise = float(np.exp(gammas[i]))
        shannon = entropy - 0.5 * dimension * np.log2(2 * np.pi * np.e * row["d_f"] / dimension)
        yield row | {
            "ratio": row["d_f"] / row["d_a"],
            "shannon_lower_bound": max(0.0, float(shannon)),
            "gaussian_bits": float(gaussian.rates(eigenvalues, noise).sum()),
            "gaussian_d_a": float(gaussian.distortions_ancestral(eigenvalues, noise).sum()),
            "n_samples": config.samples,
            "n_rate_steps": flow.n_rate_steps,
        }


def _simulate_gaussian(
    name: str,
    eigenvalues: Eigenvalues,
    x: Float[np.ndarray, "n m"],
    gammas: list[float],
    decoders: tuple[str, ...],
    range_ends: tuple[float, float],
    config: ConfigDict,
    seed: int,
    scale: Float[np.ndarray, " m"] | float = 1.0,
    further_error: Float[np.ndarray, " n"] | float = 0.0,
) -> list[SimulatedPoint]:
    """The sweep of x / scale at decreasing `gammas`; errors are those of x.

    `range_ends` are the rate of the first point and the least distortion of the last. The chain starts where
    the rate is a hundredth of the former; decoders end where the noise that is left adds a thousandth of
    the latter.
    """
    bits, distortion = range_ends
    shape = (1, 1, len(eigenvalues))
    scale = np.broadcast_to(scale, shape[-1])
    variances = eigenvalues / scale**2
    first = CURVES["diffc_d"].at_rate(variances, 0.01 * bits).parameter
    final = float(np.log(1e-3 * distortion / np.sum(scale**2)))
    grid, levels = _chain_grid([first, *gammas], final, config.rate_steps)
    strata = np.arange(len(grid))
    return _simulate(
        name,
        independent_eps_hat,
        {"fixed": {"variances": jnp.asarray(variances.reshape(shape), jnp.float32)}},
        (x / scale).reshape(-1, *shape),
        SweepPlan(grid, strata, levels, decoders, config.ancestral_steps, config.flow_steps),
        seed,
        scale.reshape(shape),
        further_error,
    )


def _simulate(
    name: str,
    eps_hat: Denoiser,
    variables: Variables,
    x: Float[np.ndarray, "n h w c"],
    plan: SweepPlan,
    seed: int,
    scale: Float[np.ndarray, "h w c"] | float = 1.0,
    further_error: Float[np.ndarray, " n"] | float = 0.0,
) -> list[SimulatedPoint]:
    """Sends samples at the levels of the plan, and decodes each with its decoders.

    Position i of `x` is image i of the sweep. Errors are multiplied by `scale` before they are squared;
    `further_error` is the squared error of each sample in components that are not part of x.
    """
    progress = Progress(f"simulation of {name}", plan.evaluations_per_image(), "denoiser calls")
    result = Sweep(eps_hat, plan, seed).run(
        variables, jnp.asarray(x, jnp.float32), jnp.arange(len(x)), progress.advance
    )
    points = []
    for decoder in plan.decoders:
        for i, y in enumerate(result.reconstructions[decoder]):
            level = plan.levels[i]
            bits = result.ideal_bits[:, level]
            error = np.square(scale * (x - np.asarray(y, np.float64))).sum((1, 2, 3))
            error = error + further_error
            points.append(
                SimulatedPoint(
                    decoder,
                    float(plan.gammas[level]),
                    float(bits.mean()),
                    standard_error(bits),
                    float(error.mean()),
                    standard_error(error),
                    plan.n_steps(decoder, i),
                    len(plan.gammas) - 1,
                )
            )
    return points


def _chain_grid(
    stops: list[float], final_gamma: float, steps: int
) -> tuple[Float[np.ndarray, " n"], np.ndarray]:
    """Gammas of a chain from the first stop through all others, in `steps` steps as even as that allows.

    One last step leads to `final_gamma`, whose noise samples keep in each dimension. Also returns the
    positions of all stops but the first.
    """
    ends = np.array(stops)
    proportional = steps * np.diff(ends) / (ends[-1] - ends[0])
    counts = np.maximum(1, np.rint(proportional)).astype(int)
    pieces = [
        np.linspace(start, stop, count, endpoint=False)
        for start, stop, count in zip(ends[:-1], ends[1:], counts, strict=True)
    ]
    return np.concatenate([*pieces, [ends[-1], final_gamma]]), np.cumsum(counts)


def _simulated_row(
    name: str,
    eigenvalues: Eigenvalues,
    point: SimulatedPoint,
    curve: Curve,
    parameter: float,
    config: ConfigDict,
) -> Row:
    exact = curve.at_parameter(eigenvalues, parameter)
    return {
        "curve": name,
        "parameter": parameter,
        "bits": point.bits,
        "bits_stderr": point.bits_stderr,
        "bits_per_pixel": point.bits / n_pixels(eigenvalues),
        "distortion": point.distortion,
        "distortion_stderr": point.distortion_stderr,
        "snr_db": decibels(eigenvalues.sum() / point.distortion),
        "snr_db_stderr": 10.0 / np.log(10.0) * point.distortion_stderr / point.distortion,
        "exact_bits": exact.bits,
        "exact_distortion": exact.distortion,
        "n_samples": config.samples,
        "n_rate_steps": point.n_rate_steps,
        "n_steps": point.n_steps,
    }
