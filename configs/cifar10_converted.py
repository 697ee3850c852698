r"""DiffC on CIFAR-10 with published weights of the paper's model family: no training, two commands.

The VDM of Kingma et al. (2021) without augmentation, 32 blocks of width 128; github.com/google-research/vdm
reports 2.637 bits/dim on the test images. Its README gives the address of the checkpoint,
gs://gresearch/vdm/cifar10/checkpoint-final/checkpoints-0, a folder with a file `ckpt-N.flax`. Nobody has run
this config on it; `:smoke` runs all of its parts on a small network.

    python scripts/convert.py --config=configs/cifar10_converted.py --workdir=W --input=ckpt-N.flax
    python experiments/evaluate.py --config=configs/cifar10_converted.py --workdir=W \
        --config.eval.params=W/params.safetensors --config.data.eval.path=DATA

DATA is where TFDS keeps `cifar10`, prepared once in ArrayRecord format. The checkpoint with augmentation
(aug-checkpoint-final, 2.522 bits/dim) needs, in both commands,

    --config.model.width=256 --config.schedule.name=learned_network
"""

from ml_collections import ConfigDict

from diffc_jax.config import base_config, check_config_argument, shrink_to_smoke, source_config


def get_config(argument: str = "") -> ConfigDict:
    """`:smoke` is a small network on the built-in photographs."""
    check_config_argument(argument)
    config = base_config()
    config.data.image_size = 32
    config.data.eval = source_config(source="tfds", name="cifar10", split="test")
    config.model = ConfigDict({"name": "vdm", "blocks": 32, "width": 128, "dtype": "float32"})
    # The ends are in the checkpoint.
    config.schedule.name = "learned_linear"
    if argument == "smoke":
        config.data.eval = source_config(split="eval")
        config.model.blocks, config.model.width = 1, 64
        shrink_to_smoke(config)
    return config
