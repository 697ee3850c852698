"""One update of HiFiC: autoencoder and, in the second stage, discriminator from one forward pass."""

from collections.abc import Callable
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8

from diffc_jax import rng
from diffc_jax.baselines.hific.autoencoder import Forward
from diffc_jax.baselines.hific.losses import (
    Distance,
    LossWeights,
    RateTarget,
    autoencoder_loss,
    discriminator_loss,
)
from diffc_jax.baselines.hific.model import Hific, Params
from diffc_jax.runtime import sharding
from diffc_jax.training.state import update_ema

Pixels = UInt8[Array, "b h w 3"]
Metrics = dict[str, Float[Array, ""]]

_PLAIN_MSE_DECAY = 0.99


@flax.struct.dataclass
class HificState:
    """Everything that training changes, or the shapes of all that.

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
    """Of the two networks, each of which has counters and gradient norms of its own."""

    autoencoder: optax.GradientTransformation
    discriminator: optax.GradientTransformation


def init_state(model: Hific, optimizers: Optimizers, seed: int, adversarial: bool) -> HificState:
    """A fresh state; pure, so that it can be compiled or evaluated abstractly.

    Args:
        model: the networks.
        optimizers: of both.
        seed: of the experiment.
        adversarial: whether there is a discriminator, now or in a later stage.
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
    and its optimiser stay as they are.

    Args:
        model: the networks.
        target: rate to hold.
        weights: of the other terms; the state must have a discriminator if `weights.gan` is not 0.
        optimizers: of both networks.
        seed: of the noise.
        lpips: distance of images with values in [-1, 1]; needed if its weight is not 0.
        mesh: the devices that the compiled step is for, with a state as `sharding.split_parameters` lays
            it out; None for one device.

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
            return autoencoder_terms(
                {"autoencoder": params, "discriminator": networks["discriminator"]},
                spectral,
                images,
                key,
                state.step,
            )

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

    def autoencoder_terms(
        networks: dict[str, Params],
        spectral: PyTree,
        images: Float[Array, "b h w 3"],
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[Float[Array, ""], tuple[Metrics, Forward]]:
        forward = model.forward(networks["autoencoder"], images, key)
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
        rate_weight = target.weight(bpp, step)
        loss, terms = autoencoder_loss(
            weights, rate_weight, noisy_bpp, images, forward.reconstructions, lpips, fake_logits
        )
        terms |= {"bpp": bpp, "noisy_bpp": noisy_bpp, "rate_weight": rate_weight}
        return loss, (terms, forward)

    return train_step
