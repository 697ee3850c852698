"""Nested dicts of NumPy arrays read from a pickle without executing what it contains."""

import math
import os
from typing import Any

import numpy as np

from diffc_jax.errors import InputError
from diffc_jax.runtime.unpickling import (
    PickledArray,
    RefusedNameError,
    RestrictedUnpickler,
    numpy_arrays,
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
    try:
        with open(path, "rb") as file:
            return _arrays(RestrictedUnpickler(file, numpy_arrays()).load())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except RefusedNameError as error:
        raise InputError(
            f"{path}: refers to {error.name}, which no array needs; refused without calling it"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"{path}: is not a pickle of arrays, or is truncated or damaged "
            f"({type(error).__name__}: {error}); download it again"
        ) from error


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
