"""Trained models as codecs."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffc_jax.codec.batches import Place
from diffc_jax.codec.codec import Codec
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.diffusion.schedules import Schedule, noise_range, schedule_from_fields
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models import Model, Variables, build_model, model_variables
from diffc_jax.models.parameters import parameter_shapes
from diffc_jax.runtime.export import IS_IT_THE_CARD, load_params, read_card
from diffc_jax.runtime.files import local_path

# Part of the repository, not of an installed package.
_WEIGHTS = pathlib.Path(__file__).parents[2] / "weights"
SHIPPED_WEIGHTS = _WEIGHTS / "imagenet64_h100.safetensors"
# Those that were shipped before and have made files since.
EARLIER_WEIGHTS = (_WEIGHTS / "imagenet64_small.safetensors",)


def load_codec(path: str | os.PathLike[str] | None = None, batch_size: int = 16) -> Codec:
    """A codec of exported parameters.

    Args:
        path: params.safetensors with its card beside it, or the folder of a run that holds both; None for
            `SHIPPED_WEIGHTS`.
        batch_size: tiles that go through the denoiser at once.

    Raises:
        UsageError: `batch_size` is not positive.
        InputError: a file is missing, damaged or does not fit the other, the card describes a model that
            this version does not have, or its noise levels cannot be used.
    """
    if batch_size < 1:
        raise UsageError(f"must be positive, not {batch_size}", field="batch_size")
    weights = find_weights(path)
    card = read_card(weights)
    shape = card["image_size"], card["image_size"], 3
    try:
        model = build_model(card["model"], shape)
        schedule = schedule_from_fields(card["schedule"])
    except UsageError as error:
        raise InputError(f"{weights.with_suffix('.json')}: {error}; {IS_IT_THE_CARD}") from error
    # On the device from the start: arrays of the host would be sent there anew by each call of the denoiser.
    tree = jax.device_put(load_params(weights, parameter_shapes(model, schedule)))
    return make_codec(
        model, schedule, card, tree["params"], tree["fixed"], batch_size, source=str(weights)
    )


def find_weights(path: str | os.PathLike[str] | None) -> pathlib.Path:
    """The file of parameters that `load_codec` reads.

    Raises:
        InputError: it does not exist.
    """
    if path is None:
        if not SHIPPED_WEIGHTS.exists():
            raise InputError(
                f"{SHIPPED_WEIGHTS}: is not there, as only the repository has it; name params.safetensors or "
                "the folder of a run"
            )
        return SHIPPED_WEIGHTS
    path = local_path(path)
    weights = path / "params.safetensors" if path.is_dir() else path
    if not weights.exists():
        hint = "; experiments/train.py writes it when it is done" if path.is_dir() else ""
        raise InputError(f"{path}: there is no {weights.name}{hint}")
    return weights


def make_codec(
    model: Model,
    schedule: Schedule,
    description: Mapping[str, Any],
    params: Any,
    fixed: Any,
    batch_size: int,
    place: Place = jnp.asarray,
    source: str = "params",
) -> Codec:
    """A codec of a model in memory.

    Args:
        model: the denoiser.
        schedule: of its noise.
        description: with "model" and "schedule" as in a config, and "image_size".
        params: {"model": ..., "schedule": ...}.
        fixed: what the model was fitted to.
        batch_size: see `ProgramCache`.
        place: see `ProgramCache`.
        source: where the parameters come from, for messages.

    Raises:
        InputError: the noise levels of the schedule are not finite or not in order.
    """
    variables = model_variables(params, fixed)
    low, high = noise_range(schedule, params["schedule"], source)
    named = {name: description[name] for name in ("model", "schedule", "image_size")}
    shape, name = (named["image_size"], named["image_size"], 3), fingerprint(named, variables)
    variables = model.prepare(variables)
    return Codec(
        ProgramCache(model.eps_hat, variables, shape, (low, high), name, batch_size, place)
    )


def fingerprint(description: Mapping[str, Any], variables: Variables) -> bytes:
    """First bytes of the SHA-256 of what decides what a denoiser computes.

    That is plain values that describe it, and the names, shapes and float32 values of its variables.
    """
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, allow_nan=False).encode())
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    for path, leaf in sorted(leaves, key=lambda item: jax.tree_util.keystr(item[0])):
        values = np.asarray(leaf, "<f4")
        digest.update(f"{jax.tree_util.keystr(path)}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.digest()[:4]
