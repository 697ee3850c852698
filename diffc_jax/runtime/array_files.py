"""Arrays of `.npy` and `.npz` files with the names, shapes and types that a reader needs, or one line."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from diffc_jax.errors import InputError
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.npz import NpzReader, read_npy
from diffc_jax.runtime.parsing import parsing

# None stands for any size.
Shape = tuple[int | None, ...]


class ArrayFile:
    """The arrays of an open `.npz` file, each of which is read when it is asked for."""

    def __init__(self, path: AnyPath, reader: NpzReader, flaw: str, fix: str):
        """`flaw` and `fix` are as of `parsing`."""
        self._path, self._reader, self._flaw, self._fix = path, reader, flaw, fix
        self.names = reader.names

    def refuse(self, what: str) -> InputError:
        """An error about the file, with what to do about it."""
        remedy = f"; {self._fix}" if self._fix else ""
        return InputError(f"{self._path}: {what}{remedy}")

    def read(self, name: str, shape: Shape | None = None, kind: Any = None) -> np.ndarray:
        """The array of that name; `kind` is a type of NumPy's, such as np.floating, None any.

        Raises:
            InputError: it is missing or damaged, or has another shape or type.
        """
        if name not in self.names:
            raise self.refuse(f"has no array {name!r}")
        with parsing(self._path, self._flaw, self._fix):
            array = self._reader.read(name)
        fits = shape is None or (
            len(array.shape) == len(shape)
            and all(n in (None, size) for n, size in zip(shape, array.shape, strict=True))
        )
        if not fits or not (kind is None or np.issubdtype(array.dtype, kind)):
            wanted = ", ".join("any" if size is None else str(size) for size in shape or ())
            raise self.refuse(
                f"{name!r} is {array.dtype} of shape {array.shape}, not"
                f" {getattr(kind, '__name__', 'anything')} of shape ({wanted})"
            )
        if array.dtype.kind == "U" and not _is_text(array):
            raise self.refuse(f"{name!r} holds numbers that are no characters")
        return array


def _is_text(array: np.ndarray) -> bool:
    """Whether texts hold code points only: of other numbers NumPy itself makes a SystemError."""
    codes = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
    return bool(np.all((codes < 0xD800) | ((codes > 0xDFFF) & (codes <= 0x10FFFF))))


@contextlib.contextmanager
def open_arrays(
    path: AnyPath, flaw: str = "is not an npz file of arrays", fix: str = ""
) -> Iterator[ArrayFile]:
    """Opens an `.npz` file; `flaw` and `fix` are what to say of a damaged one.

    Raises:
        InputError: it cannot be read or is no such file.
    """
    with contextlib.ExitStack() as stack:
        with parsing(path, flaw, fix):
            reader = NpzReader(stack.enter_context(path.open("rb")))
        yield ArrayFile(path, reader, flaw, fix)


def read_array(path: AnyPath, flaw: str, fix: str) -> np.ndarray:
    """The array in an `.npy` file; `flaw` and `fix` are what to say of a damaged one.

    Raises:
        InputError: it cannot be read or is no such file.
    """
    with parsing(path, flaw, fix):
        return read_npy(path)
