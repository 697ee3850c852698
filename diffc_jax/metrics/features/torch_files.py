"""PyTorch weight files read without PyTorch and without executing what they contain.

A `.pth` file is a pickle, which may call any function when it is loaded. Here a pickle can do four
things: build an `OrderedDict`, name a type of storage, describe a tensor, wrap it as a parameter.
Everything else is refused by name.
"""

import collections
import functools
import io
import math
import os
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from diffc_jax.errors import InputError
from diffc_jax.runtime.npz import check_packed_size
from diffc_jax.runtime.unpickling import Allowed, RestrictedUnpickler, numpy_arrays, reading

_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

_STORAGE_TYPES: dict[str, np.dtype[Any]] = {
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "BoolStorage": np.dtype(np.bool_),
    "ByteStorage": np.dtype(np.uint8),
    "CharStorage": np.dtype(np.int8),
    "DoubleStorage": np.dtype(np.float64),
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "IntStorage": np.dtype(np.int32),
    "LongStorage": np.dtype(np.int64),
    "ShortStorage": np.dtype(np.int16),
}


# Bytes of all tensors over those of the file.
_MOST_OVERLAP = 2


class _Storage(NamedTuple):
    type_name: str
    key: str
    numel: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch_state_dict(path: str | os.PathLike[str], below: str = "") -> dict[str, np.ndarray]:
    """Reads the tensors of a file made by `torch.save(model.state_dict(), path)`.

    With `below`, the file is of `torch.save({below: model.state_dict(), ...}, path)`, where the rest may be
    the state of an optimizer, with NumPy's numbers among it.

    Both formats are read: the zip archive of PyTorch 1.6 and later and the sequence of pickles
    before it. Only dense CPU-readable tensors of the common types are known (bool, integers,
    float16, bfloat16, float32, float64); CUDA tensors are read like any other.

    What a file says of its storages and tensors is compared with its size before room is made for
    them: a storage is as long as its bytes, which are not compressed, and tensors may share one,
    but not overlap so much that all together are more than twice as large as the file.

    Returns:
        Tensors by name, in the file's order; arrays are contiguous, and most are read-only.

    Raises:
        InputError: missing, truncated or damaged file, not a PyTorch file, not a flat dictionary
            of tensors, tensors larger than the file, or a pickle that refers to anything a state
            dict has no need of (that name is given, and it is not called).
    """
    with reading(path, "a PyTorch state dict", "plain state dict"), open(path, "rb") as file:
        content, load = _read(file, numpy_arrays() if below else {})
        if below and (not isinstance(content, dict) or below not in content):
            raise InputError(f"{path}: has no {below!r}, where the state dict should be")
        content = content[below] if below else content
        if not isinstance(content, dict):
            raise InputError(
                f"{path}: holds a {type(content).__name__}, not a state dict; save "
                "model.state_dict()"
            )
        inner = [name for name, value in content.items() if isinstance(value, dict)]
        if inner:
            raise InputError(
                f"{path}: is wrapped, with dictionaries below {', '.join(map(repr, inner))}; save the"
                " state dict of the model alone"
            )
        for name, value in content.items():
            if not (isinstance(name, str) and isinstance(value, _Tensor)):
                raise InputError(
                    f"{path}: {name!r} is a {type(value).__name__}, not a tensor; save "
                    "model.state_dict() alone"
                )
        # Tied weights are the same tensor under several names.
        tensors = dict.fromkeys(content.values())
        n_bytes = sum(_tensor_bytes(one) for one in tensors)
        if n_bytes > _MOST_OVERLAP * (size := os.fstat(file.fileno()).st_size):
            raise InputError(f"{path}: describes {n_bytes} bytes of tensors and has {size} bytes")
        load = functools.cache(load)
        arrays = {one: _array(one, load) for one in tensors}
        return {name: arrays[value] for name, value in content.items()}


_Loader = Callable[[_Storage], bytes]


def _read(file: io.BufferedIOBase, others: Allowed) -> tuple[Any, _Loader]:
    """The pickled object, with `_Tensor`s in place of tensors, and what reads their storages.

    `others` are allowed beside what a state dict needs.
    """
    magic = file.read(len(_ZIP_MAGIC))
    file.seek(0)
    return (_read_zip if magic == _ZIP_MAGIC else _read_legacy)(file, others)


