"""One update: the variational bound in continuous time, its gradients, AdamW and the moving average."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, PyTree, UInt8

from diffc_jax import rng
from diffc_jax.diffusion import bound, process
from diffc_jax.diffusion.schedules import Schedule, gamma_and_slope
from diffc_jax.models import Model
from diffc_jax.training.state import TrainState, model_variables, update_ema

Pixels = UInt8[Array, "b h w c"]
Metrics = dict[str, Float[Array, ""]]

# Parameters of a schedule that move its ends; the others shape it in between.
_END_PARAMETERS = ("start", "range")
_END_STRIDE = 8


def make_train_step(
    model: Model,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    seed: int,
) -> Callable[[TrainState, Pixels], tuple[TrainState, Metrics]]:
    """Makes `train_step(state, pixels) -> (state, metrics)`; metrics are in bits per dimension."""
    root = rng.stream(seed, "train/step")

    def train_step(state: TrainState, pixels: Pixels) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(root, state.step)
        terms, grads = loss_and_gradients(model, schedule, state.params, state.fixed, pixels, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = terms | {"grad_norm": optax.tree.norm(grads)}
        ema = update_ema(state.ema, params, state.step, ema_decay)
        return (
            dataclasses.replace(
                state, step=state.step + 1, params=params, ema=ema, opt_state=opt_state
            ),
            metrics,
        )

    return train_step


def loss_and_gradients(
    model: Model,
    schedule: Schedule,
    params: PyTree,
    fixed: PyTree,
    pixels: Pixels,
    key: Key[Array, ""],
) -> tuple[Metrics, PyTree]:
    """The bound over a batch, in bits per dimension, and the gradients of what each parameter minimises.

    The network and the ends of the schedule minimise the bound. In continuous time the bound does not
    depend on the shape of the schedule between its ends, which minimises the variance of the estimate
    instead: its gradient is that of the squared diffusion terms (VDM, appendix I.2).
    """
    time_key, noise_key, dropout_key, end_key = jax.random.split(key, 4)
    x = process.pixels_to_unit(pixels)
    dimensions = x[0].size
    times = bound.stratified_times(time_key, len(x))
    eps = jax.random.normal(noise_key, x.shape)
    # The terms at the ends hardly vary, and a softmax over 256 values is dear: every eighth image will do.
    end_pixels = pixels[::_END_STRIDE]
    eps_0 = jax.random.normal(end_key, end_pixels.shape)

    def diffusion_terms(
        network: PyTree, gamma: Float[Array, " b"], slope: Float[Array, " b"]
    ) -> Float[Array, " b"]:
        variables = model_variables({"model": network}, fixed)
        z = process.diffuse(x, eps, gamma)
        eps_hat = model.train_eps_hat(variables, z, gamma, dropout_key)
        return bound.diffusion_term(eps, eps_hat, slope) / dimensions

    def end_terms(schedule_params: PyTree) -> tuple[Float[Array, ""], tuple[Array, Array]]:
        ends = (schedule.gamma(schedule_params, jnp.asarray(t)) for t in (0.0, 1.0))
        prior, reconstruction = bound.end_terms(end_pixels, eps_0, *ends)
        terms = prior.mean() / dimensions, reconstruction.mean() / dimensions
        return terms[0] + terms[1], terms

    (gamma, slope), pull_schedule = jax.vjp(
        lambda p: gamma_and_slope(schedule, p, times), params["schedule"]
    )
    diffusion, pull_diffusion = jax.vjp(diffusion_terms, params["model"], gamma, slope)
    grad_network, *grad_times = pull_diffusion(jnp.full_like(diffusion, 1.0 / len(x)))
    grad_ends, (prior, reconstruction) = jax.grad(end_terms, has_aux=True)(params["schedule"])
    grad_schedule = jax.tree.map(jnp.add, pull_schedule(tuple(grad_times))[0], grad_ends)
    if schedule_shape := set(params["schedule"]) - set(_END_PARAMETERS):
        (grad_variance,) = pull_schedule(tuple(2.0 * diffusion * grad for grad in grad_times))
        grad_schedule |= {name: grad_variance[name] for name in schedule_shape}

    diffusion_mean = diffusion.mean()
    terms = {
        "loss": prior + diffusion_mean + reconstruction,
        "diffusion": diffusion_mean,
        "prior": prior,
        "reconstruction": reconstruction,
    }
    return terms, {"model": grad_network, "schedule": grad_schedule}
