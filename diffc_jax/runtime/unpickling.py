"""Pickles read without executing what they contain.

A pickle may call whatever it names. Here it gets the objects that its reader allows, by name; every other
name is refused before it is looked up. What is allowed has to be immutable or made for one read, since a
pickle can change the objects that it is given.
"""

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from diffc_jax.errors import InputError
from diffc_jax.runtime.parsing import parsing

# What a pickle may name, as (module, name), and what it gets instead.
Allowed = Mapping[tuple[str, str], Any]


class RefusedNameError(Exception):
    """A pickle has a `name`, with its module, that its kind of file has no need of."""

    def __init__(self, name: str):
        super().__init__(name)
        self.name = name


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], kind: str, user: str) -> Iterator[None]:
    """Makes one clear error of whatever reading a downloaded pickle raises.

    Args:
        path: of the file, for messages.
        kind: what the file should be, "a pickle of arrays".
        user: what has no need of the names that are refused, "array".

    Raises:
        InputError: the file cannot be read or is damaged, or names something that is refused. An InputError
            of the block is passed on.
    """
    with parsing(path, f"is not {kind}, or is truncated or damaged", "download it again"):
        try:
            yield
        except RefusedNameError as error:
            raise InputError(
                f"{path}: refers to {error.name}, which no {user} needs; refused without calling it"
            ) from error


class RestrictedUnpickler(pickle.Unpickler):
    """`pickle.Unpickler` without its power to import."""

    def __init__(
        self,
        file: Any,
        allowed: Allowed,
        persistent_load: Callable[[Any], Any] | None = None,
        encoding: str = "ASCII",
    ):
        """Reads from an open file; a name that is not `allowed` raises `RefusedNameError`.

        `persistent_load` makes objects of the references to data outside the pickle; `encoding` is that of
        the strings of Python 2, which "bytes" leaves as they are.
        """
        super().__init__(file, encoding=encoding)
        self._allowed, self._persistent_load = allowed, persistent_load

    def find_class(self, module: str, name: str) -> Any:
        """The object that is allowed under this name."""
        if (module, name) not in self._allowed:
            raise RefusedNameError(f"{module}.{name}")
        return self._allowed[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """The object behind a reference to data outside the pickle."""
        if self._persistent_load is None:
            raise pickle.UnpicklingError(f"it refers to data outside of it, {pid!r}")
        return self._persistent_load(pid)


class PickledArray:
    """Stands in for a NumPy array or scalar in a pickle: its description and bytes, unchecked.

    `dtype` is a `PickledDtype`; in `fortran_order` the first axis is the fastest.
    """

    shape: Any = None
    dtype: Any = None
    fortran_order: Any = None
    data: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.fortran_order, self.data = state


class PickledDtype:
    """Stands in for a NumPy dtype: `code` such as "u1" or "f4", `byte_order` "<", ">" or "|"."""

    def __init__(self, code: str | bytes):
        self.code = code.decode() if isinstance(code, bytes) else code
        self.byte_order: Any = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.byte_order = state[1]


def numpy_arrays() -> dict[tuple[str, str], Any]:
    """What a pickle of NumPy arrays names, as stand-ins made for one read."""

    def reconstruct(*_: Any) -> PickledArray:
        return PickledArray()

    def from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> PickledArray:
        array = PickledArray()
        array.__setstate__((1, shape, dtype, order != "C", data))
        return array

    def scalar(dtype: Any, data: Any = b"") -> PickledArray:
        return from_buffer(data, dtype, (), "C")

    def encode(text: str, encoding: str) -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
        return text.encode("latin1")

    numpy_1_and_2 = {
        ("multiarray", "_reconstruct"): reconstruct,
        ("multiarray", "scalar"): scalar,
        ("numeric", "_frombuffer"): from_buffer,  # protocol 5
    }
    return {
        **{(f"numpy.core.{module}", name): made for (module, name), made in numpy_1_and_2.items()},
        **{(f"numpy._core.{module}", name): made for (module, name), made in numpy_1_and_2.items()},
        ("numpy", "ndarray"): None,  # an argument of _reconstruct, which needs none
        ("numpy", "dtype"): lambda code, *_: PickledDtype(code),
        # How Python 3 writes bytes in the protocols of Python 2, which has none.
        ("_codecs", "encode"): encode,
        ("__builtin__", "bytes"): lambda: b"",
    }
