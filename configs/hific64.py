r"""HiFiC (Mentzer et al. 2020) with the paper's widths on ImageNet 64x64.

Two stages in one run: 1 M updates on rate, squared error and LPIPS, then 1 M with a discriminator; each has
Adam at 1e-4 and a tenth of it in its second half. Three down-samplings instead of four, because rates at
64x64 are higher than those of large photographs. Nobody has run this beyond `:smoke`; what was measured is
`configs/hific64_small.py`.

    python experiments/train.py --config=configs/hific64.py:0.5bpp --workdir=W \
        --config.data.train.path=DATA --config.data.eval.path=DATA
    python experiments/evaluate.py --config=configs/hific64.py:0.5bpp --workdir=W \
        --config.data.train.path=DATA --config.data.eval.path=DATA

The argument is a target rate, `hyperprior` for the same autoencoder with squared error alone, `smoke`, or
several of them, as in `:0.5bpp,hyperprior`.
"""

from ml_collections import ConfigDict

from diffc_jax.baselines.hific.config import hific_config
from diffc_jax.config import source_config


def get_config(argument: str = "") -> ConfigDict:
    """`:smoke` is a tiny run on the built-in photographs."""
    config = hific_config(argument, width=1.0, residual_blocks=9)
    if "smoke" not in argument:
        config.data.train = source_config(source="tfds", name="imagenet_resized/64x64")
        config.data.eval = source_config(
            source="tfds", name="imagenet_resized/64x64", split="validation"
        )
        config.train.batch_size = 16
        config.train.num_steps = 2_000_000
        config.train.eval_every_steps = config.train.checkpoint_every_steps = 10_000
        config.train.eval_images = 5000
        config.eval.max_images = 10_000
    return config
