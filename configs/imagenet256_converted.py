r"""DiffC on ImageNet 256x256 with published weights of guided-diffusion: no training, two commands.

The unconditional U-Net of "Diffusion Models Beat GANs on Image Synthesis" (Dhariwal & Nichol 2021), 552.8 M
parameters; the README of github.com/openai/guided-diffusion links it, `256x256_diffusion_uncond.pt`. Those of
LSUN there (`lsun_bedroom.pt`, `lsun_cat.pt`, `lsun_horse.pt`) have the same shape. Nobody has run this config
on them; `:smoke` runs all of its parts on a small network.

    python scripts/convert.py --config=configs/imagenet256_converted.py --workdir=W \
        --input=256x256_diffusion_uncond.pt
    python experiments/evaluate.py --config=configs/imagenet256_converted.py --workdir=W \
        --config.eval.params=W/params.safetensors --config.data.eval.path=FOLDER

FOLDER has the validation images, of which the central squares are shrunk to 256x256. The sweep needs an
accelerator.
"""

from ml_collections import ConfigDict

from diffc_jax.config import base_config, check_config_argument, shrink_to_smoke, source_config


def get_config(argument: str = "") -> ConfigDict:
    """`:smoke` is a small network on the built-in photographs."""
    check_config_argument(argument)
    config = base_config()
    config.data.image_size = 256
    config.data.eval = source_config(
        source="folder", name="imagenet256", split="validation", resize="crop"
    )
    config.model = ConfigDict(
        {
            "name": "guided_diffusion",
            "width": 256,
            "multipliers": (1, 1, 2, 2, 4, 4),
            "blocks": 2,
            "attention": (32, 16, 8),
            "head_channels": 64,
            "heads_last": False,
            "dtype": "float32",
        }
    )
    # From the least noise that the network has seen almost to the most.
    config.schedule.gamma_min, config.schedule.gamma_max = -9.21, 10.0
    config.eval.batch_size = 8
    config.eval.max_images = 1000
    config.eval.codec_decoders = ()  # files of so many pixels are a job of their own
    if argument == "smoke":
        config.data.eval = source_config(split="eval")
        config.model.width, config.model.blocks, config.model.head_channels = 32, 1, 16
        config.model.multipliers, config.model.attention = (1, 2), (8,)
        shrink_to_smoke(config)
    return config
