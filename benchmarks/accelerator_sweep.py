"""The sections of benchmarks/accelerator.py about the sweep: closed forms on this device, and speed."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from accelerator_jobs import Job, Row
from jaxtyping import Array, Float
from shared import first_and_median_seconds, photographs

from diffc_jax import rng
from diffc_jax.config import base_config, shrink_to_smoke
from diffc_jax.diffusion import process
from diffc_jax.evaluation.plan import SweepPlan, even_strata, make_plan, nearest_levels
from diffc_jax.evaluation.rd_sweep import Sweep
from diffc_jax.models import Denoiser, Variables, gaussian
from diffc_jax.theory import gaussian as theory

# The source: 192 components with a power law, in the bases of DCT coefficients and of rotated colours, so
# that the denoiser has products of matrices to compute.
_SHAPE = (8, 8, 3)
_EIGENVALUES = 4.0 * np.arange(1, 193) ** -1.2
_CLOSED_FORMS = {
    "ancestral": theory.distortions_ancestral,
    "flow": theory.distortions_flow,
    "mean": theory.distortions_mean,
}
_PRODUCT_SIZE = 1024
_SWEEP_ROUNDS = 1


@dataclasses.dataclass(frozen=True)
class Size:
    """Settings of the measurements.

    Attributes:
        sources: sampled vectors.
        steps: of the chain whose rate is measured; the decoders have a share of them.
        levels: noise levels.
    """

    sources: int
    steps: int
    levels: int


FULL, SMALL = Size(sources=16384, steps=600, levels=5), Size(sources=128, steps=300, levels=3)


def closed_form_jobs(size: Size) -> list[Job]:
    """Rate and distortions with the exact Gaussian denoiser, and the products of matrices behind them."""
    return [
        Job("closed_forms", "exact Gaussian denoiser", 10, lambda: closed_form_rows(size)),
        Job("products", "float32 products of matrices", 8, product_rows),
    ]


def closed_form_rows(size: Size) -> list[Row]:
    """For each quantity the level at which it is furthest from its closed form."""
    gammas = np.linspace(7.0, -17.0, size.steps + 1)
    strata = even_strata(size.steps, size.steps // 4)
    plan = SweepPlan(
        gammas=gammas,
        strata=strata,
        levels=nearest_levels(gammas[strata], 2.0, -9.0, size.levels),
        decoders=tuple(_CLOSED_FORMS),
        ancestral_steps=2 * size.steps // 3,
        flow_steps=size.steps // 3,
    )
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    fixed = {
        "mean": jnp.zeros(3),
        "rotation": jnp.asarray(rotation, jnp.float32),
        "variances": jnp.asarray(_EIGENVALUES.reshape(_SHAPE), jnp.float32),
    }
    indices = jnp.arange(size.sources)
    noise = process.image_noise(rng.per_index(rng.stream(0, "source"), indices), _SHAPE)
    x = gaussian.from_components(jnp.sqrt(fixed["variances"])[None] * noise, fixed["rotation"])
    result = Sweep(gaussian.eps_hat, plan, seed=0).run({"fixed": fixed}, x, indices)

    found = {"rate": [result.ideal_bits[:, level] for level in plan.levels]}
    expected = {"rate": theory.chain_rate(_EIGENVALUES, gammas)[strata[plan.levels]]}
    for decoder, closed_form in _CLOSED_FORMS.items():
        images = result.reconstructions[decoder]
        found[decoder] = [np.asarray(process.squared_norm(x - y), np.float64) for y in images]
        expected[decoder] = [
            closed_form(_EIGENVALUES, noise).sum() for noise in np.exp(plan.level_gammas)
        ]
    return [
        deviation_row(name, plan.level_gammas, np.array(found[name]), np.array(expected[name]))
        for name in found
    ]


def deviation_row(
    name: str,
    gammas: Float[np.ndarray, " l"],
    samples: Float[np.ndarray, "l n"],
    expected: Float[np.ndarray, " l"],
) -> Row:
    """The means over the samples against what is expected of them, at the level where they are furthest."""
    deviation = samples.mean(axis=1) / expected - 1
    error = samples.std(axis=1, ddof=1) / np.sqrt(samples.shape[1]) / expected
    worst = int(np.argmax(np.abs(deviation)))
    return {
        "quantity": "rate" if name == "rate" else f"distortion, {name}",
        "dtype": "float32",
        "sources": samples.shape[1],
        "noise_levels": len(gammas),
        "largest_relative_deviation": float(deviation[worst]),
        "its_standard_error": float(error[worst]),
        "at_gamma": float(gammas[worst]),
        "largest_deviation_in_standard_errors": float(np.abs(deviation / error).max()),
    }


def product_rows() -> list[Row]:
    """The error of a product of float32 matrices as JAX computes it here, and at its best."""
    left, right = np.random.default_rng(0).normal(size=(2, _PRODUCT_SIZE, _PRODUCT_SIZE))
    left, right = left.astype(np.float32), right.astype(np.float32)
    exact = left.astype(np.float64) @ right.astype(np.float64)

    def row(label: str, precision: str | None) -> Row:
        def product(a: Array, b: Array) -> Array:
            return jnp.matmul(a, b, precision=precision)

        error = np.asarray(jax.jit(product)(left, right), np.float64) - exact
        return {
            "precision": label,
            "size": _PRODUCT_SIZE,
            "relative_rms_error": float(np.sqrt(np.mean(error**2) / np.mean(exact**2))),
        }

    setting = jax.config.jax_default_matmul_precision or "JAX's own"
    return [row(f"default ({setting})", None), row("highest", "highest")]


def speed_job(model: Callable[[], tuple[Denoiser, Variables, int]], small: bool) -> Job:
    """Seconds of the sweep as an evaluation runs it, on one device.

    Args:
        model: makes denoiser, variables and the side of its images.
        small: a few levels of a few images.
    """

    def run() -> list[Row]:
        config = base_config()
        if small:
            shrink_to_smoke(config)
        evaluation, schedule = config.eval, config.schedule
        batch = evaluation.batch_size if small else 4 * evaluation.batch_size
        gammas = np.linspace(schedule.gamma_max, schedule.gamma_min, evaluation.rate_steps + 1)
        plan = make_plan(gammas, evaluation)
        eps_hat, variables, side = model()
        variables = jax.device_put(variables)
        x = process.pixels_to_unit(jnp.asarray(photographs("eval", side, batch)))
        sweep = Sweep(eps_hat, plan, config.seed)
        first, seconds = first_and_median_seconds(
            lambda: sweep.run(variables, x, jnp.arange(batch)).reconstructions, _SWEEP_ROUNDS
        )
        return [
            {
                "dtype": "float32",
                "batch": batch,
                "image_side_pixels": side,
                "noise_levels": len(plan.levels),
                "evaluations_per_image": plan.evaluations_per_image(),
                "seconds_per_image": seconds / batch,
                "evaluations_per_second": batch * plan.evaluations_per_image() / seconds,
                "first_call_seconds": first,
            }
        ]

    return Job("sweep", "shipped network", 90, run)
