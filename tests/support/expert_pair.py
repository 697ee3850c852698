"""A model of two small networks, and each of them alone, with variables far from their initial values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffc_jax.config import base_config
from diffc_jax.models import build_model

SIDE = 8
SHAPE = (SIDE, SIDE, 3)
SPLIT = -1.5
FIELDS = {
    "fine": {"widths": (8,), "blocks": (1,), "heads": 2, "dropout": 0.5},
    "noisy": {"widths": (4, 8), "blocks": (1, 1), "heads": 1, "dropout": 0.25},
}
MODEL = {"name": "unet_experts", "split_gamma": SPLIT, **FIELDS}
SCHEDULE = {"name": "linear", "gamma_min": -13.3, "gamma_max": 5.0}
GAMMAS = {
    "fine": jnp.array([-12.0, -7.0, -2.0, SPLIT]),
    "noisy": jnp.array([-1.0, 0.0, 2.0, 4.0]),
    "mixed": jnp.array([-7.0, 2.0, SPLIT, -1.0]),
}
Z = jnp.asarray(np.random.default_rng(1).standard_normal((4, *SHAPE)), jnp.float32)


def build(config):
    """The model, compiled."""
    model = build_model(config, SHAPE)
    return dataclasses.replace(
        model, eps_hat=jax.jit(model.eps_hat), train_eps_hat=jax.jit(model.train_eps_hat)
    )


BOTH = build(MODEL)
ALONE = {side: build({"name": "unet", **fields}) for side, fields in FIELDS.items()}


def make_statistics(scale):
    frequency = np.add.outer(np.arange(SIDE) ** 2, np.arange(SIDE) ** 2)[..., np.newaxis]
    return {
        "mean": jnp.full(3, 0.1 * scale),
        "rotation": jnp.eye(3),
        "variances": jnp.asarray(scale / (1 + frequency) * np.ones(3), jnp.float32),
    }


def random_half(side):
    """Variables of one network alone, none at its initial value."""
    statistics = make_statistics({"fine": 4.0, "noisy": 8.0}[side])
    shapes = jax.eval_shape(ALONE[side].init, jax.random.key(0), statistics)
    rng = np.random.default_rng(list(FIELDS).index(side))
    params = jax.tree.map(
        lambda leaf: jnp.asarray(
            rng.standard_normal(leaf.shape) * 0.3 / np.sqrt(leaf.size / leaf.shape[-1]), leaf.dtype
        ),
        shapes["params"],
    )
    return {"params": params, "fixed": statistics}


HALVES = {side: random_half(side) for side in FIELDS}
VARIABLES = {
    name: {side: half[name] for side, half in HALVES.items()} for name in ("params", "fixed")
}


def experts_config():
    config = base_config()
    config.data.image_size = SIDE
    config.model = ConfigDict(MODEL)
    return config
