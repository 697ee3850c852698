"""What training a fitted Gaussian leaves: the smallest model that codes files."""

import pathlib

import jax
import numpy as np

from diffc_jax.diffusion.schedules import build_schedule
from diffc_jax.runtime.export import export_params

SIDE = 8
SCHEDULE = {"name": "linear", "gamma_min": -13.3, "gamma_max": 5.0}


def export_model(folder: pathlib.Path, level: float) -> pathlib.Path:
    """Writes params.safetensors and its card, of images of `SIDE` pixels with this mean level."""
    frequency = np.add.outer(np.arange(SIDE) ** 2, np.arange(SIDE) ** 2)[..., np.newaxis]
    fixed = {
        "mean": np.full(3, level, np.float32),
        "rotation": np.eye(3, dtype=np.float32),
        "variances": (8 / (1 + frequency) ** 1.5 * np.ones(3)).astype(np.float32),
    }
    schedule = build_schedule(**SCHEDULE).init(jax.random.key(0))
    tree = {"params": {"model": {}, "schedule": schedule}, "fixed": fixed}
    card = {"model": {"name": "gaussian"}, "schedule": SCHEDULE, "image_size": SIDE}
    export_params(folder / "params.safetensors", tree, card)
    return folder
