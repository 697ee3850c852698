"""The official files of down-sampled ImageNet (Chrabaszcz et al. 2017, arXiv 1707.08819).

A file holds `data`, (N, 3*s*s) uint8, each row one image as its red, green and blue planes;
`labels` and `mean` are not used. Rows are memory-mapped: out of the pickle or npz file itself, or,
if the npz is compressed, out of a nameless temporary file (12,288 bytes per 64x64 image in
TMPDIR, made when the first image of the file is read). Opening a pickled file reads it whole, once
(1.6 GB of transient memory for each of the ten training files). `scripts/prepare_imagenet64.py`
makes smaller shards that open at once.
"""

import functools
import io
import math
import pathlib
import re
import shutil
import tempfile
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.files import LeftOut, expand
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.npz import ArrayHeader, NpzReader
from diffc_jax.runtime.parsing import parsing
from diffc_jax.runtime.unpickling import (
    PickledArray,
    RefusedNameError,
    RestrictedUnpickler,
    numpy_arrays,
)

_STEMS = {"train": "train_data", "validation": "val_data"}
# Smaller data may lie within a piece of the pickle that has its size by chance.
_LARGEST_FRAME = 1 << 18
_OFFICIAL_STEM = re.compile(r"(train_data_batch_\d+|val_data)")


def are_official(files: Sequence[str]) -> bool:
    """Whether all files have the names under which down-sampled ImageNet is distributed."""
    return all(_OFFICIAL_STEM.fullmatch(pathlib.Path(file).stem) for file in files)


