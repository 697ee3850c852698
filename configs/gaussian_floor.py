"""The Gaussian baseline: a Gaussian fitted to the built-in photographs, with its exact denoiser.

No figure of the paper; its analysis (section 4) is about such sources. Fitted in seconds by one pass.

    python experiments/train.py --config=configs/gaussian_floor.py --workdir=runs/gaussian
    python experiments/evaluate.py --config=configs/gaussian_floor.py --workdir=runs/gaussian
"""

from ml_collections import ConfigDict

from diffc_jax.config import base_config, check_config_argument, refine_steps, shrink_to_smoke


def get_config(argument: str = "") -> ConfigDict:
    """`:smoke` shrinks the evaluation to seconds."""
    check_config_argument(argument)
    config = base_config()
    config.eval.max_images = 64
    config.eval.features = ""  # distances between sets need more images
    refine_steps(config)
    if argument == "smoke":
        shrink_to_smoke(config)
    return config
