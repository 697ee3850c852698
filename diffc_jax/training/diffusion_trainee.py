"""Training of denoisers on the variational bound, as the loop wants it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree, UInt8
from ml_collections import ConfigDict

from diffc_jax import pictures, rng
from diffc_jax.diffusion import decoders, process
from diffc_jax.training import sharding
from diffc_jax.training.bound_eval import average_bound, evaluate_bound, make_estimate
from diffc_jax.training.experiment import Experiment, build_experiment
from diffc_jax.training.held_out import held_out_batches
from diffc_jax.training.state import TrainState, count_parameters, model_variables
from diffc_jax.training.trainee import HeldOut

_SAMPLES = 16
_SAMPLE_COLUMNS = 8
_SAMPLE_STEPS = 50


class DiffusionTrainee(Experiment):
    """A denoiser and its schedule; see `training.trainee.Trainee` for the methods.

    A model without trained parameters (a fitted Gaussian) is fitted in `fresh_state`, and that is all.
    """

    def count_trained(self) -> int:
        """Number of trained scalars of the denoiser."""
        return count_parameters(self.state_template().params["model"])

    def train_steps(self, num_steps: int) -> Callable[[int], jax.stages.Wrapped]:
        """The same step for all updates."""
        step = self.train_step(num_steps)
        return lambda _: step

    def summarise(self, means: dict[str, float]) -> str:
        """The bound."""
        return f"loss {means['loss']:.4f} bits/dim"

    def held_out_evaluation(self) -> Callable[[TrainState], HeldOut]:
        """Bits/dim of the held-out images, and a grid of unconditional samples."""
        source = self.open_source("eval")
        estimate = make_estimate(self.model, self.schedule, self.config.seed, self.mesh)
        sample = jax.jit(self._samples, out_shardings=sharding.replicated(self.mesh))

        def evaluate(state: TrainState) -> HeldOut:
            batches = held_out_batches(source, self.config, self.mesh)
            values = average_bound(evaluate_bound(estimate, state, batches, self.mesh))
            return HeldOut(
                values,
                f"{values['bits_per_dim']:.4f} +- {values['bits_per_dim_stderr']:.4f} bits/dim",
                pictures.tile(np.asarray(sample(state)), _SAMPLE_COLUMNS),
            )

        return evaluate

    def export(self, state: TrainState) -> tuple[PyTree, dict[str, Any]]:
        """Averaged parameters and fitted constants."""
        tree = {"params": state.ema, "fixed": state.fixed}
        return jax.jit(lambda tree: sharding.gather(self.mesh, tree))(tree), {
            "model": self.config.model.to_dict(),
            "schedule": self.config.schedule.to_dict(),
            "trained_parameters": self.count_trained(),
        }

    def _samples(self, state: TrainState) -> UInt8[Array, "b h w c"]:
        """By the flow from pure noise; the same noise at every call."""
        key = rng.stream(self.config.seed, "samples")
        noise = process.image_noise(rng.per_index(key, jnp.arange(_SAMPLES)), self.image_shape)
        ema = sharding.gather(self.mesh, state.ema)
        variables = model_variables(ema, state.fixed)
        images = decoders.flow(
            lambda z, gamma: self.model.eps_hat(variables, z, gamma),
            noise,
            self.schedule.gamma(ema["schedule"], jnp.linspace(1.0, 0.0, _SAMPLE_STEPS + 1)),
            _SAMPLE_STEPS,
        )
        return process.unit_to_pixels(images)


def build_diffusion_trainee(config: ConfigDict) -> DiffusionTrainee:
    """Builds it on a mesh of all devices; errors as of `build_experiment`."""
    return DiffusionTrainee(**vars(build_experiment(config)))
