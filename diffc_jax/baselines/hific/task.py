"""Training of HiFiC and of the hyper-prior, as the loop wants it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree, UInt8
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.baselines.hific import losses
from diffc_jax.baselines.hific.config import HIFIC, build_architecture, rate_target
from diffc_jax.baselines.hific.model import Hific, Params
from diffc_jax.baselines.hific.step import HificState, Optimizers, init_state, make_train_step
from diffc_jax.errors import UsageError
from diffc_jax.metrics.lpips import LPIPS, lpips_alex
from diffc_jax.runtime import sharding
from diffc_jax.runtime.images import tile
from diffc_jax.training.experiment import open_source
from diffc_jax.training.meter import DivergedError
from diffc_jax.training.optimizer import learning_rate_schedule, make_optimizer
from diffc_jax.training.state import count_parameters
from diffc_jax.training.task import Update, Validation
from diffc_jax.training.validation import per_image, validation_batches

_PICTURES = 8
# Signs of divergence: squared error over that of the stage before; cross entropy, in nats a patch, of a
# discriminator that the generator cannot learn from any more.
_SPOILT = 4.0
_WON_BY_DISCRIMINATOR = 0.01


@dataclasses.dataclass(frozen=True)
class HificTask:
    """An autoencoder and, for HiFiC, its discriminator; see `training.task.Task` for the methods.

    Attributes:
        config: of the run.
        mesh: the devices.
        model: the networks.
        lpips: the distance that HiFiC is trained with; None for the hyper-prior.
    """

    config: ConfigDict
    mesh: Mesh
    model: Hific
    lpips: LPIPS | None

    def state_template(self) -> HificState:
        """Shapes, types and shardings of the state."""
        shapes = jax.eval_shape(self._init_state)
        return sharding.as_template(shapes, sharding.split_parameters(self.mesh, shapes))

    def fresh_state(self, _: data.ImageSource) -> HificState:
        """The state before the first step, which does not depend on the images."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.state_template())
        return sharding.run_once(self._init_state, shardings)

    def count_trained(self) -> int:
        """Number of trained scalars of the autoencoder, which is what a decoder needs."""
        return count_parameters(self.state_template().params["autoencoder"])

    def train_steps(self, num_steps: int) -> Callable[[int], Update]:
        """Updates without discriminator, then with it for config.hific.adversarial_share of the run."""
        adversarial_steps = round(self.config.hific.adversarial_share * num_steps)
        stages = num_steps - adversarial_steps, adversarial_steps
        target = rate_target(self.config, num_steps)
        optimizers = _make_optimizers(self.config, stages)
        weights = losses.HYPERPRIOR if self.lpips is None else losses.FIRST_STAGE
        distance = None
        if self.lpips is not None:
            distance = functools.partial(self.lpips.distance, self.lpips.variables)

        def update(weights: losses.LossWeights) -> Update:
            return make_train_step(
                self.model, target, weights, optimizers, self.config.seed, distance, self.mesh
            )

        first = update(weights)
        second = update(losses.SECOND_STAGE) if adversarial_steps else first
        return lambda step: first if step <= stages[0] else second

    def summarise(self, means: dict[str, float]) -> str:
        """Rate and PSNR of the batches, and the loss of the discriminator.

        Raises:
            DivergedError: with a discriminator, which has spoilt the reconstructions or tells all apart.
        """
        psnr = 10.0 * np.log10(255.0**2 / means["mse"])
        summary = f"{means['bpp']:.3f} bpp, {psnr:.2f} dB"
        if "discriminator_loss" not in means:
            return summary
        fix = (
            "run again in another --workdir with a lower hific.adversarial_learning_rate or"
            " hific.adversarial_share"
        )
        if means["mse_over_plain"] > _SPOILT:
            raise DivergedError(
                f"the stage with discriminator has diverged: the squared error is"
                f" {means['mse_over_plain']:.1f} times that of the stage before; {fix}"
            )
        if means["discriminator_loss"] < _WON_BY_DISCRIMINATOR:
            raise DivergedError(
                "the stage with discriminator has diverged: it tells all reconstructions apart (loss"
                f" {means['discriminator_loss']:.2g}) and teaches no more; {fix}"
            )
        return f"{summary}, discriminator {means['discriminator_loss']:.3f}"

    def make_validation(self) -> Callable[[HificState], Validation]:
        """Estimated rate, PSNR and, for HiFiC, LPIPS; the picture has originals above reconstructions."""
        source = open_source(self.config, "eval")
        split, whole = sharding.split_batch(self.mesh), sharding.replicated(self.mesh)
        measure = jax.jit(self._measure, in_shardings=(None, split), out_shardings=whole)
        reconstruct = jax.jit(self._reconstruct, in_shardings=(None, whole), out_shardings=whole)
        first = np.stack([source[i] for i in range(min(_PICTURES, len(source)))])
        target = self.config.hific.target_bpp

        def evaluate(state: HificState) -> Validation:
            params = sharding.gather(self.mesh, state.params["autoencoder"])
            batches = validation_batches(source, self.config, self.mesh)
            images = per_image(
                lambda batch: jax.device_get(measure(params, batch["image"])), batches, self.mesh
            )
            values = {name: float(value.mean()) for name, value in images.items()}
            decoded = jax.device_get(reconstruct(params, first)[0])
            return Validation(
                values,
                f"{values['bpp']:.3f} bpp by estimate ({values['bpp'] / target - 1:+.1%} of the target),"
                f" {values['psnr']:.2f} dB",
                tile(np.concatenate([first, decoded]), len(first)),
            )

        return evaluate

    def begin_decay(self, state: HificState, num_steps: int) -> HificState:
        """Never asked for: these networks are trained for a number of steps."""
        del state, num_steps
        raise UsageError(f"train.max_seconds: must be 0 for {self.config.model.name}")

    def export(
        self, state: HificState, _: Callable[[HificState], Validation]
    ) -> tuple[PyTree, dict[str, Any]]:
        """The autoencoder."""
        tree = {"autoencoder": state.params["autoencoder"]}
        return jax.jit(lambda tree: sharding.gather(self.mesh, tree))(tree), {
            "model": self.config.model.to_dict(),
            "hific": self.config.hific.to_dict(),
            "trained_parameters": self.count_trained(),
            "discriminator_parameters": count_parameters(state.params["discriminator"]),
        }

    def _init_state(self) -> HificState:
        # The layout of the optimisers' state does not depend on the number of steps.
        adversarial = self.config.hific.adversarial_share > 0
        optimizers = _make_optimizers(self.config, (1, 1))
        return init_state(self.model, optimizers, self.config.seed, adversarial)

    def _reconstruct(
        self, params: Params, pixels: UInt8[Array, "b h w 3"]
    ) -> tuple[UInt8[Array, "b h w 3"], Float[Array, " b"]]:
        """What files decode to, and the estimate of their bits."""
        symbols, bits = self.model.quantise(params, pixels.astype(jnp.float32) / 255.0)
        images = self.model.reconstruct(params, symbols)
        return jnp.round(255.0 * images).astype(jnp.uint8), bits

    def _measure(
        self, params: Params, pixels: UInt8[Array, "b h w 3"]
    ) -> dict[str, Float[Array, " b"]]:
        decoded, bits = self._reconstruct(params, pixels)
        original, decoded = (images.astype(jnp.float32) for images in (pixels, decoded))
        mse = jnp.square(original - decoded).mean((1, 2, 3))
        values = {
            "bpp": bits / (pixels.shape[1] * pixels.shape[2]),
            "psnr": 10.0 * jnp.log10(255.0**2 / jnp.maximum(mse, 1e-9)),
        }
        if self.lpips is not None:
            values["lpips"] = self.lpips.distance(
                self.lpips.variables, decoded / 127.5 - 1.0, original / 127.5 - 1.0
            )
        return values


