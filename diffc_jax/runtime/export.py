"""Trained parameters as safetensors, with a JSON card that says what they are."""

from collections.abc import Mapping
from typing import Any

import flax.traverse_util
import jax
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree

from diffc_jax.errors import InputError
from diffc_jax.runtime import files

_SEPARATOR = "/"


def export_params(path: files.AnyPath, tree: PyTree, card: Mapping[str, Any]) -> None:
    """Writes `path` (.safetensors) and its card beside it (.json).

    `tree` has nested dicts of arrays, whose names are joined by "/"; `card` says what they are.
    """
    flat = flax.traverse_util.flatten_dict(jax.device_get(tree), sep=_SEPARATOR)
    arrays = {name: np.asarray(array, order="C") for name, array in flat.items()}
    with files.atomic_write(path) as temporary:
        safetensors.numpy.save_file(arrays, temporary)
    files.write_json(path.with_suffix(".json"), dict(card))


def load_params(path: files.AnyPath, template: PyTree) -> PyTree:
    """Reads exported weights, which must match a template of arrays or shapes and get its float types.

    Raises:
        InputError: missing or damaged file, other names or shapes than the template's, or NaN or infinity
            (the first one is named).
    """
    try:
        with files.on_disk(path) as local:
            arrays = safetensors.numpy.load_file(local)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: is not a readable safetensors file ({error})") from error
    expected = flax.traverse_util.flatten_dict(template, sep=_SEPARATOR, keep_empty_nodes=True)
    leaves = {name: leaf for name, leaf in expected.items() if hasattr(leaf, "shape")}
    for name in sorted(arrays.keys() | leaves.keys()):
        found = arrays[name].shape if name in arrays else None
        needed = leaves[name].shape if name in leaves else None
        if found != needed:
            raise InputError(f"{path}: {name!r} has shape {found}, the model needs {needed}")
        if not np.isfinite(arrays[name]).all():
            raise InputError(
                f"{path}: {name!r} holds NaN or infinity; the model was damaged or its training diverged"
            )
    typed = {name: array.astype(leaves[name].dtype) for name, array in arrays.items()}
    return flax.traverse_util.unflatten_dict(expected | typed, sep=_SEPARATOR)
