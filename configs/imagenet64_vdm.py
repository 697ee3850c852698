r"""The paper's model family at the paper's scale: a VDM U-Net on ImageNet 64x64.

For the DiffC-A and DiffC-F curves of Theis et al. (2022). 237.6 M parameters; VDM (Kingma et al. 2021)
reports 3.40 bits/dim on the van den Oord variant of the data, after millions of steps on many accelerators.
Nobody has run this config at full scale; `:smoke` runs all of its parts on a small machine.

Needs the TFDS data set `imagenet_resized/64x64`, prepared once elsewhere with TensorFlow in ArrayRecord
format, or shards made by scripts/prepare_imagenet64.py (--config.data.train.source=array_record, likewise
for eval).

    python experiments/train.py --config=configs/imagenet64_vdm.py --workdir=W \
        --config.data.train.path=DATA --config.data.eval.path=DATA
    python experiments/evaluate.py --config=configs/imagenet64_vdm.py --workdir=W \
        --config.data.train.path=DATA --config.data.eval.path=DATA

What it costs (docs/cluster.md has the table): 5.96 TFLOP an image and 12.3 GB of each of 64 devices.

    python experiments/train.py --config=configs/imagenet64_vdm.py --workdir=W \
        --dry_run --cost --cost_devices=64 --config.mesh.fsdp=8 --accelerator=tpu_v5e
"""

from ml_collections import ConfigDict

from diffc_jax.config import base_config, check_config_argument, shrink_to_smoke, source_config


def get_config(argument: str = "") -> ConfigDict:
    """`:smoke` is a tiny network on the built-in photographs."""
    check_config_argument(argument)
    config = base_config()
    config.data.train = source_config(source="tfds", name="imagenet_resized/64x64", split="train")
    config.data.eval = source_config(
        source="tfds", name="imagenet_resized/64x64", split="validation"
    )
    config.model = ConfigDict(
        {
            "name": "vdm",
            "blocks": 64,
            "width": 256,
            "dropout": 0.1,
            "dtype": "bfloat16",
            "remat": True,
        }
    )
    config.schedule.name = "learned_linear"
    config.train.batch_size = 512
    config.train.num_steps = 2_000_000
    config.train.checkpoint_every_steps = config.train.eval_every_steps = 10_000
    config.train.eval_images = 10_000
    config.eval.max_images = 10_000
    config.eval.codec_decoders = ()  # files of so many images are a job of their own
    config.eval.batch_size = 512
    if argument == "smoke":
        config.data.train, config.data.eval = source_config(), source_config(split="eval")
        config.model.blocks, config.model.width = 1, 64  # a group of one channel would hide gamma
        shrink_to_smoke(config)
    return config
