"""The state of a training run, and its optimiser."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree
from ml_collections import ConfigDict

from diffc_jax import rng
from diffc_jax.diffusion.schedules import Schedule
from diffc_jax.models import Model, Variables
from diffc_jax.models.gaussian import Statistics


@flax.struct.dataclass
class TrainState:
    """Everything that training changes, and what it needs to go on; or the shapes of all that.

    Attributes:
        step: number of finished updates.
        params: trained: {"model": ..., "schedule": ...}.
        ema: exponential moving average of params; this is what is evaluated.
        opt_state: of the optimiser.
        fixed: what the model was fitted to before training ("fixed" of its variables).
    """

    step: PyTree
    params: PyTree
    ema: PyTree
    opt_state: PyTree
    fixed: PyTree


def model_variables(params: PyTree, fixed: PyTree) -> Variables:
    """The variables that a model's eps_hat takes."""
    return {"params": params["model"], "fixed": fixed}


def learning_rate_schedule(train: ConfigDict, num_steps: int) -> optax.Schedule:
    """Linear warm-up, then constant, or a tenth in the second half, or decaying to zero at num_steps."""
    peak, warmup = train.learning_rate, min(train.warmup_steps, num_steps)
    rest = max(num_steps - warmup, 1)
    after = {
        "constant": optax.constant_schedule(peak),
        "drop": optax.piecewise_constant_schedule(peak, {rest // 2: 0.1}),
        "cosine": optax.cosine_decay_schedule(peak, rest),
        "linear": optax.linear_schedule(peak, 0.0, rest),
    }[train.lr_decay]
    # The first update already moves: warm-up starts at peak / warmup, not at zero.
    rising = optax.linear_schedule(peak / max(warmup, 1), peak, max(warmup - 1, 1))
    return optax.join_schedules([rising, after], [warmup])


def make_optimizer(
    train: ConfigDict, learning_rate: optax.Schedule
) -> optax.GradientTransformation:
    """AdamW behind clipping of the global gradient norm."""
    return optax.chain(
        optax.clip_by_global_norm(train.clip_norm),
        optax.adamw(learning_rate, b2=train.beta2, weight_decay=train.weight_decay),
    )


def init_state(
    model: Model,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    seed: int,
    statistics: Statistics | None,
) -> TrainState:
    """A fresh state; pure, so that it can be compiled with output shardings or evaluated abstractly."""
    variables = model.init(rng.stream(seed, "init/model"), statistics)
    params = {
        "model": variables.get("params", {}),
        "schedule": schedule.init(rng.stream(seed, "init/schedule")),
    }
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy: donated buffers must not be shared.
        ema=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        fixed=jax.tree.map(jnp.asarray, variables.get("fixed", {})),
    )


def update_ema(ema: PyTree, params: PyTree, step: Int[Array, ""], decay: float) -> PyTree:
    """Moves the average; it starts quickly, as an average over about the last tenth of the steps."""
    now: Float[Array, ""] = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old + (1.0 - now) * (new - old), ema, params)


def count_parameters(tree: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
