"""The main job in minutes on two CPU cores: the shipped model on the built-in photographs.

Makes the paper's rate-PSNR plot (DiffC-A, DiffC-F and the posterior mean, with JPEG and others) at our
scale: 64x64 crops of the photographs that scikit-image and scikit-learn ship, which the model, trained on
ImageNet images, has not seen. Only the Gaussian baseline is fitted, to crops of other photographs.

    scripts/quickstart.sh runs/quickstart

or, in an environment that has the package:

    python experiments/reproduce.py --config=configs/quickstart.py --workdir=runs/quickstart

`:train` trains a smaller model on those other photographs instead:

    CONFIG=configs/quickstart.py:train scripts/quickstart.sh runs/quickstart_train
"""

from ml_collections import ConfigDict

from diffc_jax.config import base_config, check_config_argument, shrink_to_smoke


def get_config(argument: str = "") -> ConfigDict:
    """`:train` trains a model of 2.3 M parameters in minutes; `:smoke` shrinks that to seconds."""
    check_config_argument(argument, ("train", "smoke"))
    config = base_config()
    if argument in ("train", "smoke"):
        config.model = ConfigDict({"name": "unet", "dtype": "float32", "remat": False})
    else:
        config.model = ConfigDict(
            {"name": "unet", "widths": (48, 192, 320), "blocks": (1, 2, 2), "dtype": "float32"}
        )
        config.eval.params = "weights/imagenet64_h100.safetensors"
    config.train.batch_size = 16
    config.train.num_steps = 1800
    config.train.learning_rate = 2e-3
    config.train.lr_decay = "cosine"
    config.train.ema_decay = 0.995
    config.train.eval_every_steps = config.train.checkpoint_every_steps = 600

    config.eval.max_images = 64
    config.eval.num_levels = 12
    config.eval.features = ""  # distances between sets need more images
    if argument == "smoke":
        shrink_to_smoke(config)
    return config
