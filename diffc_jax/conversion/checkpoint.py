"""What every conversion does: ask the config for a network, check tensors against it, write the result."""

import inspect
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import numpy as np
from absl import logging
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffc_jax.diffusion.schedules import noise_range, schedule_from_fields
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models import MODELS, build_model
from diffc_jax.models.parameters import parameter_shapes, parameter_tree
from diffc_jax.runtime.export import export_params
from diffc_jax.runtime.files import file_sha256
from diffc_jax.runtime.tensor_checks import refuse
from diffc_jax.training.state import count_parameters


def params_template(config: ConfigDict) -> PyTree:
    """Shapes of the trained parameters of a validated config's model.

    Raises:
        UsageError: config.model has a field that cannot be used.
    """
    size = config.data.image_size
    model = build_model(config.model.to_dict(), (size, size, 3))
    schedule = schedule_from_fields(config.schedule.to_dict())
    return parameter_shapes(model, schedule)["params"]["model"]


def fixed_schedule(config: ConfigDict) -> None:
    """Raises UsageError for a schedule with parameters, where a checkpoint has none."""
    if config.schedule.name != "linear":
        raise UsageError(
            f"{config.schedule.name!r} has parameters, which the checkpoint has not; use 'linear'",
            field="schedule.name",
        )


def check_fields(config: ConfigDict, fields: Mapping[str, Mapping[str, Any]], source: str) -> None:
    """Compares a config with what the files of a checkpoint say of its network.

    Args:
        config: what the checkpoint is evaluated with later; a field of its model that it does not have is
            the default.
        fields: by group; those that are not there may have any value.
        source: where the fields are from, for messages.

    Raises:
        UsageError: fields that differ; the flags that make them equal are in the message.
    """
    defaults = inspect.signature(MODELS[config.model.name]).parameters
    flags = []
    for group, wanted in fields.items():
        for name, value in wanted.items():
            found = config[group].get(name, defaults[name].default if name in defaults else None)
            found = tuple(found) if isinstance(found, list) else found
            if found != value:
                flags.append(f"--config.{group}.{name}={shlex.quote(str(value))}")
    if flags:
        raise UsageError(
            f"describes another network than {source}; add {' '.join(flags)}", field="--config"
        )


def check_inputs(source: str, channels: int) -> None:
    """Raises InputError unless a network takes one noisy RGB image."""
    if channels != 3:
        reasons = {
            1: "grey images",
            4: "latents of an autoencoder, not pixels",
            6: "another image beside the noisy one",
        }
        what = f", {reasons[channels]}" if channels in reasons else ""
        raise InputError(
            f"{source}: its network takes {channels} channels{what}; only unconditional networks of RGB"
            " pixels can be used"
        )


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
