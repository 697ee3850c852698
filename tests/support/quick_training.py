"""Runs of the training loop that take a second: a network of one layer, and no samples to look at."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from diffc_jax.config import base_config, validate
from diffc_jax.models import Model
from diffc_jax.training.diffusion_task import DiffusionTask, build_diffusion_task
from diffc_jax.training.task import Validation

SIDE, IMAGES = 8, 24


def quick_config(**train) -> ConfigDict:
    """Photographs of 8x8 pixels in batches of 8; `train` are fields of config.train."""
    config = base_config()
    config.data.image_size = SIDE
    config.data.train.max_images = config.data.eval.max_images = IMAGES
    defaults = {"batch_size": 8, "warmup_steps": 0, "learning_rate": 1e-2, "ema_decay": 0.9}
    config.train.update(defaults | {"log_every_steps": 4} | train)
    validate(config)
    return config


def one_layer() -> Model:
    """Mixes the colours of each pixel and its neighbours to the left, so that it sees which way is left."""

    def init(key, statistics):
        del statistics
        kernel = 0.1 * jax.random.normal(key, (2, 3, 3))
        return {"params": {"layer": {"kernel": kernel, "bias": jnp.zeros(3)}}}

    def eps_hat(variables, z, gamma):
        layer = variables["params"]["layer"]
        kernel = layer["kernel"]
        mixed = z @ kernel[0] + jnp.roll(z, 1, axis=2) @ kernel[1]
        return mixed * jax.nn.sigmoid(gamma).reshape(-1, 1, 1, 1) + layer["bias"].reshape(
            1, 1, 1, 3
        )

    return Model(
        name="one_layer",
        init=init,
        eps_hat=eps_hat,
        train_eps_hat=lambda variables, z, gamma, key: eps_hat(variables, z, gamma),
    )


@dataclasses.dataclass(frozen=True)
class QuickTask(DiffusionTask):
    """Trains `one_layer`; its validation loss is the distance of the averaged bias from `best_bias`."""

    best_bias: float = 0.0

    def make_validation(self):
        """Nothing to compile."""

        def evaluate(state):
            bias = np.asarray(state.ema["model"]["layer"]["bias"])
            loss = float(np.abs(bias - self.best_bias).mean())
            return Validation({"bits_per_dim": loss}, f"{loss}", np.zeros((8, 8, 3), np.uint8))

        return evaluate


def quick_task(config: ConfigDict, devices: int = 1, **fields) -> QuickTask:
    """On the first `devices` of the simulated ones."""
    count = jax.device_count
    try:
        jax.device_count = lambda: devices
        built = vars(build_diffusion_task(config))
    finally:
        jax.device_count = count
    kept = {name: built[name] for name in ("config", "mesh", "schedule")}
    return QuickTask(**kept, model=one_layer(), **fields)
