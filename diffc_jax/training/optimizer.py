"""Optimisers, and learning rates over the steps of a run."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jaxtyping import Array, Float, Int, PyTree
from ml_collections import ConfigDict

# Iterations of Newton-Schulz that bring a matrix near the nearest orthogonal one, and the root mean square
# of Muon's updates, that of AdamW's (Liu et al. 2025, arXiv 2502.16982).
_NEWTON_SCHULZ_STEPS = 5
_UPDATE_RMS = 0.2
# The first and the last layer of a network, which are left to AdamW (Jordan et al. 2024): ours, and those of
# networks with OpenAI's names and with those of diffusers.
_FIRST_AND_LAST = ("stem", "head", "input_blocks.0.0", "out.2", "conv_in", "conv_out")


def make_optimizer(
    train: ConfigDict, num_steps: int, learning_rate: optax.Schedule | None = None
) -> optax.GradientTransformation:
    """What config.train.optimizer names, behind clipping of the global gradient norm.

    AdamW has all parameters. Muon has the matrices and the kernels of convolutions, seen as matrices from all
    their inputs to their outputs, and leaves the rest to AdamW (that of optax.contrib, with Nesterov's
    momentum). `learning_rate` is that of AdamW; None for `learning_rate_schedule`.
    """
    clip = optax.clip_by_global_norm(train.clip_norm)
    if learning_rate is None:
        learning_rate = learning_rate_schedule(train, num_steps)
    if train.optimizer == "adamw":
        return optax.chain(
            clip, optax.adamw(learning_rate, b2=train.beta2, weight_decay=train.weight_decay)
        )
    return optax.chain(
        clip,
        optax.contrib.muon(
            learning_rate_schedule(train, num_steps, train.muon_learning_rate),
            ns_steps=_NEWTON_SCHULZ_STEPS,
            weight_decay=train.weight_decay,
            adam_b2=train.beta2,
            adam_weight_decay=train.weight_decay,
            adam_learning_rate=learning_rate,
            muon_weight_dimension_numbers=_matrices,
            consistent_rms=_UPDATE_RMS,
        ),
    )


def learning_rate_schedule(
    train: ConfigDict, num_steps: int, peak: float | None = None
) -> optax.Schedule:
    """Linear warm-up to `peak` (None: train.learning_rate), then what config.train.lr_decay says.

    It does not decay if `num_steps` is 0, the number of a run whose end is not known yet. A decay begins when
    the warm-up is over, if it would begin before.
    """
    peak = train.learning_rate if peak is None else peak
    warmup = min(train.warmup_steps, num_steps) if num_steps else train.warmup_steps
    rest = max(num_steps - warmup, 1)
    decay_steps = min(round(train.decay_fraction * num_steps), rest)
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "drop": lambda: optax.piecewise_constant_schedule(peak, {rest // 2: 0.1}),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest),
        "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
        "wsd": lambda: optax.linear_schedule(peak, 0.0, decay_steps, rest - decay_steps),
    }["constant" if num_steps == 0 else train.lr_decay]()
    # The first update already moves: warm-up starts at peak / warmup, not at zero.
    rising = optax.linear_schedule(peak / max(warmup, 1), peak, max(warmup - 1, 1))
    return optax.join_schedules([rising, after], [warmup])


def _matrices(params: PyTree) -> PyTree:
    """Which axes of a kernel are inputs and outputs; None for what is no matrix."""

    def axes(
        path: tuple[Any, ...], leaf: Array | jax.ShapeDtypeStruct
    ) -> optax.contrib.MuonDimensionNumbers | None:
        names = [getattr(key, "key", "") for key in path]
        if leaf.ndim < 2 or names[-1] != "kernel" or set(names) & set(_FIRST_AND_LAST):
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, params)


def decay_factor(step: Int[Array, ""], decay: PyTree) -> Float[Array, ""]:
    """Factor of the learning rate after `step` updates of a run whose decay begins near its end.

    `decay` is {"start": step at which it begins, "length": its steps}; see `fresh_decay`.
    """
    left = (decay["start"] + decay["length"] - step) / jnp.maximum(decay["length"], 1)
    return jnp.clip(left, 0.0, 1.0)


def fresh_decay() -> PyTree:
    """A decay that has not begun: it starts at the largest step that there is."""
    return {"start": jnp.asarray(2**30, jnp.int32), "length": jnp.zeros((), jnp.int32)}
