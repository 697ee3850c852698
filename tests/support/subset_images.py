"""Images of several subsets, and what evaluations of them are configured to do."""

import jax.numpy as jnp
import numpy as np
import PIL.Image

from diffc_jax.config import base_config, validate
from diffc_jax.metrics.features.extract import FeatureNetwork

SIDE, LEVELS = 16, 2
# Subsets in the order of the config, which is not that of the files; the first 9 of each are evaluated.
FILES = {"big": 11, "small": 9, "unnamed": 3}
SUBSETS, LIMIT = ("small", "big"), 9
RANGES = {"small": range(9), "big": range(9, 18)}
GRID = 3


def configured(folder, **evaluation):
    config = base_config()
    config.data.image_size = SIDE
    for source in (config.data.train, config.data.eval):
        source.source, source.path, source.name = "folder", str(folder), "pictures"
    config.eval.update({"rate_steps": 30, "rate_evaluations": 10, "num_levels": LEVELS})
    config.eval.update({"first_gamma": -1.0, "last_gamma": -4.0, "flow_steps": 4})
    config.eval.update({"decoders": ("flow", "mean"), "batch_size": 8, "bound_times": 2})
    config.eval.update({"image_metrics": ("ms_ssim",), "grid_images": GRID, "codec_memory": 4})
    config.eval.update({"max_images": LIMIT, "subsets": SUBSETS})
    config.eval.update(evaluation)
    config.baselines.codecs = ("jpeg_420",)
    validate(config)
    return config


def small_network():
    """Stands in for the real feature network, which has tests of its own and takes its time."""
    weights = np.random.default_rng(1).normal(size=(4 * 4 * 3, 6)).astype(np.float32)

    def apply(variables, images):
        pooled = images.astype(jnp.float32).reshape(len(images), 4, 4, 4, 4, 3).mean((2, 4)) / 255
        return jnp.tanh(pooled.reshape(len(images), -1) @ variables["weights"] / 4)

    return FeatureNetwork("efficientnet_lite0", 6, apply, {"weights": weights})


def write_images(folder):
    """Smooth random pictures, coarser in one subset."""
    generator = np.random.default_rng(0)
    for name, count in FILES.items():
        (folder / name).mkdir()
        for i in range(count):
            size = (3 if name == "big" else 6,) * 2
            coarse = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
            picture = PIL.Image.fromarray(coarse).resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC)
            picture.save(folder / name / f"{i:02}.png")
    return folder


def read_pixels(images):
    """The images that are evaluated, in their order."""
    paths = [images / name / f"{i:02}.png" for name in SUBSETS for i in range(LIMIT)]
    return np.stack([np.asarray(PIL.Image.open(path)) for path in paths])
