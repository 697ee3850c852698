"""Trained parameters as safetensors, with a JSON card that says what they are."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from absl import logging
from jaxtyping import PyTree

from diffc_jax.errors import InputError
from diffc_jax.runtime import files
from diffc_jax.runtime.digests import DAMAGE, digest
from diffc_jax.runtime.tensor_checks import check_names_and_shapes

_SEPARATOR = "/"
# Of the names that safetensors gives to types.
_FLOATS = ("F16", "BF16", "F32", "F64")
# Digests of the tensors and of the card, in the header of the file; those of others have none.
_DIGEST, _CARD_DIGEST = "diffc_jax_digest", "diffc_jax_card"


def export_params(path: files.AnyPath, tree: PyTree, card: Mapping[str, Any]) -> None:
    """Writes `path` (.safetensors) and its card beside it (.json).

    `tree` has nested dicts of arrays, whose names are joined by "/"; `card` says what they are.
    """
    flat = flax.traverse_util.flatten_dict(jax.device_get(tree), sep=_SEPARATOR)
    arrays = {name: np.asarray(array, order="C") for name, array in flat.items()}
    metadata = {_DIGEST: digest(arrays), _CARD_DIGEST: digest({}, files.to_json(card))}
    with files.atomic_write(path) as temporary:
        safetensors.numpy.save_file(arrays, temporary, metadata)
    files.write_json(path.with_suffix(".json"), dict(card))


def read_card(path: files.AnyPath) -> dict[str, Any]:
    """The card beside exported weights; without one it is empty, which the log says.

    The log also says of a card that it is another than the one that was exported with the weights.

    Raises:
        InputError: it is not a JSON object.
    """
    card = path.with_suffix(".json")
    if not card.exists():
        logging.warning("%s: has no card %s; nothing says what it was trained as", path, card.name)
        return {}
    content = files.read_json(card)
    if not isinstance(content, dict):
        raise InputError(f"{card}: is not the card of a model")
    # A file that cannot be read is the matter of those who read its tensors.
    with contextlib.suppress(OSError, safetensors.SafetensorError), _opened(path) as (_, file):
        expected = (file.metadata() or {}).get(_CARD_DIGEST)
        if expected not in (None, digest({}, files.to_json(content))):
            logging.warning(
                "%s: was edited or is damaged; it is not the card that was written with %s",
                *(card, path.name),
            )
    return content


@contextlib.contextmanager
def _opened(path: files.AnyPath) -> Iterator[tuple[pathlib.Path, Any]]:
    """Where the file is on the disk, and its header."""
    with files.on_disk(path) as local, safetensors.safe_open(local, framework="np") as file:
        yield local, file


def read_tensors(path: files.AnyPath) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, by name.

    Raises:
        InputError: missing or damaged file, or numbers that NumPy does not have, such as those of 8 bits.
    """
    try:
        with _opened(path) as (local, file):
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            for name, kind in kinds.items():
                if kind.startswith("F") and kind not in _FLOATS:
                    raise InputError(
                        f"{path}: {name!r} is {kind}, and only {', '.join(_FLOATS)} are read; convert it"
                    )
            tensors = safetensors.numpy.load_file(local)
            expected = (file.metadata() or {}).get(_DIGEST)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: is not a readable safetensors file ({error})") from error
    if expected not in (None, digest(tensors)):
        raise InputError(f"{path}: is damaged ({DAMAGE}); copy or export it again")
    return tensors


def load_params(path: files.AnyPath, template: PyTree) -> PyTree:
    """Reads exported weights, which must match a template of arrays or shapes and get its float types.

    Raises:
        InputError: missing or damaged file, other names or shapes than the template's, or what is no
            finite float (the first one is named).
    """
    arrays = read_tensors(path)
    expected = flax.traverse_util.flatten_dict(template, sep=_SEPARATOR, keep_empty_nodes=True)
    leaves = {name: leaf for name, leaf in expected.items() if hasattr(leaf, "shape")}
    shapes = {name: leaf.shape for name, leaf in leaves.items()}
    check_names_and_shapes(arrays, shapes, f"{path}: does not hold the model that is needed")
    typed = {}
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise InputError(f"{path}: {name!r} is {array.dtype}, not floats")
        with np.errstate(over="ignore"):  # found below
            typed[name] = array.astype(leaves[name].dtype)
        if not np.isfinite(typed[name]).all():
            raise InputError(
                f"{path}: {name!r} holds NaN or infinity; the model was damaged or its training diverged"
            )
    return flax.traverse_util.unflatten_dict(expected | typed, sep=_SEPARATOR)
