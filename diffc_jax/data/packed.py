"""Packed images: the pixels of one split in one memory-mapped file, described by a manifest.

`SPLIT.npy` is a NumPy file, uint8 (n, s, s, 3) in C order, that `numpy.load` opens too;
`SPLIT.names.txt` has the name of each image on a line of its own, and `SPLIT.digests.npy` a digest of
the pixels of each, with which they are compared when they are read. Nothing has to be decoded, and
what is used often stays in the system's file cache: 15.7 GB for all of ImageNet 64x64.
"""

import contextlib
import hashlib
import io
import math
import os
import pathlib
import shutil
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import UInt8

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.decoding import map_in_windows
from diffc_jax.data.identity import DIGEST_BYTES, Digests, image_digests
from diffc_jax.data.manifest import (
    MANIFEST,
    Manifest,
    check_hash,
    describe_file,
    open_manifests,
    whole_file,
    write_manifest,
)
from diffc_jax.data.stored_images import StoredImages
from diffc_jax.errors import InputError
from diffc_jax.runtime.digests import DAMAGE
from diffc_jax.runtime.disk import only_writing
from diffc_jax.runtime.files import atomic_write, file_sha256
from diffc_jax.runtime.npz import read_npy
from diffc_jax.runtime.parsing import parsing
from diffc_jax.runtime.progress import Progress

_CHUNK = 1 << 24
# Images whose digests are made in one go.
_CHECKED_AT_ONCE = 1024
# What an interruption of the writer can cost.
_SAVE_BYTES = 1 << 26


