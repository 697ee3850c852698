"""Training of HiFiC and of the hyper-prior: the task that the loop calls, its state and its update."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree, UInt8
from ml_collections import ConfigDict

from diffc_jax import data, rng
from diffc_jax.baselines.hific import losses
from diffc_jax.baselines.hific.config import build_architecture, rate_target
from diffc_jax.baselines.hific.losses import (
    Distance,
    LossWeights,
    RateTarget,
    autoencoder_loss,
    discriminator_loss,
)
from diffc_jax.baselines.hific.model import Forward, Hific, Params
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.rate_point import HIFIC
from diffc_jax.metrics.lpips import LPIPS, lpips_alex
from diffc_jax.runtime import sharding
from diffc_jax.runtime.devices import host_cpu
from diffc_jax.runtime.images import tile
from diffc_jax.training.experiment import open_source
from diffc_jax.training.meter import DivergedError
from diffc_jax.training.optimizer import learning_rate_schedule, make_optimizer
from diffc_jax.training.state import count_parameters, update_ema
from diffc_jax.training.task import Update, Validation
from diffc_jax.training.validation import per_image

Pixels = UInt8[Array, "b h w 3"]
Metrics = dict[str, Float[Array, ""]]

_SHOWN_IMAGES = 8
# Signs of divergence: squared error over that of the stage before; cross entropy, in nats a patch, of a
# discriminator that the generator cannot learn from any more.
_DIVERGED_MSE_RATIO = 4.0
_DIVERGED_DISCRIMINATOR_LOSS = 0.01
_PLAIN_MSE_DECAY = 0.99


@flax.struct.dataclass
class HificState:
    """The state of training, or its shapes.

    Attributes:
        step: number of finished updates.
        params: {"autoencoder": ..., "discriminator": ...}; the latter is empty without one.
        opt_state: of the optimisers, likewise.
        spectral: state of the discriminator's spectral norms; empty without one.
        plain_mse: moving average of the MSE of updates without discriminator; infinite before them.
    """

    step: PyTree
    params: PyTree
    opt_state: PyTree
    spectral: PyTree
    plain_mse: PyTree


class Optimizers(NamedTuple):
    """One optimiser for each network, with counters and gradient norms of its own."""

    autoencoder: optax.GradientTransformation
    discriminator: optax.GradientTransformation


@dataclasses.dataclass(frozen=True)
class HificTask:
    """An autoencoder and, for HiFiC, its discriminator and LPIPS; methods as in `training.task.Task`."""

    config: ConfigDict
    mesh: Mesh
    model: Hific
    lpips: LPIPS | None

    def state_template(self) -> HificState:
        """Shapes, types and shardings of the state."""
        return self._template

    @functools.cached_property
    def _template(self) -> HificState:
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
        """Updates without discriminator, then with it for the last part (adversarial_share) of the run."""
        adversarial_steps = round(self.config.hific.adversarial_share * num_steps)
        stages = num_steps - adversarial_steps, adversarial_steps
        target = rate_target(self.config, num_steps)
        optimizers = _make_optimizers(self.config, stages)
        weights, distance = losses.HYPERPRIOR, None
        if self.lpips is not None:
            weights = losses.FIRST_STAGE
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
        if means["mse_over_plain"] > _DIVERGED_MSE_RATIO:
            raise DivergedError(
                f"the stage with discriminator has diverged: the squared error is"
                f" {means['mse_over_plain']:.1f} times that of the stage before; {fix}"
            )
        if means["discriminator_loss"] < _DIVERGED_DISCRIMINATOR_LOSS:
            raise DivergedError(
                "the stage with discriminator has diverged: it tells all reconstructions apart (loss"
                f" {means['discriminator_loss']:.2g}) and teaches no more; {fix}"
            )
        return f"{summary}, discriminator {means['discriminator_loss']:.3f}"

    def make_validation(self) -> Callable[[HificState], Validation]:
        """Measures estimated rate, PSNR and, for HiFiC, LPIPS; shows originals above reconstructions."""
        source = open_source(self.config, "eval")
        split, whole = sharding.split_batch(self.mesh), sharding.replicated(self.mesh)
        measure = jax.jit(self._measure, in_shardings=(None, split), out_shardings=whole)
        reconstruct = jax.jit(self._reconstruct, in_shardings=(None, whole), out_shardings=whole)
        first = np.stack([source[i] for i in range(min(_SHOWN_IMAGES, len(source)))])
        target = self.config.hific.target_bpp

        def evaluate(state: HificState) -> Validation:
            params = sharding.gather(self.mesh, state.params["autoencoder"])
            images = per_image(
                lambda batch: jax.device_get(measure(params, batch["image"])),
                source,
                self.config.eval.batch_size,
                self.mesh,
                self.config.train.eval_images,
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
        """Not supported: these networks are trained for a given number of steps."""
        del state, num_steps
        raise UsageError(f"must be 0 for {self.config.model.name}", field="train.max_seconds")

    def export(
        self, state: HificState, _: Callable[[HificState], Validation]
    ) -> tuple[PyTree, dict[str, Any]]:
        """The parameters of the autoencoder, and what the card says of the training."""
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
        InputError: HiFiC without the weights of LPIPS, or without CPUs, which its files will need.
    """
    host_cpu()
    return HificTask(
        config=config,
        mesh=sharding.make_mesh(**config.mesh),
        model=Hific(build_architecture(config.model.to_dict())),
        lpips=lpips_alex() if config.model.name == HIFIC else None,
    )


