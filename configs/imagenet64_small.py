r"""A U-Net for hours on two CPU cores, on real ImageNet images at 64x64; its weights are in the repository.

The paper's experiment at our scale: 5.8 M parameters, 0.7 M images seen in 22,000 steps of 32 (docs/speed.md
has the speed). The data are tar shards of images at 64x64, or larger ones, which are squashed; they are not
the official variants of ImageNet 64x64, and results carry their own name. Only validation images whose paths
have the word hq64 or ref are evaluated, each subset also for itself; with images of your own add
"--config.eval.subsets=()". docs/training_log.md says what was tried, docs/reproduction.md what it shows.

    python experiments/train.py --config=configs/imagenet64_small.py --workdir=W \
        --config.data.train.path='DATA/train/*.tar' --config.data.eval.path='DATA/validation/*.tar'

or, without training:

    python experiments/reproduce.py --config=configs/imagenet64_small.py:shipped --workdir=W (the same paths)
"""

from ml_collections import ConfigDict

from diffc_jax.config import base_config, check_config_argument, shrink_to_smoke, source_config


def get_config(argument: str = "") -> ConfigDict:
    """`:shipped` evaluates the weights in the repository; `:smoke` is a tiny run on built-in photographs."""
    check_config_argument(argument, ("shipped", "smoke"))
    config = base_config()
    config.data.train = source_config(
        source="tar", name="imagenet64-dev", resize="squash", non_rgb="convert"
    )
    config.data.eval = source_config(
        source="tar", name="imagenet64-dev", split="validation", resize="squash", non_rgb="convert"
    )
    config.model = ConfigDict(
        {
            "name": "unet",
            "widths": (48, 128, 256),
            "blocks": (1, 1, 2),
            "dtype": "float32",
            "remat": False,
        }
    )
    config.train.batch_size = 32
    config.train.num_steps = 22_000
    config.train.learning_rate = 1e-3
    config.train.lr_decay = "cosine"
    config.train.low_rate_emphasis = 0.5
    config.train.ema_decay = 0.9995
    config.train.eval_every_steps = config.train.checkpoint_every_steps = 1000
    config.train.eval_images = 1000
    config.eval.max_images = 500
    config.eval.subsets = ("hq64", "ref")
    config.baselines.targets = (0.4, 0.8, 1.6)
    config.baselines.published = ("imagenet64-chrabaszcz",)
    if argument == "shipped":
        config.eval.params = "weights/imagenet64_small.safetensors"
    if argument == "smoke":
        config.data.train, config.data.eval = source_config(), source_config(split="eval")
        shrink_to_smoke(config)
    return config
