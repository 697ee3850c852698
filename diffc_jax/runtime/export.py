"""Trained parameters as safetensors, with a JSON card that says what they are."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NotRequired, TypedDict

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from absl import logging
from jaxtyping import PyTree

from diffc_jax import typed
from diffc_jax.errors import InputError
from diffc_jax.runtime import files
from diffc_jax.runtime.digests import DAMAGE, digest, sealed, unsealed
from diffc_jax.runtime.parsing import parsing
from diffc_jax.runtime.tensor_checks import check_names_and_shapes

_SEPARATOR = "/"
# Of the names that safetensors gives to types.
_FLOATS = ("F16", "BF16", "F32", "F64")
# What messages about a card ask.
IS_IT_THE_CARD = "is it the card of the weights beside it?"

ImageSize = Annotated[int, typed.Meta(ge=1, le=1 << 16)]
# A digest of the tensors, in the header of the file; those of others have none.
_DIGEST = "diffc_jax_digest"


def export_params(path: files.AnyPath, tree: PyTree, card: Mapping[str, Any]) -> None:
    """Writes `path` (.safetensors) and its card beside it (.json).

    `tree` has nested dicts of arrays, whose names are joined by "/"; `card` says what they are.
    """
    flat = flax.traverse_util.flatten_dict(jax.device_get(tree), sep=_SEPARATOR)
    arrays = {name: np.asarray(array, order="C") for name, array in flat.items()}
    with files.atomic_write(path) as temporary:
        safetensors.numpy.save_file(arrays, temporary, {_DIGEST: digest(arrays)})
    files.write_json(path.with_suffix(".json"), sealed(card))


class _Named(TypedDict):
    """A model or a schedule as in a config; its other fields are checked where it is made."""

    name: str


class Costs(TypedDict, total=False):
    """What a card says about training, as far as it does; like its kinds below it may say more."""

    images_seen: typed.Count
    train_seconds: typed.NotNegative | None
    train_cpu_seconds: typed.NotNegative | None
    train_accelerator: str


class Card(Costs, total=False):
    """A card beside a config, which says what the model is."""

    model: _Named
    schedule: _Named
    image_size: ImageSize
    trained_parameters: typed.Count


class ModelCard(Costs):
    """The card of a denoiser that nothing else describes."""

    model: _Named
    schedule: _Named
    image_size: ImageSize
    trained_parameters: NotRequired[typed.Count]


def read_card(path: files.AnyPath, kind: Any = ModelCard) -> dict[str, Any]:
    """The card beside exported weights; the log says if it is not as it was exported.

    `kind` is its type, which has the fields of `Costs`.

    Raises:
        InputError: it is missing or of another type.
    """
    card = path.with_suffix(".json")
    content: dict[str, Any] = files.read_json(card, kind, IS_IT_THE_CARD)
    may_lack = True
    # A file that cannot be read is the matter of those who read its tensors.
    with contextlib.suppress(OSError, safetensors.SafetensorError), _opened(path) as (_, file):
        may_lack = _DIGEST not in (file.metadata() or {})
    return unsealed(card, content, may_lack)


def read_history(path: files.AnyPath) -> dict[str, Any]:
    """The card beside exported weights; without one it is empty, which the log says.

    Raises:
        InputError: it is not a card.
    """
    card = path.with_suffix(".json")
    if not card.exists():
        logging.warning("%s: has no card %s; nothing says what it was trained as", path, card.name)
        return {}
    return read_card(path, Card)


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
    with parsing(path, "is not a readable safetensors file"), _opened(path) as (local, file):
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        for name, kind in kinds.items():
            if kind.startswith("F") and kind not in _FLOATS:
                raise InputError(
                    f"{path}: {name!r} is {kind}, and only {', '.join(_FLOATS)} are read; convert it"
                )
        tensors = safetensors.numpy.load_file(local)
        expected = (file.metadata() or {}).get(_DIGEST)
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
