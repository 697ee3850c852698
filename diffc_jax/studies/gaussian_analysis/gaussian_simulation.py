"""The curves of a Gaussian source by Monte Carlo through the sweep, in principal components."""

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from diffc_jax import rng
from diffc_jax.models.gaussian import independent_eps_hat
from diffc_jax.studies.gaussian_analysis.gaussian import Row, decibels, n_pixels
from diffc_jax.studies.gaussian_analysis.simulation import (
    SimulatedPoint,
    SimulationSettings,
    simulate,
)
from diffc_jax.theory import allocation
from diffc_jax.theory.curves import CURVES, Curve, score_scaled
from diffc_jax.theory.gaussian import Eigenvalues

_CURVE_OF_DECODER: dict[str, str] = {
    "ancestral": "diffc_a",
    "flow": "diffc_f",
    "mean": "diffc_d",
    "kappa=1.5": "kappa=1.5",
}
# Components with a lower signal-to-noise ratio than this (0.0007 bits) count as untold in the simulation.
_LEAST_TOLD = 1e-3


def simulation_rows(eigenvalues: Eigenvalues, config: ConfigDict, seed: int) -> Iterator[Row]:
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
            # The receiver draws components of which it is told (almost) nothing from their distribution.
            told = eigenvalues > _LEAST_TOLD * noise if decoder == "ancestral" else eigenvalues > 0
            drawn = np.square(x - other)[:, ~told].sum(1)
            part = _Chain(
                f"{name} at {bits:.4g} bits",
                eigenvalues[told],
                x[:, told],
                config,
                seed,
                np.sqrt(noise[told]),
                drawn,
            )
            (point,) = part.run((0.0,), (decoder,), bits, star.distortion)
            yield _simulated_row(name, eigenvalues, point, CURVES[name], star.parameter, config)


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
        """Points at `gammas`, of which the first tells `bits` and the last has at least `distortion`.

        The chain starts where the code tells a hundredth of `bits`, and decoders end where the noise that
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
