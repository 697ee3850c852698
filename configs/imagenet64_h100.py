r"""Ten minutes on one GPU: a U-Net of 10 M parameters on real ImageNet images at 64x64.

Everything that a stock JAX image needs: images in device memory, eight updates in a dispatch, bfloat16
activations, a limit of wall time within which training, evaluation and export end. Clean images teach all
noise levels; JPEGs teach those at which noise hides what compression did to them. docs/accelerators.md says
how to bring the data to a machine without network, and what was measured.

    python experiments/train.py --config=configs/imagenet64_h100.py --workdir=W \
        --config.data.train[0].path='DATA/hq64*' --config.data.train[1].path='DATA/mini84*' \
        --config.data.train[2].path='DATA/tiny*' --config.data.eval.path=DATA/validation

With images of your own add "--config.eval.subsets=()" (docs/usage.md has the whole command).
`:one_source` trains on the first source alone. `:shipped` evaluates the weights in the repository on 1,000
validation images of hq64 and half of the 500 of ref; distances compare them with the other images there.

    python experiments/reproduce.py --config=configs/imagenet64_h100.py:shipped --workdir=W (the same paths)
"""

from ml_collections import ConfigDict

from diffc_jax.config import (
    base_config,
    check_config_argument,
    set_training_sources,
    shrink_to_smoke,
    source_config,
    training_source,
)


def get_config(argument: str = "") -> ConfigDict:
    """`:one_source` uses clean images only, `:shipped` the weights in the repository; `:smoke` is tiny."""
    check_config_argument(argument, ("one_source", "shipped", "smoke"))
    config = base_config()
    own = {"name": "imagenet64-dev", "resize": "squash", "non_rgb": "convert"}
    if argument == "smoke":
        own = {"source": "photos"}
    else:
        own["source"] = "tar"
    if argument == "one_source":
        config.data.train = source_config(**own)
    else:
        set_training_sources(
            config,
            training_source(0.5, **own),
            # 84-pixel JPEGs, scaled to 64: smoother than what they are used beside.
            training_source(0.15, min_gamma=-5.0, **own),
            # JPEGs of quality 75 at 64x64: noise has ten times the variance of their error from here on.
            training_source(0.35, min_gamma=-3.1, **own),
        )
    config.data.eval = source_config(**{**own, "split": "validation"})
    config.data.placement = "auto"
    config.model = ConfigDict(
        {
            "name": "unet",
            "widths": (48, 192, 320),
            "blocks": (1, 2, 2),
            "dtype": "bfloat16",
            "remat": False,
        }
    )
    config.train.batch_size = 256
    config.train.max_seconds = 540.0
    config.train.steps_per_call = 8
    config.train.optimizer = "muon"
    config.train.learning_rate = 1e-3
    config.train.muon_learning_rate = 6e-3
    config.train.warmup_steps = 300
    config.train.lr_decay = "wsd"
    config.train.decay_fraction = 0.4
    config.train.low_rate_emphasis = 0.5
    config.train.ema_decay = 0.9995
    config.train.second_ema_decay = 0.998
    config.train.log_every_steps = 200
    config.train.eval_every_steps = config.train.checkpoint_every_steps = 4000
    config.train.eval_images = 1000
    config.eval.batch_size = 100
    config.eval.subsets = ("hq64", "ref")
    if argument == "shipped":
        config.data.reference = source_config(source="rest")
        config.model.dtype = "float32"
        config.eval.params = "weights/imagenet64_h100.safetensors"
        config.eval.max_images, config.eval.samples, config.eval.grid_images = 1000, 500, 3
        config.eval.num_levels, config.eval.last_gamma = 11, -6.0
    if argument == "smoke":
        config.data.eval = source_config(split="eval")
        config.model.widths, config.model.blocks = (16, 32), (1, 1)
        shrink_to_smoke(config)
        config.train.steps_per_call = 2
    return config