class PackedStore:
    """Images of one or more folders that `scripts/prepare_imagenet64.py --format=packed` wrote.

    Sizes of files, shape and type of the pixels, the number of names and the SHA-256 of all but the
    pixels are compared with the manifest when the store is opened; `manifest.verify_hashes` compares
    the pixels too. Every image that is read is compared with its digest, unless an older version wrote
    the folder.

    Attributes:
        image_size: height and width of the images as they are packed, pixels.
    """

    def __init__(self, spec: SourceSpec):
        self.files: list[str] = []
        self._pixels: list[np.ndarray] = []
        self._names: list[_Lines] = []
        self._digests: list[Digests | None] = []
        sides, variants = set(), []
        for path, manifest in open_manifests(spec, "packed"):
            file, pixels = _open_pixels(path, manifest)
            self.files.append(str(file))
            self._pixels.append(pixels)
            self._names.append(_open_names(path, manifest))
            self._digests.append(_open_digests(path, manifest))
            sides.add(manifest["image_size"])
            variants.append(manifest["variant"])
        if len(sides) > 1:
            raise InputError(
                f"{spec.path}: mixes images of sides {sorted(sides)}; open them separately"
            )
        (self.image_size,) = sides
        self.name = "+".join(variants)
        self._starts = [0, *accumulate(map(len, self._pixels))]

    def __len__(self) -> int:
        return self._starts[-1]

    def _locate(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]

    def label(self, index: int) -> str:
        """File, row, and the name that the image had when it was packed."""
        number, row = self._locate(index)
        return f"{self.files[number]}, row {row} ({self._names[number][row]})"

    def read(self, index: int) -> UInt8[np.ndarray, "s s 3"]:
        """The image's pixels.

        Raises:
            InputError: they have changed since they were packed.
        """
        number, row = self._locate(index)
        # Copied, so that the disk is read here, in the thread that asks, and not where it is used.
        image = self._pixels[number][row].copy()
        self._check(number, row, image[np.newaxis])
        return image

    def _check(self, number: int, first: int, images: UInt8[np.ndarray, "n s s 3"]) -> None:
        """Compares images of one file, from row `first` on, with their digests."""
        known = self._digests[number]
        if known is None:
            return
        differs = (image_digests(images) != known[first : first + len(images)]).any(axis=1)
        if differs.any():
            index = self._starts[number] + first + int(differs.argmax())
            raise InputError(
                f"{self.label(index)}: is damaged ({DAMAGE}); copy or prepare the file again"
            )

    def _check_in_threads(
        self, number: int, first: int, images: UInt8[np.ndarray, "n s s 3"]
    ) -> None:
        """`_check` of many images."""

        def check(at: int) -> None:
            self._check(number, first + at, images[at : at + _CHECKED_AT_ONCE])

        for _ in map_in_windows(check, range(0, len(images), _CHECKED_AT_ONCE)):
            pass

    def rows(self, start: int, stop: int) -> UInt8[np.ndarray, "n s s 3"]:
        """Images `start` to `stop`; those of one file are memory-mapped and read-only, not copied.

        Raises:
            IndexError: the range is not within the store.
            InputError: pixels have changed since they were packed.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"images {start} to {stop} of {len(self)}")
        parts = []
        for number, (first, end) in enumerate(pairwise(self._starts)):
            if start < end and first < stop:
                row = max(start - first, 0)
                part = self._pixels[number][row : stop - first]
                self._check_in_threads(number, row, part)
                parts.append(part)
        return parts[0] if len(parts) == 1 else np.concatenate([self._pixels[0][:0], *parts])


class _Lines:
    """Lines of a text file by number; only where they begin is held in memory."""

    def __init__(self, path: pathlib.Path):
        text = np.memmap(path, np.uint8, "r")
        self._text = text.data
        breaks = [
            first + np.flatnonzero(text[first : first + _CHUNK] == ord("\n"))
            for first in range(0, len(text), _CHUNK)
        ]
        self._starts = np.concatenate([[0], *breaks])
        self._starts[1:] += 1

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> str:
        start, stop = self._starts[number], self._starts[number + 1] - 1
        return str(self._text[start:stop], errors="backslashreplace")


def _open_pixels(path: pathlib.Path, manifest: Manifest) -> tuple[pathlib.Path, np.ndarray]:
    file = whole_file(path, manifest["shards"][0])
    side = manifest["image_size"]
    shape = (manifest["count"], side, side, 3)
    with parsing(file, "is not a NumPy file of pixels"):
        # An array, since every slice of a memmap would be another memmap, which costs time.
        pixels = np.asarray(np.lib.format.open_memmap(file, mode="r"))
    if pixels.dtype != np.uint8 or pixels.shape != shape or not pixels.flags.c_contiguous:
        order = "C" if pixels.flags.c_contiguous else "Fortran"
        raise InputError(
            f"{file}: is {pixels.dtype} {pixels.shape} in {order} order, not uint8 {shape} in C "
            "order; prepare it again"
        )
    return file, pixels


def _open_names(path: pathlib.Path, manifest: Manifest) -> _Lines:
    file = whole_file(path, manifest["names"])
    check_hash(path, manifest["names"])
    with parsing(file, "cannot be read"):
        names = _Lines(file)
    if len(names) != manifest["count"]:
        raise InputError(
            f"{file}: has {len(names)} lines, {path.name} says {manifest['count']} images; "
            "prepare it again"
        )
    return names


def _open_digests(path: pathlib.Path, manifest: Manifest) -> Digests | None:
    """A digest of each image; None in folders of older versions."""
    if "digests" not in manifest:
        return None
    file = whole_file(path, manifest["digests"])
    check_hash(path, manifest["digests"])
    with parsing(file, "is not a NumPy file of digests"):
        digests = read_npy(file)
    if digests.dtype != np.uint8 or digests.shape != (manifest["count"], DIGEST_BYTES):
        raise InputError(f"{file}: is {digests.dtype} {digests.shape}; prepare it again")
    return digests


class PackedWriter:
    """All pixels in one file, which gets its name when it is whole.

    Until then they are in `SPLIT.npy.partial`, and `partial` of the manifest says how many images
    of it are safely on the disk. It is never cut, only overwritten with the same bytes, so that
    two preparations that run at once by mistake cannot leave holes.
    """

    def describe(self, source: StoredImages) -> dict[str, Any]:
        """The fields of the manifest that only this layout has."""
        digest, size = hashlib.sha256(), 0
        for line in _names(source):
            digest.update(line)
            size += len(line)
        entry = {"file": f"{source.split}.names.txt", "bytes": size, "sha256": digest.hexdigest()}
        return {"names": entry}

    def write(self, source: StoredImages, output: pathlib.Path, manifest: Manifest) -> None:
        """Writes what is missing of the files, and lists them in the manifest."""
        names = output / manifest["names"]["file"]
        # One of another preparation, which failed before it had a manifest, may be of the same size.
        if not names.is_file() or file_sha256(names) != manifest["names"]["sha256"]:
            with (
                only_writing(names),
                atomic_write(names) as temporary,
                temporary.open("wb") as stream,
            ):
                stream.writelines(_names(source))
        path = output / f"{manifest['split']}.npy"
        if manifest["shards"]:
            logging.info("keeping %s", path.name)
        else:
            partial = output / f"{path.name}.partial"
            _write_pixels(source, partial, manifest)
            entry = {"file": path.name, "images": manifest["count"], **describe_file(partial)}
            manifest["shards"] = [entry]
            # Listed before it gets its name, else an interruption between the two would lose it.
            _record(output, manifest)
            with only_writing(path):
                partial.replace(path)
        manifest.pop("partial", None)
        digests = output / f"{manifest['split']}.digests.npy"
        if "digests" not in manifest or not digests.is_file():
            _write_digests(path, digests)
            manifest["digests"] = {"file": digests.name, **describe_file(digests)}
        _record(output, manifest)


def _write_digests(file: pathlib.Path, path: pathlib.Path) -> None:
    """Writes a digest of each image of a file of pixels to `path`."""
    pixels = np.asarray(np.lib.format.open_memmap(file, mode="r"))
    groups = range(0, len(pixels), _CHECKED_AT_ONCE)
    parts = map_in_windows(lambda at: image_digests(pixels[at : at + _CHECKED_AT_ONCE]), groups)
    with only_writing(path), atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, np.concatenate([part for window in parts for part in window]))


def _write_pixels(source: StoredImages, partial: pathlib.Path, manifest: Manifest) -> None:
    shape = (manifest["count"], manifest["image_size"], manifest["image_size"], 3)
    header, image_bytes = _npy_header(shape), math.prod(shape[1:])
    size = len(header) + math.prod(shape)
    held = partial.stat().st_size if partial.is_file() else 0
    done = manifest.get("partial", {"images": 0})["images"]
    if held < len(header) + done * image_bytes:
        done = 0
    if done:
        logging.info("keeping %d of %d images", done, shape[0])
    _check_space(partial.parent, size - held)
    progress = Progress("prepare", shape[0], "images", done=done)
    with contextlib.ExitStack() as stack:
        with only_writing(partial):
            stream = stack.enter_context(partial.open("r+b" if held else "wb"))
            stream.write(header)
            stream.seek(len(header) + done * image_bytes)
        unsaved = 0
        for images in map_in_windows(source.__getitem__, range(done, shape[0])):
            with only_writing(partial):
                stream.write(np.stack(images).data)
            done += len(images)
            unsaved += len(images) * image_bytes
            if unsaved >= _SAVE_BYTES or done == shape[0]:
                with only_writing(partial):
                    stream.flush()
                    os.fsync(stream.fileno())
                manifest["partial"] = {"file": partial.name, "images": done}
                _record(partial.parent, manifest)
                unsaved = 0
            progress.advance(len(images))
        with only_writing(partial):
            stream.truncate(size)  # of another preparation, whose manifest is gone, more was there


def _record(output: pathlib.Path, manifest: Manifest) -> None:
    with only_writing(output / MANIFEST):
        write_manifest(output, manifest)


def _npy_header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _names(source: StoredImages) -> Iterator[bytes]:
    """Labels of all images as lines, without the folder in which all inputs lie."""
    common = os.path.commonprefix(source.files)  # noqa: RUF071  # cut to whole folders below
    folder = common[: common.rfind(os.sep) + 1]
    for index in range(len(source)):
        name = source.label(index).removeprefix(folder).replace("\n", "\\n")
        yield name.encode(errors="backslashreplace") + b"\n"


def _check_space(folder: pathlib.Path, needed: int) -> None:
    with only_writing(folder):
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"{folder}: has {free / 1e9:.3g} GB free, the images need {needed / 1e9:.3g} GB"
        )
