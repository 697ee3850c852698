r"""DiffC with networks of Hugging Face diffusers (`UNet2DModel`): no training, two commands.

Without an argument it is google/ddpm-cifar10-32 (Ho et al. 2020); `:256` is google/ddpm-ema-celebahq-256,
ddpm-ema-church-256 and ddpm-ema-bedroom-256, which differ in their weights only. Nobody has run this config
on the real files; `:smoke` runs all of its parts on a small network.

    python scripts/convert.py --config=configs/diffusers_converted.py:256 --workdir=W --input=FOLDER
    python experiments/evaluate.py --config=configs/diffusers_converted.py:256 --workdir=W \
        --config.eval.params=W/params.safetensors --config.data.eval.path=IMAGES

FOLDER is that of a pipeline. For a network of your own the first command says which flags both commands need;
docs/converted.md says what a network may be.
"""

from ml_collections import ConfigDict

from diffc_jax.config import base_config, check_config_argument, shrink_to_smoke, source_config


def get_config(argument: str = "") -> ConfigDict:
    """`:256` is for images of 256x256 in folders, `:smoke` a small network on the built-in photographs."""
    check_config_argument(argument, ("smoke", "256"))
    config = base_config()
    config.data.image_size = 32
    config.data.eval = source_config(source="tfds", name="cifar10", split="test")
    config.model = ConfigDict(
        {
            "name": "diffusers_unet",
            "widths": (128, 256, 256, 256),
            "blocks": 2,
            "attention": (16,),
            "head_channels": 0,
            "groups": 32,
            "epsilon": 1e-6,
            "pad_both_sides": False,
            "sines_first": True,
            "frequency_shift": 1,
            "centre_input": False,
            "learned_variance": False,
            "prediction": "eps",
            "betas": "linear",
            "beta_start": 1e-4,
            "beta_end": 0.02,
            "steps": 1000,
            "dtype": "float32",
        }
    )
    # From the least noise that the network has seen almost to the most.
    config.schedule.gamma_min, config.schedule.gamma_max = -9.21, 10.0
    if argument == "256":
        config.data.image_size = 256
        config.data.eval = source_config(
            source="folder", name="images256", split="eval", resize="crop"
        )
        config.model.widths = (128, 128, 256, 256, 512, 512)
        config.eval.batch_size = 8
        config.eval.codec_decoders = ()  # files of so many pixels are a job of their own
    if argument == "smoke":
        config.data.eval = source_config(split="eval")
        config.model.widths, config.model.attention, config.model.blocks = (32, 64), (8,), 1
        shrink_to_smoke(config)
    return config
