r"""Paper-scale DiffC on ImageNet 64x64 with published weights: no training, two commands.

The unconditional U-Nets of "Improved Denoising Diffusion Probabilistic Models" (Nichol & Dhariwal 2021),
121.1 M parameters, 1.5 M steps of 128 images. The README of github.com/openai/improved-diffusion links two:
`imagenet64_uncond_vlb_100M_1500K.pt`, trained for likelihood (3.53 bits/dim in the paper, with other
variances and ends than here), and `imagenet64_uncond_100M_1500K.pt`, trained for samples above all. Nobody
has run this config on them; `:smoke` runs all of its parts on a small network.

    python scripts/convert.py --config=configs/imagenet64_converted.py --workdir=W \
        --input=imagenet64_uncond_vlb_100M_1500K.pt
    python experiments/evaluate.py --config=configs/imagenet64_converted.py --workdir=W \
        --config.eval.params=W/params.safetensors --config.data.eval.path=valid_64x64.tar

The data are those it was trained on, the van den Oord variant of ImageNet 64x64; results on others (the
Chrabaszcz variant of TFDS) are not comparable. The sweep takes 207 network calls an image, each about a
second on two CPU cores (docs/converted.md). For the FID:

    ... --config.eval.features=inception_v3_fid --config.eval.feature_weights=FILE
"""

from ml_collections import ConfigDict

from diffc_jax.config import base_config, check_config_argument, shrink_to_smoke, source_config


def get_config(argument: str = "") -> ConfigDict:
    """`:smoke` is a small network on the built-in photographs."""
    check_config_argument(argument)
    config = base_config()
    config.data.eval = source_config(source="tar", name="imagenet64-vandenoord", split="validation")
    config.model = ConfigDict(
        {
            "name": "improved_diffusion",
            "width": 128,
            "multipliers": (1, 2, 3, 4),
            "blocks": 3,
            "attention": (16, 8),
            "dtype": "float32",
        }
    )
    # The least noise that the network has seen.
    config.schedule.gamma_min = -11.53
    config.eval.max_images = 10_000
    config.eval.codec_decoders = ()  # files of so many images are a job of their own
    if argument == "smoke":
        config.data.eval = source_config(split="eval")
        config.model.width, config.model.blocks = 32, 1
        config.model.multipliers, config.model.attention = (1, 2), (8,)
        shrink_to_smoke(config)
    return config
