"""NumPy's files, `.npy` and `.npz`: arrays of the names, shapes and types that a reader needs, or one line.

What a header promises is compared with what is there before memory is taken for it.
"""

import contextlib
import math
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from diffc_jax.errors import InputError
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.parsing import parsing

# None stands for any size.
Shape = tuple[int | None, ...]

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# No deflated data become more than so many times longer (RFC 1951).
_MOST_INFLATION = 1032


class ArrayFile:
    """The arrays of an open `.npz` file, each of which is read when it is asked for."""

    def __init__(self, path: AnyPath, archive: zipfile.ZipFile, flaw: str, fix: str):
        """`flaw` and `fix` are as of `parsing`."""
        self._path, self._archive, self._flaw, self._fix = path, archive, flaw, fix
        self.names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]

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
            array = _read_member(self._archive, name)
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
        return array


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
            archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(path.open("rb"))))
        yield ArrayFile(path, archive, flaw, fix)


def read_array(path: AnyPath, flaw: str, fix: str) -> np.ndarray:
    """The array in an `.npy` file; `flaw` and `fix` are what to say of a damaged one.

    Raises:
        InputError: it cannot be read or is no such file.
    """
    with parsing(path, flaw, fix), path.open("rb") as stream:
        shape, _, dtype = read_header(stream)
        start = stream.tell()
        check_size(shape, dtype, stream.seek(0, 2) - start)
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def read_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the order is Fortran's, and type of the array whose file begins here.

    Raises:
        ValueError: an array of Python objects, or sizes that cannot be; and whatever NumPy raises.
    """
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ValueError(f"unknown npy version {version}")
    shape, fortran_order, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be read")
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, fortran_order, dtype


def check_size(shape: tuple[int, ...], dtype: np.dtype, size: int) -> None:
    """Checks that an array of that shape has `size` bytes; ValueError if not."""
    needed = math.prod(shape) * dtype.itemsize
    if needed != size:
        raise ValueError(f"{dtype} of shape {shape} has {needed} bytes, and there are {size}")


def check_member(info: zipfile.ZipInfo) -> None:
    """Checks that a member of an archive can have the size that it claims; ValueError if not."""
    if info.compress_type not in _COMPRESSIONS or info.flag_bits & 1:
        raise ValueError(f"{info.filename} is compressed or encrypted in a way that is not read")
    if info.file_size > _MOST_INFLATION * (info.compress_size + 1):
        raise ValueError(f"{info.filename} cannot have {info.file_size} bytes")


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(f"{name}.npy")
    check_member(info)
    with archive.open(info) as stream:
        shape, _, dtype = read_header(stream)
        check_size(shape, dtype, info.file_size - stream.tell())
    with archive.open(info) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)
