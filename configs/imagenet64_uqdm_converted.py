r"""DiffC on ImageNet 64x64 with the published network of UQDM-tiny: no training, two commands.

The smallest of four networks of "Progressive Compression with Universally Quantized Diffusion Models" (Yang,
Will, Mandt 2025), 167 k parameters, a VDM trained for a chain of four steps with uniform noise. It is in the
repository github.com/mandt-lab/uqdm itself, in `checkpoints/uqdm-tiny` (config.json and checkpoint.pt).

    python scripts/convert.py --config=configs/imagenet64_uqdm_converted.py --workdir=W \
        --input=checkpoints/uqdm-tiny
    python experiments/evaluate.py --config=configs/imagenet64_uqdm_converted.py --workdir=W \
        --config.eval.params=W/params.safetensors --config.data.eval.path='DATA/*.npz'

DATA are the official npz files of ImageNet 64x64 for validation. The other three networks, which the
project's README links, need other sizes in both commands: small is

    --config.model.blocks=8 --config.model.width=64 --config.model.groups=16

and medium and big are `blocks` 32 and 64 with `width` 256 and `groups` 32. Nobody has run this on those.
"""

from ml_collections import ConfigDict

from diffc_jax.config import base_config, check_config_argument, shrink_to_smoke, source_config


def get_config(argument: str = "") -> ConfigDict:
    """`:smoke` is the same network on the built-in photographs."""
    check_config_argument(argument)
    config = base_config()
    config.data.eval = source_config(source="npz", name="imagenet64", split="validation")
    ends = (-12.3, 6.0)
    config.model = ConfigDict(
        {
            "name": "vdm",
            "blocks": 1,
            "width": 32,
            "groups": 8,
            "fourier": (5, 6),
            "gamma_range": ends,
            "epsilon": 1e-5,
            "dtype": "float32",
        }
    )
    config.schedule.gamma_min, config.schedule.gamma_max = ends
    if argument == "smoke":
        config.data.eval = source_config(split="eval")
        shrink_to_smoke(config)
    return config
