"""Training of denoisers on the ELBO, as the loop wants it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, PyTree, UInt8
from ml_collections import ConfigDict

from diffc_jax import rng
from diffc_jax.config.sources import plain
from diffc_jax.diffusion import process, samplers
from diffc_jax.models.parameters import model_variables, parameter_tree
from diffc_jax.runtime import sharding
from diffc_jax.runtime.images import tile
from diffc_jax.training.experiment import Experiment, build_experiment, time_ranges
from diffc_jax.training.meter import DivergedError
from diffc_jax.training.state import TrainState, count_parameters
from diffc_jax.training.task import Update, Validation
from diffc_jax.training.validation import NegativeElbo, describe_elbo

_SAMPLES = 16
_SAMPLE_COLUMNS = 8
_SAMPLE_STEPS = 50
# A mean loss shows divergence, as infinity does, that is so many times the lowest so far, and worse than
# the eight bits of plain pixel values.
_DIVERGED = 2.0
_PIXEL_BITS = 8.0


@dataclasses.dataclass(frozen=True)
class DiffusionTask(Experiment):
    """A denoiser and its schedule; see `training.task.Task` for the methods.

    A model without trained parameters (a fitted Gaussian) is fitted in `fresh_state`, and that is all.
    """

    _lowest_loss: dict[str, float] = dataclasses.field(default_factory=dict, init=False)

    def count_trained(self) -> int:
        """Number of trained scalars of the denoiser."""
        return count_parameters(self.state_template().params["model"])

    def train_steps(self, num_steps: int) -> Callable[[int], Update]:
        """The same update for all steps."""
        update = self.update(num_steps)
        return lambda _: update

    def begin_decay(self, state: TrainState, num_steps: int) -> TrainState:
        """Lets the learning rate fall to zero over the next `num_steps`."""
        decay = {"start": np.asarray(state.step), "length": np.asarray(num_steps, np.int32)}
        return dataclasses.replace(
            state, decay=jax.device_put(decay, sharding.replicated(self.mesh))
        )

    def summarise(self, means: dict[str, float]) -> str:
        """The loss as text; DivergedError if it has risen far above what it was."""
        loss = means["loss"]
        lowest = self._lowest_loss.setdefault("lowest", loss)
        if loss > max(_DIVERGED * lowest, _PIXEL_BITS):
            raise DivergedError(
                f"the loss is {loss:.4g} bits/dim, {loss / lowest:.1f} times the lowest so far; run again"
                " in another --workdir, with a lower train.learning_rate (or train.muon_learning_rate) or"
                " with model.dtype = float32"
            )
        self._lowest_loss["lowest"] = min(loss, lowest)
        return f"loss {loss:.4f} bits/dim"

    def make_validation(self) -> Callable[[TrainState], Validation]:
        """Bits/dim of the validation images, and a grid of unconditional samples."""
        source, batch_size = self.open_source("eval"), self.config.eval.batch_size
        images = range(min(self.config.train.eval_images or len(source), len(source)))
        ranges = time_ranges(self.config)
        times = (0.0, 1.0) if ranges is None else (min(ranges.lowest), ranges.highest)
        elbo = NegativeElbo(self.model, self.schedule, self.config.seed, self.mesh, times=times)
        sample = jax.jit(self._samples, out_shardings=sharding.replicated(self.mesh))

        def evaluate(state: TrainState) -> Validation:
            (values,) = elbo(state, source, batch_size, [images])
            return Validation(
                values,
                describe_elbo(values),
                tile(np.asarray(sample(state)), _SAMPLE_COLUMNS),
            )

        return evaluate

    def export(
        self, state: TrainState, evaluate: Callable[[TrainState], Validation]
    ) -> tuple[PyTree, dict[str, Any]]:
        """Averaged parameters, of two averages those with the lower validation loss; fitted constants."""
        card: dict[str, Any] = {
            "model": plain(self.config.model),
            "schedule": self.config.schedule.to_dict(),
            "trained_parameters": self.count_trained(),
        }
        ema = state.ema
        if state.second_ema is not None:
            train = self.config.train
            averages = {train.ema_decay: ema, train.second_ema_decay: state.second_ema}
            losses = {
                decay: evaluate(dataclasses.replace(state, ema=average)).values["bits_per_dim"]
                for decay, average in averages.items()
            }
            best = min(losses, key=lambda decay: losses[decay])
            ema = averages[best]
            logging.info(
                "validation bits/dim by decay of the average: %s; keeping %s", losses, best
            )
            # JSON and trackers have names.
            by_name = {str(decay): loss for decay, loss in losses.items()}
            card |= {"ema_decay": best, "bits_per_dim_by_ema_decay": by_name}
        tree = parameter_tree(ema, state.fixed)
        return jax.jit(lambda tree: sharding.gather(self.mesh, tree))(tree), card

    def _samples(self, state: TrainState) -> UInt8[Array, "b h w c"]:
        """By the flow from pure noise; the same noise at every call."""
        key = rng.stream(self.config.seed, "samples")
        noise = process.image_noise(rng.per_index(key, jnp.arange(_SAMPLES)), self.image_shape)
        ema = sharding.gather(self.mesh, state.ema)
        variables = model_variables(ema, state.fixed)
        images = samplers.flow(
            lambda z, gamma: self.model.eps_hat(variables, z, gamma),
            noise,
            self.schedule.gamma(ema["schedule"], jnp.linspace(1.0, 0.0, _SAMPLE_STEPS + 1)),
            _SAMPLE_STEPS,
        )
        return process.unit_to_pixels(images)


def build_diffusion_task(config: ConfigDict) -> DiffusionTask:
    """Builds it on a mesh of all devices; errors as of `build_experiment`."""
    return DiffusionTask(**vars(build_experiment(config)))
