"""The sweep, method `diffc`: the rate of the chain at every noise level, reconstructions at the chosen ones.

C_t, the ideal rate of z_t (section 3 of arXiv 2206.08889), is a sum over the steps of the chain of
KL[q(z_s | z_t, x) || p(z_s | z_t)], each a mean over z_t of q(z_t | x), which can be drawn at once. So the
chain is never walked: its T steps are grouped into strata, and in each stratum one random step of every image
stands for all. That is unbiased, and exact in the choice of steps where each is a stratum of its own. Strata
go in pairs whose random steps mirror each other, so that what is linear in a pair adds no error at its end.

`Sweep` works on real-valued x of any range, on any denoiser; `SweepMethod` has 8-bit images and the columns
of results. Noise depends on the image's index only, so results do not depend on batches or devices.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Shaped

from diffc_jax import rng
from diffc_jax.channel_simulation.rate_bound import rate_bound, rate_bound_slope
from diffc_jax.data import Batch
from diffc_jax.diffusion import elbo, process, samplers
from diffc_jax.diffusion.decoders import Reconstruct, parse_decoder
from diffc_jax.diffusion.process import Images
from diffc_jax.evaluation.method import Means, Method, Table
from diffc_jax.evaluation.plan import SweepPlan
from diffc_jax.evaluation.rate_point import DIFFC
from diffc_jax.evaluation.result_files import PER_IMAGE, RATE_CURVE, RECONSTRUCTIONS
from diffc_jax.evaluation.results import finite
from diffc_jax.evaluation.store import Arrays
from diffc_jax.evaluation.trained import Trained
from diffc_jax.models import Denoiser, Variables
from diffc_jax.runtime.sharding import put_batch

# The ideal rate of an image at the end of every stratum, bits; its name in stored batches.
IDEAL_BITS = "kl_bits"


class SweepMethod(Method):
    """The sweep of a trained model as a method of an evaluation; its rates are bounds."""

    name, work, rate_kind = DIFFC, "sweep", "bound"
    image_table, reconstructions = PER_IMAGE, RECONSTRUCTIONS
    image_columns = ("bits_kl", "bits_bound")
    arrays, prefix = (IDEAL_BITS,), ""

    def __init__(self, trained: Trained, plan: SweepPlan, seed: int):
        """Compiles the sweep of `trained`, on its devices."""
        self.plan, self.decoders = plan, plan.decoders
        self._mesh, self._variables, self._seed = trained.mesh, trained.variables, seed
        self._n_pixels = trained.description["image_size"] ** 2
        self._sweep = Sweep(trained.model.eps_hat, plan, seed)

    def evaluations_per_image(self) -> int:
        """See `Method`."""
        return self.plan.evaluations_per_image()

    def code(
        self, batch: Batch, on_evaluations: Callable[[int], None]
    ) -> tuple[Arrays, dict[str, list[np.ndarray]]]:
        """See `Method`."""
        placed = put_batch(self._mesh, {"image": batch["image"], "index": batch["index"]})
        x = process.pixels_to_unit(placed["image"])
        result = self._sweep.run(self._variables, x, placed["index"], on_evaluations)
        mask = batch["mask"]
        pixels = {
            decoder: [np.asarray(process.unit_to_pixels(x))[mask] for x in levels]
            for decoder, levels in result.reconstructions.items()
        }
        return {IDEAL_BITS: result.ideal_bits[mask]}, pixels

    def averaged(self, numbers: Arrays) -> Arrays:
        """See `Method`."""
        return {IDEAL_BITS: numbers[IDEAL_BITS]}

    def rate(self, means: Means, level: int) -> dict[str, Any]:
        """See `Method`; the bound is that of the mean ideal rate."""
        bits, position = means[IDEAL_BITS], self.plan.levels[level]
        ideal = float(bits.mean[position])
        stderr = float(rate_bound_slope(ideal)) * bits.stderr[position]
        return {
            "gamma": float(self.plan.level_gammas[level]),
            "bpp": float(rate_bound(ideal)) / self._n_pixels,
            "bpp_kl": ideal / self._n_pixels,
            "bpp_stderr": finite(stderr / self._n_pixels),
            "seed": self._seed,
        }

    def image_rates(self, numbers: Arrays) -> dict[str, Shaped[np.ndarray, "b l"]]:
        """See `Method`."""
        ideal = numbers[IDEAL_BITS][:, self.plan.levels]
        gammas = np.broadcast_to(self.plan.level_gammas, ideal.shape)
        return {"gamma": gammas, "bits_kl": ideal, "bits_bound": rate_bound(ideal)}

    def shown(self, first: Arrays) -> Arrays:
        """See `Method`."""
        pixels = {decoder: first[f"pixels/{decoder}"] for decoder in self.decoders}
        return {"gammas": self.plan.level_gammas, **pixels}

    def summary(self, means: Means, elbo: Mapping[str, float]) -> dict[str, Any]:
        """See `Method`."""
        bits, n_dimensions = means[IDEAL_BITS], 3 * self._n_pixels
        return {
            "seed": self._seed,
            "chain_steps": len(self.plan.gammas) - 1,
            "chain_bits_per_dim": float(bits.mean[-1]) / n_dimensions + elbo["reconstruction"],
            "chain_bits_per_dim_stderr": finite(bits.stderr[-1] / n_dimensions),
            "rate_evaluations_per_image": len(self.plan.strata) - 1,
            "denoiser_evaluations_per_image": {
                decoder: [self.plan.n_steps(decoder, i) for i in range(len(self.plan.levels))]
                for decoder in self.decoders
            },
        }

    def tables(self, means: Means) -> dict[str, Table]:
        """rate_curve.csv: the ideal rate and its bound at the end of every stratum."""
        bits, n_pixels = means[IDEAL_BITS], self._n_pixels
        spent = np.diff(bits.mean, prepend=0.0)
        rows = [
            {
                "step": int(step),
                "gamma": float(self.plan.gammas[step]),
                "bpp_kl": float(bits.mean[i]) / n_pixels,
                "bpp_kl_stderr": finite(bits.stderr[i] / n_pixels),
                "bpp": float(rate_bound(float(bits.mean[i]))) / n_pixels,
                "step_bits": float(spent[i]),
            }
            for i, step in enumerate(self.plan.strata)
        ]
        return {RATE_CURVE: Table(list(rows[0]), rows)}


@dataclasses.dataclass(frozen=True, eq=False)
class SweepResult:
    """What a sweep of one batch gives.

    Attributes:
        ideal_bits: (b, s) bits spent to reach the end of each stratum, C_t.
        reconstructions: decoder -> one batch of x for each level.
    """

    ideal_bits: Float[np.ndarray, "b s"]
    reconstructions: dict[str, list[Array]]


class Sweep:
    """A compiled sweep; every level, batch and set of variables runs the same programs."""

    def __init__(self, eps_hat: Denoiser, plan: SweepPlan, seed: int):
        self._plan = plan
        self._rate_key, self._level_key, self._decoder_key = (
            rng.stream(seed, f"sweep/{name}") for name in ("rate", "levels", "ancestral")
        )
        self._rate = jax.jit(functools.partial(_stratified_rate, eps_hat))
        self._next_level = jax.jit(_next_level, donate_argnums=1)
        self._estimate = jax.jit(functools.partial(_estimate, eps_hat))
        # Decoders that differ in their parameter only share a program.
        self._decoders = {name: parse_decoder(name) for name in plan.decoders}
        self._programs = {
            program: jax.jit(functools.partial(_reconstruct, program, eps_hat))
            for program in {decoder.reconstruct for decoder in self._decoders.values()}
        }

    def run(
        self,
        variables: Variables,
        x: Images,
        indices: Int[Array, " b"],
        on_evaluations: Callable[[int], None] = lambda count: None,
    ) -> SweepResult:
        """Sweeps one batch.

        Args:
            variables: of the model.
            x: the images.
            indices: of the images in their data set; they alone choose the noise.
            on_evaluations: called with the number of denoiser evaluations of each finished part.
        """
        plan = self._plan
        gammas, strata = jnp.asarray(plan.gammas, jnp.float32), jnp.asarray(plan.strata)
        kl = self._rate(variables, x, gammas, strata, rng.per_index(self._rate_key, indices))
        ideal_bits = np.asarray(kl, np.float64).T * elbo.BITS_PER_NAT
        on_evaluations(len(plan.strata) - 1)

        keys = rng.per_index(self._level_key, indices)
        gamma = np.float32(plan.gammas[0])
        z = process.diffuse(x, _level_noise(x, keys, 0), jnp.asarray(gamma))
        reconstructions: dict[str, list[Array]] = {decoder: [] for decoder in plan.decoders}
        for level, next_gamma in enumerate(plan.level_gammas.astype(np.float32)):
            z = self._next_level(x, z, gamma, next_gamma, keys, level)
            gamma = next_gamma
            decoder_keys = rng.per_index(jax.random.fold_in(self._decoder_key, level), indices)
            if plan.decoders:
                x_hat = jax.block_until_ready(self._estimate(variables, z, gamma))
                on_evaluations(1)
            for name, (grid, n_steps) in plan.decodings[level].items():
                decoder = self._decoders[name]
                program, value = self._programs[decoder.reconstruct], np.float32(decoder.value)
                image = program(variables, z, x_hat, grid, n_steps, decoder_keys, value)
                reconstructions[name].append(jax.block_until_ready(image))
                on_evaluations(n_steps - 1)
        return SweepResult(ideal_bits=ideal_bits, reconstructions=reconstructions)


def _stratified_rate(
    eps_hat: Denoiser,
    variables: Variables,
    x: Images,
    gammas: Float[Array, " n"],
    strata: Int[Array, " s"],
    keys: Key[Array, " b"],
) -> Float[Array, "s b"]:
    """Nats spent to reach the end of each stratum: the prior, then one step of each, times their number."""

    def stratum(i: Int[Array, ""], kl: Float[Array, "s b"]) -> Float[Array, "s b"]:
        begin, end = strata[i], strata[i + 1]
        # The second stratum of a pair takes the step that mirrors the first one's.
        pair_keys, noise_keys = (
            jax.vmap(jax.random.fold_in, (0, None))(keys, number)
            for number in (i - i % 2, len(strata) + i)
        )
        part = jax.vmap(jax.random.uniform)(pair_keys)
        place = jnp.minimum(jnp.floor(part * (end - begin)).astype(jnp.int32), end - begin - 1)
        steps = jnp.where(i % 2, end - 1 - place, begin + place)
        gamma_t, gamma_s = gammas[steps], gammas[steps + 1]
        eps = process.image_noise(noise_keys, x.shape[1:])
        eps_pred = eps_hat(variables, process.diffuse(x, eps, gamma_t), gamma_t)
        spent = (end - begin) * process.step_kl(eps, eps_pred, gamma_t, gamma_s)
        return kl.at[i + 1].set(kl[i] + spent)

    kl = jnp.zeros((len(strata), len(x))).at[0].set(process.prior_kl(x, gammas[0]))
    return jax.lax.fori_loop(0, len(strata) - 1, stratum, kl)


def _next_level(
    x: Images,
    z: Images,
    gamma: Float[Array, ""],
    next_gamma: Float[Array, ""],
    keys: Key[Array, " b"],
    level: Int[Array, ""] | int,
) -> Images:
    """A sample of q(z_s | z_t, x): latents of the levels are related as the prefixes of one stream."""
    mean, std = process.conditional(z, process.eps_from_x(z, x, gamma), gamma, next_gamma)
    return mean + std * _level_noise(x, keys, level + 1)


def _level_noise(x: Images, keys: Key[Array, " b"], level: Int[Array, ""] | int) -> Images:
    level_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, level)
    return process.image_noise(level_keys, x.shape[1:])


def _estimate(
    eps_hat: Denoiser, variables: Variables, z: Images, gamma: Float[Array, ""]
) -> Images:
    return samplers.posterior_mean(functools.partial(eps_hat, variables), z, gamma)


def _reconstruct(
    program: Reconstruct,
    eps_hat: Denoiser,
    variables: Variables,
    z: Images,
    x_hat: Images,
    gammas: Float[Array, " n"],
    n_steps: Int[Array, ""] | int,
    keys: Key[Array, " b"],
    value: Float[Array, ""],
) -> Images:
    return program(functools.partial(eps_hat, variables), z, x_hat, gammas, n_steps, keys, value)
