"""The state of a training run."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from diffc_jax import rng
from diffc_jax.diffusion.schedules import Schedule
from diffc_jax.models import Model
from diffc_jax.models.gaussian import Statistics
from diffc_jax.models.parameters import init_parameters
from diffc_jax.training.optimizer import fresh_decay


@flax.struct.dataclass
class TrainState:
    """Everything that training changes, and what it needs to go on; or the shapes of all that.

    Attributes:
        step: number of finished updates.
        params: trained; see `models.parameters` for the layout.
        ema: exponential moving average of params; this is what is evaluated.
        opt_state: of the optimiser.
        fixed: what the model was fitted to before training.
        second_ema: another average of params, over more or fewer steps; None if there is none.
        decay: when the learning rate decays in a run with a limit of time, see `optimizer.decay_factor`;
            None in others.
    """

    step: PyTree
    params: PyTree
    ema: PyTree
    opt_state: PyTree
    fixed: PyTree
    second_ema: PyTree = None
    decay: PyTree = None


def init_state(
    model: Model,
    schedule: Schedule,
    optimizer: optax.GradientTransformation,
    seed: int,
    statistics: Statistics | None,
    second_average: bool = False,
    limited_time: bool = False,
) -> TrainState:
    """A fresh state; pure, so that it can be compiled with output shardings or evaluated abstractly."""
    keys = rng.stream(seed, "init/model"), rng.stream(seed, "init/schedule")
    tree = init_parameters(model, schedule, *keys, statistics)
    params = tree["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy: donated buffers must not be shared.
        ema=jax.tree.map(jnp.copy, params),
        opt_state=optimizer.init(params),
        fixed=jax.tree.map(jnp.asarray, tree["fixed"]),
        second_ema=jax.tree.map(jnp.copy, params) if second_average else None,
        decay=fresh_decay() if limited_time else None,
    )


def update_ema(ema: PyTree, params: PyTree, step: Int[Array, ""], decay: float) -> PyTree:
    """Moves the average; it starts quickly, as an average over about the last tenth of the steps."""
    now: Float[Array, ""] = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old + (1.0 - now) * (new - old), ema, params)


def count_parameters(tree: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
