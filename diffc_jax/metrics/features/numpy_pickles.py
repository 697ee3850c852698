"""Nested dicts of NumPy arrays read from a pickle without executing what it contains."""

import math
import os
from typing import Any

import numpy as np

from diffc_jax.runtime.unpickling import (
    PickledArray,
    RestrictedUnpickler,
    numpy_arrays,
    reading,
)

_DTYPES = {name: np.dtype(name) for name in ("f2", "f4", "f8", "i4", "i8")}


def read_numpy_pickle(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a pickled nested dict whose leaves are arrays of floats or integers.

    Returns:
        The same dict with read-only arrays.

    Raises:
        InputError: missing, truncated or damaged file, a leaf that is not an array, or a pickle
            that refers to anything else (that name is given, and it is not called).
    """
    with reading(path, "a pickle of arrays", "array"), open(path, "rb") as file:
        return _arrays(RestrictedUnpickler(file, numpy_arrays()).load())


def _arrays(tree: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in tree.items():
        result[name] = _array(value) if isinstance(value, PickledArray) else _arrays(value)
    return result


def _array(pickled: PickledArray) -> np.ndarray:
    if pickled.dtype.byte_order != "<":
        raise ValueError(f"byte order {pickled.dtype.byte_order!r}")
    dtype = _DTYPES[pickled.dtype.code].newbyteorder("<")
    if len(pickled.data) != math.prod(pickled.shape) * dtype.itemsize:
        raise ValueError("an array's data and shape disagree")
    flat = np.frombuffer(pickled.data, dtype)
    return flat.reshape(pickled.shape, order="F" if pickled.fortran_order else "C")