def build_hific_task(config: ConfigDict) -> HificTask:
    """Builds the networks that config.model describes, on a mesh of all devices.

    Raises:
        UsageError: a field of config.mesh or config.model that cannot be used.
        InputError: HiFiC without the weights of LPIPS.
    """
    return HificTask(
        config=config,
        mesh=sharding.make_mesh(**config.mesh),
        model=Hific(build_architecture(config.model)),
        lpips=lpips_alex() if config.model.name == HIFIC else None,
    )


def learning_rates(
    config: ConfigDict, stages: tuple[int, int]
) -> tuple[optax.Schedule, optax.Schedule]:
    """Of the autoencoder, and of the discriminator, which starts with the second stage.

    Args:
        config: of the run; each stage goes through the schedule of config.train.
        stages: updates without and with a discriminator.
    """
    adversarial = config.train.copy_and_resolve_references()
    adversarial.learning_rate = config.hific.adversarial_learning_rate
    first = learning_rate_schedule(config.train, stages[0])
    second = learning_rate_schedule(adversarial, stages[1])
    return optax.join_schedules([first, second], [stages[0]]), second


def _make_optimizers(config: ConfigDict, stages: tuple[int, int]) -> Optimizers:
    rates = learning_rates(config, stages)
    return Optimizers(*(make_optimizer(config.train, sum(stages), rate) for rate in rates))
