"""Tables by Monte Carlo through the sweep that evaluates networks, with the exact denoiser of the source."""

import dataclasses
import math
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from diffc_jax import rng
from diffc_jax.evaluation.rd_sweep import Sweep, SweepPlan
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


@dataclasses.dataclass(frozen=True)
class SimulationSettings:
    """Steps of the chain and of the decoders, and the range of gamma.

    Attributes:
        rate_steps: T, steps of the chain from `first_gamma` to the last level.
        ancestral_steps: for the whole range of gamma.
        flow_steps: for every level.
        first_gamma: where the chain starts; information in z there is paid by the prior.
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
        """The mean of independent values, at least two."""
        return cls(float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))))


@dataclasses.dataclass(frozen=True)
class SimulatedPoint:
    """Rate and distortion of one decoder at one noise level.

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


def gaussian_rows(eigenvalues: Eigenvalues, config: ConfigDict, seed: int) -> Iterator[Row]:
    """Rows of simulation.csv: Monte Carlo through the sweep, with the closed form at the same parameter.

    Args:
        eigenvalues: of the source.
        config: config.gaussian.
        seed: of samples and noise.
    """
    generator = np.random.default_rng(rng.numpy_seed(seed, "analysis/gaussian"))
    shape = (config.samples, len(eigenvalues))
    x, other = (np.sqrt(eigenvalues) * generator.standard_normal(shape) for _ in range(2))
    targets = sorted(bpp * n_pixels(eigenvalues) for bpp in config.sample_bpp)
    chain = _Chain("isotropic noise", eigenvalues, x, config, seed)

    points = [CURVES["diffc_d"].at_rate(eigenvalues, bits) for bits in targets]
    gammas = tuple(point.parameter for point in points)
    for point in chain.run(gammas, tuple(_CURVE_OF_DECODER), targets[0], points[-1].distortion):
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
            drawn = np.square(x - other)[:, ~sent].sum(1)
            rest = _Chain(
                f"{name} at {bits:.4g} bits",
                eigenvalues[sent],
                x[:, sent],
                config,
                seed,
                np.sqrt(noise[sent]),
                drawn,
            )
            (point,) = rest.run((0.0,), (decoder,), bits, star.distortion)
            yield _simulated_row(name, eigenvalues, point, CURVES[name], star.parameter, config)


def mixture_rows(name: str, source: Mixture, config: ConfigDict, seed: int) -> Iterator[Row]:
    """Monte Carlo through the sweep with exact scores, with the bounds of the Gaussian and of Shannon.

    Columns are those of the quadrature, each measured one with its standard error beside it.

    Args:
        name: of the source, in the rows.
        source: a mixture.
        config: config.mixture; every sample is sent at every level.
        seed: of samples and noise.
    """
    generator = np.random.default_rng(rng.numpy_seed(seed, f"analysis/{name}"))
    x = source.sample(config.samples, generator)
    entropy, _ = source.entropy(_ENTROPY_SAMPLES, generator)
    eigenvalues = np.linalg.eigvalsh(source.covariance())
    levels = np.sort(np.array(config.sigma2))[::-1]
    gammas = np.log(levels / (1.0 - levels))
    settings = SimulationSettings(
        rate_steps=config.steps,
        ancestral_steps=config.steps,
        flow_steps=config.steps,
        first_gamma=max(float(gammas[0]) + 1.0, float(np.log(eigenvalues.sum())) + 7.0),
        final_gamma=float(gammas[-1]) - 7.0,
        seed=seed,
    )
    variables = mixture_model.mixture_variables(source.weights, source.means, source.covariances)
    points = simulate(
        name,
        mixture_model.eps_hat,
        variables,
        x[:, None, None],
        tuple(gammas),
        tuple(_DISTORTION_OF_DECODER),
        settings,
    )
    dimension = x.shape[1]
    for i, sigma2 in enumerate(levels):
        by_decoder = {
            _DISTORTION_OF_DECODER[p.decoder]: p for p in points if p.gamma == points[i].gamma
        }
        bits = by_decoder["d_f"].bits
        row: Row = {
            "source": name,
            "sigma2": float(sigma2),
            "bits": bits.mean,
            "bits_stderr": bits.stderr,
        }
        for column, point in by_decoder.items():
            row[column] = point.distortion.mean
            row[f"{column}_stderr"] = point.distortion.stderr
        noise = float(np.exp(gammas[i]))
        gaussian_bits = float(gaussian.rates(eigenvalues, noise).sum())
        shannon = entropy - 0.5 * dimension * np.log2(2 * np.pi * np.e * row["d_f"] / dimension)
        yield row | {
            "ratio": row["d_f"] / row["d_a"],
            "shannon_lower_bound": max(0.0, float(shannon)),
            "gaussian_bits": gaussian_bits,
            "gaussian_d_a": float(gaussian.distortions_ancestral(eigenvalues, noise).sum()),
            "n_samples": config.samples,
            "n_rate_steps": config.steps,
        }


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
    proportional = settings.rate_steps * np.diff(stops) / (stops[-1] - stops[0])
    counts = np.maximum(1, np.rint(proportional)).astype(int)
    pieces = [
        np.linspace(start, stop, count, endpoint=False)
        for start, stop, count in zip(stops[:-1], stops[1:], counts, strict=True)
    ]
    grid = np.concatenate([*pieces, [stops[-1], settings.final_gamma]])
    return grid, np.cumsum(counts)


