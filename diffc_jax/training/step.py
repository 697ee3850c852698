"""One update: the negative ELBO in continuous time, its gradients, the optimizer, moving averages."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key, PyTree, UInt8

from diffc_jax import rng
from diffc_jax.diffusion import elbo, process
from diffc_jax.diffusion.schedules import Schedule, gamma_and_slope
from diffc_jax.diffusion.weighting import loss_weight
from diffc_jax.models import Model, model_variables
from diffc_jax.runtime import sharding
from diffc_jax.training.optimizer import decay_factor
from diffc_jax.training.state import TrainState, update_ema

Pixels = UInt8[Array, "b h w c"]
Metrics = dict[str, Float[Array, ""]]

# Parameters of a schedule that move its ends; the others shape it in between.
_END_PARAMETERS = ("start", "range")
_END_STRIDE = 8


@dataclasses.dataclass(frozen=True)
class TimeRanges:
    """At which times the images of a batch are used; see `diffusion.elbo.mixture_times`.

    Attributes:
        counts: images of each source in a batch.
        lowest: time from which on those of each source are used; 0 for all.
        highest: end of the range; 1 for all.
    """

    counts: tuple[int, ...]
    lowest: tuple[float, ...]
    highest: float

    @property
    def reaches_pixels(self) -> bool:
        """Whether the term of the reconstruction belongs to the range."""
        return min(self.lowest) == 0.0

    @property
    def reaches_prior(self) -> bool:
        """Whether the term of the prior belongs to the range."""
        return self.highest == 1.0

    def end_rows(self) -> list[int]:
        """Rows of the batch from which the terms at the ends are estimated."""
        first = np.concatenate([[0], np.cumsum(self.counts)])
        lowest = min(self.lowest)
        rows = [
            row
            for number, low in enumerate(self.lowest)
            if low == lowest
            for row in range(first[number], first[number + 1])
        ]
        return rows[::_END_STRIDE]


def make_train_step(
    model: Model,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    seed: int,
    mesh: Mesh | None = None,
    accumulation_steps: int = 1,
    low_rate_emphasis: float = 0.0,
    ranges: TimeRanges | None = None,
    second_ema_decay: float = 0.0,
) -> Callable[[TrainState, Pixels], tuple[TrainState, Metrics]]:
    """Makes `train_step(state, pixels) -> (state, metrics)`; metrics are terms of the ELBO, in bits/dim.

    A `mesh` is for a state as `sharding.split_parameters` lays it out; None is for one device. Memory for
    activations shrinks with `accumulation_steps`, parts of the batch that go through the network one after
    the other; the update is that of the whole batch (only the masks of dropout are other ones).
    `low_rate_emphasis` is that of `diffusion.weighting.loss_weight`; without `ranges` all images are used at
    all noise levels; `second_ema_decay` is of the second average, if the state has one.
    """
    root = rng.stream(seed, "train/step")

    def split_gradients(grads: PyTree) -> PyTree:
        return grads if mesh is None else sharding.scatter(mesh, grads)

    def train_step(state: TrainState, pixels: Pixels) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(root, state.step)
        params = state.params if mesh is None else sharding.gather(mesh, state.params)
        terms, grads = loss_and_gradients(
            model,
            schedule,
            params,
            state.fixed,
            pixels,
            key,
            accumulation_steps,
            split_gradients,
            low_rate_emphasis,
            ranges,
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        if state.decay is not None:
            factor = decay_factor(state.step, state.decay)
            updates = jax.tree.map(lambda update: factor * update, updates)
        params = optax.apply_updates(state.params, updates)
        metrics = terms | {"grad_norm": optax.tree.norm(grads)}
        ema = update_ema(state.ema, params, state.step, ema_decay)
        second_ema = state.second_ema
        if second_ema is not None:
            second_ema = update_ema(second_ema, params, state.step, second_ema_decay)
        return (
            dataclasses.replace(
                state,
                step=state.step + 1,
                params=params,
                ema=ema,
                opt_state=opt_state,
                second_ema=second_ema,
            ),
            metrics,
        )

    return train_step


class _Part(NamedTuple):
    """Images, noise and noise levels of some images of a batch, weights of terms, and a key for dropout."""

    x: process.Images
    eps: process.Images
    gamma: Float[Array, " b"]
    slope: Float[Array, " b"]
    weight: Float[Array, " b"] | None
    key: Key[Array, ""]


def loss_and_gradients(
    model: Model,
    schedule: Schedule,
    params: PyTree,
    fixed: PyTree,
    pixels: Pixels,
    key: Key[Array, ""],
    accumulation_steps: int = 1,
    split_gradients: Callable[[PyTree], PyTree] = lambda grads: grads,
    low_rate_emphasis: float = 0.0,
    ranges: TimeRanges | None = None,
) -> tuple[Metrics, PyTree]:
    """The negative ELBO of a batch, in bits/dim, and the gradients of what each parameter minimises.

    The network and the ends of the schedule minimise it. In continuous time it does not depend on the
    shape of the schedule between its ends, which minimises the variance of the estimate instead: its
    gradient is that of the squared diffusion terms (VDM, appendix I.2).

    With emphasis on low rates the network minimises a weighted sum of its terms, and the schedule has to
    be fixed. So it has with `ranges`: metrics are then of the part of the ELBO within the noise levels that
    are trained.

    The network sees the batch in `accumulation_steps` parts; `split_gradients` lays out its gradients.
    """
    time_key, noise_key, dropout_key, end_key = jax.random.split(key, 4)
    x = process.pixels_to_unit(pixels)
    dimensions = x[0].size
    weight = None
    if ranges is None:
        times = elbo.stratified_times(time_key, len(x))
    else:
        times, weight = elbo.mixture_times(time_key, *dataclasses.astuple(ranges))
    eps = jax.random.normal(noise_key, x.shape)
    # The terms at the ends hardly vary, and a softmax over 256 values is dear: every eighth image will do.
    end_pixels = pixels[::_END_STRIDE] if ranges is None else pixels[jnp.asarray(ranges.end_rows())]
    eps_0 = jax.random.normal(end_key, end_pixels.shape)

    def diffusion_gradients(part: _Part) -> tuple[Float[Array, " b"], PyTree, tuple[Array, Array]]:
        def terms(network: PyTree, gamma: Array, slope: Array) -> Float[Array, " b"]:
            variables = model_variables({"model": network}, fixed)
            z = process.diffuse(part.x, part.eps, gamma)
            eps_hat = model.train_eps_hat(variables, z, gamma, part.key)
            term = elbo.diffusion_term(part.eps, eps_hat, slope) / dimensions
            return term if part.weight is None else part.weight * term

        diffusion, pull = jax.vjp(terms, params["model"], part.gamma, part.slope)
        grad_network, *grad_times = pull(loss_weight(part.gamma, low_rate_emphasis) / len(x))
        return diffusion, split_gradients(grad_network), tuple(grad_times)

    def end_terms(schedule_params: PyTree) -> tuple[Float[Array, ""], tuple[Array, Array]]:
        ends = (schedule.gamma(schedule_params, jnp.asarray(t)) for t in (0.0, 1.0))
        prior, reconstruction = elbo.end_terms(end_pixels, eps_0, *ends)
        terms = prior.mean() / dimensions, reconstruction.mean() / dimensions
        if ranges is not None:
            terms = terms[0] * ranges.reaches_prior, terms[1] * ranges.reaches_pixels
        return terms[0] + terms[1], terms

    (gamma, slope), pull_schedule = jax.vjp(
        lambda p: gamma_and_slope(schedule, p, times), params["schedule"]
    )
    diffusion, grad_network, grad_times = _accumulate(
        diffusion_gradients,
        split_gradients(params["model"]),
        _Part(x, eps, gamma, slope, weight, dropout_key),
        accumulation_steps,
    )
    grad_ends, (prior, reconstruction) = jax.grad(end_terms, has_aux=True)(params["schedule"])
    grad_schedule = jax.tree.map(jnp.add, pull_schedule(grad_times)[0], grad_ends)
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


def _accumulate(
    gradients: Callable[[_Part], tuple[Any, PyTree, Any]], params: PyTree, batch: _Part, count: int
) -> tuple[Any, PyTree, Any]:
    """Per-image results and summed gradients, laid out like `params`, of a batch in `count` parts."""
    if count == 1:
        return gradients(batch)

    # Every count-th image, so that the parts of a batch lie on all devices, as the batch does.
    def divide(array: Array) -> Array:
        return array.reshape(-1, count, *array.shape[1:]).swapaxes(0, 1)

    def join(array: Array) -> Array:
        return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])

    *images, key = batch
    parts = _Part._make((*jax.tree.map(divide, images), jax.random.split(key, count)))

    def add(total: PyTree, part: _Part) -> tuple[PyTree, Any]:
        values, grads, grad_times = gradients(part)
        return jax.tree.map(jnp.add, total, grads), (values, grad_times)

    total, results = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), parts)
    values, grad_times = jax.tree.map(join, results)
    return values, total, grad_times
