"""Images of several subsets, and what evaluations of them are configured to do."""

import numpy as np
import PIL.Image

from diffc_jax.config import validate
from tests.support.image_files import smooth_image
from tests.support.small_configs import small_config

SIDE, LEVELS, FEATURES = 16, 2, 6
# Subsets in the order of the config, which is not that of the files; the first 9 of each are evaluated.
FILES = {"big": 11, "small": 9, "unnamed": 3}
SUBSETS, LIMIT = ("small", "big"), 9
RANGES = {"small": range(9), "big": range(9, 18)}
GRID = 3


def configured(folder, **evaluation):
    config = small_config(folder, SIDE)
    for source in (config.data.train, config.data.eval):
        source.name = "corpus"
    config.eval.update({"rate_steps": 30, "rate_evaluations": 10, "num_levels": LEVELS})
    config.eval.update({"first_gamma": -1.0, "last_gamma": -4.0, "flow_steps": 4})
    config.eval.update({"decoders": ("flow", "mean"), "batch_size": 8, "bound_times": 2})
    config.eval.update({"image_metrics": ("ms_ssim",), "grid_images": GRID, "codec_memory": 8})
    config.eval.update({"max_images": LIMIT, "subsets": SUBSETS})
    config.eval.update(evaluation)
    config.baselines.codecs = ("jpeg_420",)
    validate(config)
    return config


def write_images(folder):
    """Smooth random images, coarser in one subset."""
    generator = np.random.default_rng(0)
    for name, count in FILES.items():
        (folder / name).mkdir()
        for i in range(count):
            image = smooth_image(generator, SIDE, coarse=3 if name == "big" else 6)
            image.save(folder / name / f"{i:02}.png")
    return folder


def read_pixels(images):
    """The images that are evaluated, in their order."""
    paths = [images / name / f"{i:02}.png" for name in SUBSETS for i in range(LIMIT)]
    return np.stack([np.asarray(PIL.Image.open(path)) for path in paths])