def learning_rates(
    config: ConfigDict, stages: tuple[int, int]
) -> tuple[optax.Schedule, optax.Schedule]:
    """Learning rates of the autoencoder, and of the discriminator, which starts with the second stage.

    Each of the stages, so many updates without and with a discriminator, goes through the schedule of
    config.train.
    """
    adversarial = config.train.copy_and_resolve_references()
    adversarial.learning_rate = config.hific.adversarial_learning_rate
    first = learning_rate_schedule(config.train, stages[0])
    second = learning_rate_schedule(adversarial, stages[1])
    return optax.join_schedules([first, second], [stages[0]]), second


def _make_optimizers(config: ConfigDict, stages: tuple[int, int]) -> Optimizers:
    rates = learning_rates(config, stages)
    return Optimizers(*(make_optimizer(config.train, sum(stages), rate) for rate in rates))


def init_state(model: Hific, optimizers: Optimizers, seed: int, adversarial: bool) -> HificState:
    """A fresh state, with a discriminator if there is a stage with one (`adversarial`).

    A pure function, which can be compiled or evaluated abstractly.
    """
    params = {
        "autoencoder": model.init_autoencoder(rng.stream(seed, "init/autoencoder")),
        "discriminator": {},
    }
    spectral: PyTree = {}
    if adversarial:
        key = rng.stream(seed, "init/discriminator")
        params["discriminator"], spectral = model.init_discriminator(key)
    return HificState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state={
            name: getattr(optimizers, name).init(network) for name, network in params.items()
        },
        spectral=spectral,
        plain_mse=jnp.array(jnp.inf, jnp.float32),
    )


def make_train_step(
    model: Hific,
    target: RateTarget,
    weights: LossWeights,
    optimizers: Optimizers,
    seed: int,
    lpips: Distance | None = None,
    mesh: Mesh | None = None,
) -> Callable[[HificState, Pixels], tuple[HificState, Metrics]]:
    """Makes `train_step(state, pixels) -> (state, metrics)`.

    Autoencoder and discriminator move at the same time, on the same images. (The original draws a second
    batch for the discriminator, which costs another forward pass.) Without a weight for the discriminator it
    and its optimiser stay as they are; with one, the state must have a discriminator. `lpips`, a distance of
    images with values in [-1, 1], is needed if its weight is not 0. `mesh` has the devices that the compiled
    step is for, with a state as `sharding.split_parameters` lays it out; None is one device.

    Returns:
        Metrics are `loss`, `bpp` (quantised), `noisy_bpp`, `rate_weight`, `mse` (values 0 to 255),
        `grad_norm` (autoencoder) and, where they are in use, `lpips`, `gan`, `discriminator_loss` and
        `mse_over_plain` (over that of the updates before the discriminator).
    """
    root = rng.stream(seed, "train/hific")

    def train_step(state: HificState, pixels: Pixels) -> tuple[HificState, Metrics]:
        images = pixels.astype(jnp.float32) / 255.0
        key = jax.random.fold_in(root, state.step)
        networks = state.params if mesh is None else sharding.gather(mesh, state.params)
        spectral = state.spectral if mesh is None else sharding.gather(mesh, state.spectral)

        def of_autoencoder(params: Params) -> tuple[Float[Array, ""], tuple[Metrics, Forward]]:
            forward = model.forward(params, images, key)
            fake_logits = None
            if weights.gan:
                # The latent is the condition, not what is judged.
                latents = jax.lax.stop_gradient(forward.latents)
                fake_logits, _ = model.discriminate(
                    networks["discriminator"], spectral, forward.reconstructions, latents
                )
            n_pixels = images.shape[1] * images.shape[2]
            bpp = forward.quantised_bits.mean() / n_pixels
            noisy_bpp = forward.bits.mean() / n_pixels
            rate_weight = target.weight(bpp, state.step)
            loss, terms = autoencoder_loss(
                weights, rate_weight, noisy_bpp, images, forward.reconstructions, lpips, fake_logits
            )
            terms |= {"bpp": bpp, "noisy_bpp": noisy_bpp, "rate_weight": rate_weight}
            return loss, (terms, forward)

        grads: dict[str, Params] = {}
        (loss, (metrics, forward)), grads["autoencoder"] = jax.value_and_grad(
            of_autoencoder, has_aux=True
        )(networks["autoencoder"])
        metrics |= {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        plain_mse = state.plain_mse
        if not weights.gan:
            average = update_ema(plain_mse, metrics["mse"], state.step, _PLAIN_MSE_DECAY)
            plain_mse = jnp.where(state.step == 0, metrics["mse"], average)
        else:
            metrics["mse_over_plain"] = metrics["mse"] / plain_mse

            def of_discriminator(params: Params) -> tuple[Float[Array, ""], PyTree]:
                both = jnp.concatenate([images, forward.reconstructions])
                latents = jnp.concatenate([forward.latents] * 2)
                logits, moved = model.discriminate(params, spectral, both, latents)
                return discriminator_loss(*jnp.split(logits, 2)), moved

            (metrics["discriminator_loss"], spectral), grads["discriminator"] = jax.value_and_grad(
                of_discriminator, has_aux=True
            )(networks["discriminator"])
        params, opt_state = dict(state.params), dict(state.opt_state)
        for name, own in (grads if mesh is None else sharding.scatter(mesh, grads)).items():
            optimizer = getattr(optimizers, name)
            updates, opt_state[name] = optimizer.update(own, opt_state[name], params[name])
            params[name] = optax.apply_updates(params[name], updates)
        return HificState(state.step + 1, params, opt_state, spectral, plain_mse), metrics

    return train_step
