r"""HiFiC for half an hour on two CPU cores, on the images of `configs/imagenet64_small.py`.

A quarter of the paper's channels, half of its latent channels, and one of its nine residual blocks: the best
of the shapes that were tried (docs/hific.md). One run is one rate; the baseline is a curve of several, with
and without `hyperprior`, and longer runs are better (`--config.train.num_steps=75000` takes two hours):

    python experiments/train.py --config=configs/hific64_small.py:0.8bpp --workdir=W \
        --config.data.train.path='DATA/train/*.tar' --config.data.eval.path='DATA/validation/*.tar'
    python experiments/evaluate.py --config=configs/hific64_small.py:0.8bpp --workdir=W \
        --config.data.train.path='DATA/train/*.tar' --config.data.eval.path='DATA/validation/*.tar'

The argument is that of `configs/hific64.py`. `experiments/reproduce.py` trains such networks at the rates in
config.baselines.targets.
"""

from ml_collections import ConfigDict

from diffc_jax.baselines.hific.config import small_config
from diffc_jax.config import source_config


def get_config(argument: str = "") -> ConfigDict:
    """`:smoke` is a tiny run on the built-in photographs."""
    config = small_config(argument)
    if "smoke" not in argument:
        config.data.train = source_config(
            source="tar", name="imagenet64-dev", resize="squash", non_rgb="convert"
        )
        config.data.eval = source_config(
            source="tar",
            name="imagenet64-dev",
            split="validation",
            resize="squash",
            non_rgb="convert",
        )
        config.eval.max_images = 500
    return config