@dataclasses.dataclass(frozen=True, eq=False)
class _Chain:
    """The sweep of x / scale; errors are those of x."""

    name: str
    eigenvalues: Eigenvalues
    x: Float[np.ndarray, "n m"]
    config: ConfigDict
    seed: int
    scale: Float[np.ndarray, " m"] | float = 1.0
    further_error: Float[np.ndarray, " n"] | float = 0.0

    def run(
        self, gammas: tuple[float, ...], decoders: tuple[str, ...], bits: float, distortion: float
    ) -> list[SimulatedPoint]:
        """Points at `gammas`, of which the first has the rate `bits` and the last has at least `distortion`.

        The chain starts where the rate is a hundredth of `bits`, and decoders end where the noise that
        is left adds a thousandth of `distortion`.
        """
        shape = (1, 1, len(self.eigenvalues))
        scale = np.broadcast_to(self.scale, shape[-1])
        variances = self.eigenvalues / scale**2
        settings = SimulationSettings(
            rate_steps=self.config.rate_steps,
            ancestral_steps=self.config.ancestral_steps,
            flow_steps=self.config.flow_steps,
            first_gamma=CURVES["diffc_d"].at_rate(variances, 0.01 * bits).parameter,
            final_gamma=float(np.log(1e-3 * distortion / np.sum(scale**2))),
            seed=self.seed,
        )
        return simulate(
            self.name,
            independent_eps_hat,
            {"fixed": {"variances": jnp.asarray(variances.reshape(shape), jnp.float32)}},
            (self.x / scale).reshape(-1, *shape),
            gammas,
            decoders,
            settings,
            scale.reshape(shape),
            self.further_error,
        )


def _simulated_row(
    name: str,
    eigenvalues: Eigenvalues,
    point: SimulatedPoint,
    curve: Curve,
    parameter: float,
    config: ConfigDict,
) -> Row:
    exact = curve.at_parameter(eigenvalues, parameter)
    mean, stderr = point.distortion.mean, point.distortion.stderr
    return {
        "curve": name,
        "parameter": parameter,
        "bits": point.bits.mean,
        "bits_stderr": point.bits.stderr,
        "bits_per_pixel": point.bits.mean / n_pixels(eigenvalues),
        "distortion": mean,
        "distortion_stderr": stderr,
        "snr_db": decibels(eigenvalues.sum() / mean),
        "snr_db_stderr": 10.0 / np.log(10.0) * stderr / mean,
        "exact_bits": exact.bits,
        "exact_distortion": exact.distortion,
        "n_samples": config.samples,
        "n_rate_steps": config.rate_steps,
        "n_steps": point.n_steps,
    }
