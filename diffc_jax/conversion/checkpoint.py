"""What every conversion does: ask the config for a network, check tensors against it, write the result."""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
from absl import logging
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffc_jax.diffusion.schedules import noise_range, schedule_from_fields
from diffc_jax.errors import UsageError
from diffc_jax.models import build_model
from diffc_jax.models.parameters import parameter_shapes, parameter_tree
from diffc_jax.runtime.export import export_params
from diffc_jax.runtime.files import file_sha256
from diffc_jax.runtime.tensor_checks import refuse
from diffc_jax.training.state import count_parameters


def params_template(config: ConfigDict, name: str) -> PyTree:
    """Shapes of the trained parameters of a validated config's model, which has to be called `name`.

    Raises:
        UsageError: config.model is another one, or has a field that cannot be used.
    """
    if config.model.name != name:
        raise UsageError(
            f"{config.model.name!r} is not {name!r}, the checkpoint's", field="model.name"
        )
    size = config.data.image_size
    model = build_model(config.model.to_dict(), (size, size, 3))
    schedule = schedule_from_fields(config.schedule.to_dict())
    return parameter_shapes(model, schedule)["params"]["model"]


def not_the_network(source: str) -> str:
    """How messages about tensors begin that do not fit the network of the config."""
    return f"{source}: is not the network of --config"


def write_converted(
    config: ConfigDict,
    params: PyTree,
    origin: Mapping[str, Any],
    source: pathlib.Path,
    workdir: pathlib.Path | None,
) -> None:
    """Writes W/params.safetensors and its card, and logs checksums and the number of parameters.

    `params` are {"model": ..., "schedule": ...}, float32; `origin` is what the card says about the checkpoint
    `source` besides its name and checksum; if W is None, nothing is written.

    Raises:
        InputError: a parameter is not finite, as float32 has no numbers as large as float64; the noise
            schedule cannot be used; or the folder cannot be written.
    """
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    unfit = [name for name, array in flat.items() if not np.isfinite(array).all()]
    refuse(not_the_network(str(source)), "are not finite as float32", unfit)
    noise_range(schedule_from_fields(config.schedule.to_dict()), params["schedule"], str(source))
    checksum, count = file_sha256(source), count_parameters(params["model"])
    logging.info("%s: %d parameters, sha256 %s", source, count, checksum)
    if workdir is None:
        return
    card = {
        "model": config.model.to_dict(),
        "schedule": config.schedule.to_dict(),
        "image_size": config.data.image_size,
        "trained_parameters": count,
        "converted_from": {**origin, "file": source.name, "sha256": checksum},
    }
    path = workdir / "params.safetensors"
    export_params(path, parameter_tree(params, fixed={}), card)
    logging.info("wrote %s, sha256 %s", path, file_sha256(path))