def _read_zip(file: io.BufferedIOBase, others: Allowed) -> tuple[Any, _Loader]:
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    # PyTorch compresses nothing.
    for entry in archive.infolist():
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{entry.filename} is compressed")
        check_packed_size(entry)
    if sum(entry.file_size for entry in archive.infolist()) > file.seek(0, os.SEEK_END):
        raise ValueError("its members are larger than the file")
    pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise ValueError("no data.pkl in the archive")
    folder = pickles[0].removesuffix("data.pkl")
    if folder + "byteorder" in names and archive.read(folder + "byteorder") != b"little":
        raise ValueError("it is big-endian")

    def load(storage: _Storage) -> bytes:
        entry = archive.getinfo(f"{folder}data/{storage.key}")
        if entry.file_size != _nbytes(storage):
            raise ValueError(f"storage {storage.key} has {entry.file_size} bytes")
        return archive.read(entry)

    return _Pickles(io.BytesIO(archive.read(pickles[0])), others).load(), load


def _read_legacy(file: io.BufferedIOBase, others: Allowed) -> tuple[Any, _Loader]:
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    pickles = _Pickles(file, others)
    if pickles.load() != _LEGACY_MAGIC or pickles.load() != _LEGACY_PROTOCOL:
        raise ValueError("it starts like no PyTorch file")
    if not pickles.load()["little_endian"]:
        raise ValueError("it is big-endian")
    content = pickles.load()
    data = {}
    for key in pickles.load():
        storage = pickles.storages[key]
        numel = int.from_bytes(file.read(8), "little")
        left = end - file.tell()
        if numel != storage.numel or not 0 <= _nbytes(storage) <= left:
            raise ValueError(f"storage {key} is cut short")
        data[key] = file.read(_nbytes(storage))
    return content, lambda storage: data[storage.key]


class _Pickles:
    """The pickles of a file, one after the other, and the storages that they refer to."""

    def __init__(self, file: io.BufferedIOBase, others: Allowed):
        self._file, self._allowed = file, {**_allowed(), **others}
        self.storages: dict[str, _Storage] = {}

    def load(self) -> Any:
        return RestrictedUnpickler(self._file, self._allowed, self._storage).load()

    def _storage(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", str(type_name), str(key), _, int(numel), *view) if not any(view):
                return self.storages.setdefault(key, _Storage(type_name, key, numel))
        raise ValueError(f"unknown kind of storage {pid!r}")


def _allowed() -> Allowed:
    def rebuild_tensor(
        storage: _Storage, offset: int, size: tuple[int, ...], strides: tuple[int, ...], *_: Any
    ) -> _Tensor:
        return _Tensor(storage, offset, size, strides)

    return {
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor"): rebuild_tensor,
        ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        **{("torch", name): name for name in _STORAGE_TYPES},
    }


def _nbytes(storage: _Storage) -> int:
    return storage.numel * _STORAGE_TYPES[storage.type_name].itemsize


def _tensor_bytes(tensor: _Tensor) -> int:
    numbers = (tensor.offset, *tensor.size, *tensor.strides)
    if len(tensor.size) != len(tensor.strides) or not all(
        isinstance(number, int) and number >= 0 for number in numbers
    ):
        raise ValueError("malformed tensor")
    return math.prod(tensor.size) * _STORAGE_TYPES[tensor.storage.type_name].itemsize


def _array(tensor: _Tensor, load: _Loader) -> np.ndarray:
    flat = np.frombuffer(load(tensor.storage), _STORAGE_TYPES[tensor.storage.type_name])
    if math.prod(tensor.size) == 0:
        return np.empty(tensor.size, flat.dtype)
    last = tensor.offset + sum(
        (n - 1) * stride for n, stride in zip(tensor.size, tensor.strides, strict=True)
    )
    if not 0 <= tensor.offset <= last < flat.size:
        raise ValueError("a tensor reaches beyond its storage")
    strides = [stride * flat.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.size, strides, writeable=False
    )
    return np.ascontiguousarray(view).reshape(tensor.size)
