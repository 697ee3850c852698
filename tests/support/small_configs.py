"""Configs of runs that take a second or two."""

import os

from ml_collections import ConfigDict

from diffc_jax.config import base_config

# Fields of config.eval: few steps, and nothing beside rates and PSNRs.
QUICK_EVALUATION = {
    "rate_steps": 6,
    "num_levels": 2,
    "flow_steps": 2,
    "features": "",
    "image_metrics": (),
    "codec_decoders": (),
}


def small_config(
    folder: str | os.PathLike[str] = "", side: int = 8, **evaluation: object
) -> ConfigDict:
    """Trains in batches of 8 on the images of a folder and evaluates them, or else photographs.

    `side` is that of the images in pixels, `evaluation` are fields of config.eval.
    """
    config = base_config()
    config.data.image_size = side
    if folder:
        for source in (config.data.train, config.data.eval):
            source.source, source.path = "folder", str(folder)
    config.train.batch_size = 8
    config.eval.update(evaluation)
    return config
