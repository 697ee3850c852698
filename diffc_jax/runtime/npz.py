"""Arrays in `.npz` and `.npy` files, read whole or refused.

Declared sizes are compared with what is there before room is made for them. A member of an archive is read
to its end, which is where its CRC-32 is compared, whatever its header says: NumPy stops where the header of
the array does, so that a flipped bit there makes a shorter array.
"""

import io
import math
import os
import struct
import zipfile
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped

_SUFFIX = ".npy"
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# Bytes of the longest header that NumPy reads, and of what comes before it.
_LONGEST_HEADER, _BEFORE_HEADER = 10_000, 12
# Deflate makes no more bytes than this of one.
_MOST_INFLATED = 1032
_CHUNK = 1 << 20
# Of the last record of an archive that has no comment.
_END_BYTES = 22


class ArrayHeader(NamedTuple):
    """What an array says about itself.

    Attributes:
        shape: of the array.
        fortran_order: the first axis is the fastest.
        dtype: of its elements, no Python objects.
        start: position of the elements, in bytes.
    """

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    start: int

    @property
    def n_bytes(self) -> int:
        """Bytes of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: Any, n_bytes: int) -> ArrayHeader:
    """The header of an array in NumPy's format, after which the stream is somewhere else.

    Args:
        stream: at its beginning.
        n_bytes: from there to the end of the array.

    Raises:
        ValueError: no such header, or one of another number of bytes.
    """
    begin = io.BytesIO(stream.read(_BEFORE_HEADER + _LONGEST_HEADER))
    try:
        version = np.lib.format.read_magic(begin)
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(begin)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(begin)
        else:
            raise ValueError(f"unknown npy version {version}")
    except Exception as error:  # a damaged header may raise anything
        raise ValueError(f"no header of an array: {error}") from error
    header = ArrayHeader(shape, fortran_order, dtype, begin.tell())
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be read")
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    if header.start + header.n_bytes != n_bytes:
        raise ValueError(
            f"shape {shape} of {dtype} needs {header.n_bytes} bytes and has {n_bytes - header.start}"
        )
    return header


def read_npy(path: str | os.PathLike[str]) -> Shaped[np.ndarray, "..."]:
    """The array of a `.npy` file on disk.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no array, or is damaged.
    """
    with open(path, "rb") as stream:
        header = read_header(stream, os.fstat(stream.fileno()).st_size)
        stream.seek(header.start)
        return _fill(header, stream)


class NpzReader:
    """The arrays of an archive, each read when it is asked for.

    A damaged one makes the methods raise whatever they like; see `parsing`.

    Attributes:
        names: of the arrays.
    """

    def __init__(self, stream: Any):
        """Compares the two lists of members that an archive has."""
        self._stream = stream
        self._archive = zipfile.ZipFile(stream)
        members = self._archive.infolist()
        # A list that seems to end early is not noticed by zipfile; NumPy writes no comments.
        if len(members) != _count_members(stream) or any(one.comment for one in members):
            raise ValueError("its list of members is damaged")
        for one in members:
            self._archive.open(one).close()  # compares the names
        named = [one for one in members if one.filename.endswith(_SUFFIX)]
        self._members = {one.filename.removesuffix(_SUFFIX): one for one in named}
        self.names = list(self._members)

    def header(self, name: str) -> ArrayHeader:
        """Shape and type of an array; KeyError if there is none of this name."""
        member = self._members[name]
        check_packed_size(member)
        with self._archive.open(member) as stream:
            return read_header(stream, member.file_size)

    def read(self, name: str) -> Shaped[np.ndarray, "..."]:
        """The array of that name."""
        header = self.header(name)
        with self.open(name) as stream:
            stream.read(header.start)
            # With its last byte the CRC-32 is compared: an array is as long as its member.
            return _fill(header, stream)

    def open(self, name: str) -> Any:
        """The bytes of an array from its header on."""
        return self._archive.open(self._members[name])

    def stored_at(self, name: str) -> int | None:
        """Position in the file of the elements of an array; None if they are compressed.

        Raises:
            ValueError: the file ends before they do.
        """
        member = self._members[name]
        if member.compress_type != zipfile.ZIP_STORED:
            return None
        # Local header: 30 bytes, then a name and an extra field; lengths at 26 and 28.
        self._stream.seek(member.header_offset + 26)
        lengths = struct.unpack("<HH", self._stream.read(4))
        begin = member.header_offset + 30 + sum(lengths)
        if begin + member.file_size > self._stream.seek(0, os.SEEK_END):
            raise ValueError(f"it ends within {name}")
        return begin + self.header(name).start


def _count_members(stream: Any) -> int:
    """How many members an archive without comments says that it has."""
    stream.seek(-_END_BYTES, os.SEEK_END)
    return int(struct.unpack("<4s6xH10x", stream.read(_END_BYTES))[1])


def check_packed_size(member: zipfile.ZipInfo) -> None:
    """Raises ValueError for a member that cannot have as many bytes as it says, or that is not read."""
    if member.compress_type not in _COMPRESSIONS or member.flag_bits & 1:
        raise ValueError(f"{member.filename} is compressed or encrypted in a way that is not read")
    stored = member.compress_type == zipfile.ZIP_STORED
    most = member.compress_size * (1 if stored else _MOST_INFLATED)
    if member.file_size > most or (stored and member.file_size != most):
        raise ValueError(
            f"{member.filename} has {member.compress_size} bytes, which cannot be {member.file_size}"
        )


def _fill(header: ArrayHeader, stream: Any) -> Shaped[np.ndarray, "..."]:
    """An array of the elements that come next."""
    data = np.empty(header.n_bytes, np.uint8)
    for begin in range(0, len(data), _CHUNK):
        target = data[begin : begin + _CHUNK]
        part = stream.read(len(target))
        if len(part) < len(target):
            raise EOFError("the data end early")
        target[:] = np.frombuffer(part, np.uint8)
    order: Literal["F", "C"] = "F" if header.fortran_order else "C"
    return data.view(header.dtype).reshape(header.shape, order=order)