class _Rows:
    """`data` of one file: its shape, and the rows when they are first needed."""

    def __init__(self, path: pathlib.Path, shape: tuple[int, ...], load: Callable[[], np.ndarray]):
        side = math.isqrt(shape[1] // 3) if len(shape) == 2 else 0
        if not side or 3 * side * side != shape[1] or not shape[0]:
            raise InputError(f"{path}: data has shape {shape}, not (images, 3*side*side)")
        self.path, self.count, self.side = path, shape[0], side
        self._load, self._lock = load, threading.Lock()
        self._rows: np.ndarray | None = None

    def image(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        with self._lock:
            if self._rows is None:
                self._rows = self._load()
        planes = self._rows[index].reshape(3, self.side, self.side)
        return np.ascontiguousarray(planes.transpose(1, 2, 0))


class OfficialStore:
    """Images of official npz files or of their pickled twins, in the order of the files."""

    def __init__(self, spec: SourceSpec):
        pickled = spec.source == "pickle"
        suffix = "" if pickled else ".npz"

        def in_folder(file: pathlib.Path) -> bool:
            if spec.split not in _STEMS:
                raise UsageError(
                    f"unknown {spec.split!r} for a folder of official files; "
                    f"choose {' or '.join(_STEMS)}",
                    field="split",
                )
            return file.name.startswith(_STEMS[spec.split]) and file.suffix == suffix

        kind = f"files named {_STEMS.get(spec.split, '')}*{suffix}"
        left_out = LeftOut()
        files = expand(spec.path, spec.source, in_folder, kind, left_out)
        self.files = [str(file) for file in files]
        self._rows = [(_open_pickle if pickled else _open_npz)(file) for file in files]
        self._ends = list(accumulate(rows.count for rows in self._rows))
        sides = sorted({rows.side for rows in self._rows})
        if len(sides) > 1:
            raise InputError(f"{spec.path}: mixes images of sides {sides}; open them separately")
        stems = dict.fromkeys(re.sub(r"[-_.]\d+$", "", file.stem) for file in files)
        official = are_official(self.files)
        self.name = f"imagenet{sides[0]}-chrabaszcz" if official else "+".join(stems)
        left_out.log(self.name)

    def __len__(self) -> int:
        return self._ends[-1]

    def _locate(self, index: int) -> tuple[_Rows, int]:
        number = bisect_right(self._ends, index)
        return self._rows[number], index - (self._ends[number] - self._rows[number].count)

    def label(self, index: int) -> str:
        """File and row."""
        rows, row = self._locate(index)
        return f"{rows.path}, row {row}"

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The image's pixels."""
        rows, row = self._locate(index)
        return rows.image(row)


def _open_npz(path: pathlib.Path) -> _Rows:
    with parsing(path, "is not a whole npz file"), path.open("rb") as file:
        archive = NpzReader(file)
        if "data" not in archive.names:
            raise InputError(f"{path}: has no member 'data'; is it an official ImageNet file?")
        header, start = archive.header("data"), archive.stored_at("data")
    if header.dtype != np.uint8 or header.fortran_order:
        raise InputError(f"{path}: data is {header.dtype}, not uint8 in C order")
    if start is not None:
        return _Rows(path, header.shape, lambda: _map(path, start, header.shape))
    return _Rows(path, header.shape, functools.partial(_inflate, path, header))


def _map(file: pathlib.Path | BinaryIO, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.memmap(file, np.uint8, "r", offset, shape)


def _inflate(path: pathlib.Path, header: ArrayHeader) -> np.ndarray:
    """The rows of a compressed member, in a file of as many bytes as their header says."""
    flaw = f"cannot be unpacked into {tempfile.gettempdir()}"
    with (
        parsing(path, flaw),
        path.open("rb") as file,
        NpzReader(file).open("data") as member,
        tempfile.TemporaryFile() as spool,
    ):
        shutil.copyfileobj(member, spool, 1 << 20)
        spool.flush()
        return _map(spool, header.start, header.shape)  # which outlives it


class _PositionNotingFile:
    """What `pickle.Unpickler` reads from; notes where the pieces of data of each size lay."""

    def __init__(self, stream: io.BufferedReader):
        self._stream = stream
        self.readline, self.fileno, self.tell = stream.readline, stream.fileno, stream.tell
        # None where there are several of one size.
        self.offsets: dict[int, int | None] = {}

    def _note(self, size: int) -> None:
        self.offsets[size] = None if size in self.offsets else self._stream.tell()

    def read(self, size: int) -> bytes:
        self._note(size)
        return self._stream.read(size)

    def readinto(self, buffer: Any) -> int:
        self._note(len(buffer))
        return self._stream.readinto(buffer)


def _open_pickle(path: pathlib.Path) -> _Rows:
    with parsing(path, "is not a pickled ImageNet file"), path.open("rb") as stream:
        file = _PositionNotingFile(stream)
        try:
            # "bytes" keeps the strings of Python 2, in which the pixels may lie, as they are.
            content = RestrictedUnpickler(file, numpy_arrays(), encoding="bytes").load()
        except RefusedNameError as error:
            raise InputError(
                f"{path}: is not a pickled ImageNet file (it asks to run {error.name}, which image files"
                " have no need of)"
            ) from None
    data = content.get("data", content.get(b"data")) if isinstance(content, dict) else None
    if not isinstance(data, PickledArray) or not isinstance(data.data, bytes | bytearray):
        raise InputError(f"{path}: has no array 'data'; is it an official ImageNet file?")
    if getattr(data.dtype, "code", None) not in ("u1", "|u1") or data.fortran_order:
        raise InputError(f"{path}: data is not uint8 in C order")
    shape, pixels = data.shape, data.data
    whole = isinstance(shape, tuple) and all(isinstance(side, int) and side >= 0 for side in shape)
    if not whole or math.prod(shape) != len(pixels):
        raise InputError(f"{path}: data has shape {shape} but {len(pixels)} bytes")
    offset = file.offsets.get(len(pixels))
    if offset is not None and len(pixels) > _LARGEST_FRAME:
        return _Rows(path, shape, lambda: _map(path, offset, shape))
    return _Rows(path, shape, lambda: np.frombuffer(pixels, np.uint8).reshape(shape))
