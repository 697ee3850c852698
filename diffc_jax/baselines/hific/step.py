"""One update of HiFiC: autoencoder and, in the second stage, discriminator from one forward pass."""

import dataclasses
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree, UInt8

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

Pixels = UInt8[Array, "b h w 3"]
Metrics = dict[str, Float[Array, ""]]


@flax.struct.dataclass
class HificState:
    """Everything that training changes, or the shapes of all that.

    Attributes:
        step: number of finished updates.
        params: {"autoencoder": ..., "discriminator": ...}; the latter is empty without one.
        opt_state: of the optimiser of both.
        spectral: state of the discriminator's spectral norms; empty without one.
    """

    step: PyTree
    params: PyTree
    opt_state: PyTree
    spectral: PyTree


def init_state(
    model: Hific,
    optimizer: optax.GradientTransformation,
    seed: int,
    adversarial: bool,
    autoencoder: Params | None = None,
) -> HificState:
    """A fresh state; pure, so that it can be compiled or evaluated abstractly.

    Args:
        model: the networks.
        optimizer: of both.
        seed: of the experiment.
        adversarial: whether there is a discriminator.
        autoencoder: parameters that a first stage ended with; fresh ones if None.
    """
    if autoencoder is None:
        autoencoder = model.init_autoencoder(rng.stream(seed, "init/autoencoder"))
    params = {"autoencoder": autoencoder, "discriminator": {}}
    spectral: PyTree = {}
    if adversarial:
        key = rng.stream(seed, "init/discriminator")
        params["discriminator"], spectral = model.init_discriminator(key)
    return HificState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        spectral=spectral,
    )


def make_train_step(
    model: Hific,
    target: RateTarget,
    weights: LossWeights,
    optimizer: optax.GradientTransformation,
    seed: int,
    lpips: Distance | None = None,
) -> Callable[[HificState, Pixels], tuple[HificState, Metrics]]:
    """Makes `train_step(state, pixels) -> (state, metrics)`.

    Autoencoder and discriminator move at the same time, on the same images. (The original draws a second
    batch for the discriminator, which costs another forward pass.)

    Args:
        model: the networks.
        target: rate to hold.
        weights: of the other terms; the state must have a discriminator if `weights.gan` is not 0.
        optimizer: of both networks, independent for each parameter (Adam, without clipping by a common norm).
        seed: of the noise.
        lpips: distance of images with values in [-1, 1]; needed if its weight is not 0.

    Returns:
        Metrics are `loss`, `bpp` (quantised), `noisy_bpp`, `rate_weight`, `mse` (values 0 to 255),
        `grad_norm` (autoencoder) and, where they are in use, `lpips`, `gan`, `discriminator_loss`.
    """
    root = rng.stream(seed, "train/hific")

    def train_step(state: HificState, pixels: Pixels) -> tuple[HificState, Metrics]:
        images = pixels.astype(jnp.float32) / 255.0
        key = jax.random.fold_in(root, state.step)
        discriminator, spectral = state.params["discriminator"], state.spectral

        def of_autoencoder(params: Params) -> tuple[Float[Array, ""], tuple[Metrics, Forward]]:
            return _autoencoder_terms(params, images, key, state)

        (loss, (metrics, forward)), grads = jax.value_and_grad(of_autoencoder, has_aux=True)(
            state.params["autoencoder"]
        )
        grads = {"autoencoder": grads, "discriminator": {}}
        metrics |= {"loss": loss, "grad_norm": optax.tree.norm(grads)}
        if weights.gan:

            def of_discriminator(params: Params) -> tuple[Float[Array, ""], PyTree]:
                both = jnp.concatenate([images, forward.reconstructions])
                latents = jnp.concatenate([forward.latents] * 2)
                logits, moved = model.discriminate(params, spectral, both, latents)
                return discriminator_loss(*jnp.split(logits, 2)), moved

            (metrics["discriminator_loss"], spectral), grads["discriminator"] = jax.value_and_grad(
                of_discriminator, has_aux=True
            )(discriminator)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        return (
            dataclasses.replace(
                state,
                step=state.step + 1,
                params=optax.apply_updates(state.params, updates),
                opt_state=opt_state,
                spectral=spectral,
            ),
            metrics,
        )

    def _autoencoder_terms(
        params: Params, images: Float[Array, "b h w 3"], key: Key[Array, ""], state: HificState
    ) -> tuple[Float[Array, ""], tuple[Metrics, Forward]]:
        forward = model.forward(params, images, key)
        fake_logits = None
        if weights.gan:
            # The latent is the condition, not what is judged.
            latents = jax.lax.stop_gradient(forward.latents)
            fake_logits, _ = model.discriminate(
                state.params["discriminator"], state.spectral, forward.reconstructions, latents
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

    return train_step
