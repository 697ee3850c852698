"""Nested dicts of NumPy arrays read from a pickle without executing what it contains.

The pickle may name three things, NumPy's array, its dtype and what rebuilds an array. All three are
replaced by inert classes of this file; everything else is refused by name.
"""

import math
import os
import pickle
from typing import Any

import numpy as np

from diffc_jax.errors import InputError

_DTYPES = {name: np.dtype(name) for name in ("f2", "f4", "f8", "i4", "i8")}


class _RefusedError(Exception):
    pass


class _Dtype:
    def __init__(self, name: str, *_: Any) -> None:
        self.little_endian = _DTYPES[name].newbyteorder("<")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] != "<":
            raise ValueError(f"byte order {state[1]!r}")


class _Array:
    def __init__(self, *_: Any) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if len(data) != math.prod(shape) * dtype.little_endian.itemsize:
            raise ValueError("an array's data and shape disagree")
        flat = np.frombuffer(data, dtype.little_endian)
        self.value = flat.reshape(shape, order="F" if fortran else "C")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return lambda *_: _Array()
            case "numpy", "ndarray":
                return None  # the argument of _reconstruct, which needs none
            case "numpy", "dtype":
                return lambda *arguments: _Dtype(*arguments)
        raise _RefusedError(f"{module}.{name}")


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
            return _arrays(_Unpickler(file).load())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except _RefusedError as error:
        raise InputError(
            f"{path}: refers to {error}, which no array needs; refused without calling it"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(
            f"{path}: is not a pickle of arrays, or is truncated or damaged "
            f"({type(error).__name__}: {error}); download it again"
        ) from error


def _arrays(tree: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, _Array):
            if value.value is None:
                raise ValueError(f"array {name!r} has no data")
            result[name] = value.value
        else:
            result[name] = _arrays(value)
    return result
