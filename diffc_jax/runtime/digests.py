"""What stands for the contents of arrays: finds flipped bits that the reader of a file passes on.

The bits of an element, as a whole number, are multiplied with an odd number of 64 bits that belongs to its
place, and summed modulo 2^64. A change of one element changes the sum, whatever it is, and other damage is
missed once in about 2^64. A sum over parts is the sum of the whole: it does not matter on which devices and
in which processes the parts of an array lie, and nothing but the sums has to be sent. It takes about 1.2 ns
an element.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jaxtyping import PyTree, Shaped, UInt64

from diffc_jax.runtime.files import AnyPath, to_json

DAMAGE = "its contents do not fit their digest"
_DIGEST = "digest"
_DIGEST_BYTES = 16

# Of JAX or of NumPy, or a number.
Leaf = Shaped[np.ndarray | jax.Array, "..."] | np.generic | float | int


def digest(tree: PyTree, text: str = "") -> str:
    """What stands for names, types, shapes and bits of the arrays of a tree, and for a text.

    All processes that hold parts of an array have to call it together; they get the same digits.

    Returns:
        32 hexadecimal digits.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    sums = np.array([_sum(leaf) for _, leaf in leaves], np.uint64)
    divided = np.array([not _is_whole_here(leaf) for _, leaf in leaves], bool)
    if divided.any():
        # In halves: JAX has no integers of 64 bits.
        parts = np.asarray(multihost_utils.process_allgather(sums.view(np.uint32)))
        sums = np.where(divided, np.ascontiguousarray(parts).view(np.uint64).sum(axis=0), sums)
    result = hashlib.blake2b(f"{text}\n".encode(), digest_size=_DIGEST_BYTES)
    for (path, leaf), number in zip(leaves, sums.tolist(), strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        kind = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        result.update(f"{name} {kind} {np.shape(leaf)} {number:016x}\n".encode())
    return result.hexdigest()


def sealed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a JSON file that people may edit, with what `unsealed` compares."""
    return {**fields, _DIGEST: digest({}, to_json(fields))}


def unsealed(path: AnyPath, fields: Mapping[str, Any], may_lack: bool = True) -> dict[str, Any]:
    """The fields that were sealed; the log says if they changed.

    `may_lack` the digest do files of older versions.
    """
    own = {name: value for name, value in fields.items() if name != _DIGEST}
    found = fields.get(_DIGEST)
    if not (may_lack if found is None else found == digest({}, to_json(own))):
        logging.warning("%s: was edited or is damaged; it is not as it was written", path)
    return own


def _is_whole_here(leaf: Leaf) -> bool:
    return not isinstance(leaf, jax.Array) or leaf.is_fully_addressable


def _sum(leaf: Leaf) -> int:
    """The sum over what this process holds of an array; parts that several devices hold count once."""
    total, shape = 0, np.shape(leaf)
    for index, part in _parts(leaf):
        values = np.asarray(part)
        bits = values.view(f"u{values.itemsize}")
        for axis in reversed(range(values.ndim)):
            key = _key(axis, shape[axis])[index[axis]]
            bits = np.einsum("...i,i", bits, key, dtype=np.uint64, casting="unsafe")
        total += int(bits)
    return total % (1 << 64)


def _parts(leaf: Leaf) -> Iterator[tuple[tuple[slice, ...], Leaf]]:
    """Where the parts that are here lie in the array, and what they hold."""
    if isinstance(leaf, jax.Array):
        yield from ((one.index, one.data) for one in leaf.addressable_shards if not one.replica_id)
    else:
        yield (slice(None),) * np.ndim(leaf), leaf


@functools.lru_cache(maxsize=32)
def _key(axis: int, length: int) -> UInt64[np.ndarray, " n"]:
    """Odd numbers for the places along one axis; products of them belong to the elements."""
    data = hashlib.shake_128(f"diffc_jax axis {axis}".encode()).digest(8 * length)
    return np.frombuffer(data, "<u8") | np.uint64(1)
