"""Packed images: the pixels of one split in one memory-mapped file, described by a manifest.

`SPLIT.npy` is a NumPy file, uint8 (n, s, s, 3) in C order, that `numpy.load` opens too;
`SPLIT.names.txt` has the name of each image on a line of its own. Nothing has to be decoded, and
what is used often stays in the system's file cache: 15.7 GB for all of ImageNet 64x64.
"""

import pathlib
from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from jaxtyping import UInt8

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.manifest import Manifest, listed_file, open_manifests
from diffc_jax.errors import InputError

_CHUNK = 1 << 24


class PackedStore:
    """Images of one or more folders that `scripts/prepare_imagenet64.py --format=packed` wrote.

    Sizes of files, shape and type of the pixels and the number of names are compared with the
    manifest when the store is opened; `manifest.verify_hashes` compares the contents.

    Attributes:
        image_size: height and width of the images as they are packed, pixels.
    """

    def __init__(self, spec: SourceSpec):
        self.files: list[str] = []
        self._pixels: list[np.ndarray] = []
        self._names: list[_Lines] = []
        sides, variants = set(), []
        for path, manifest in open_manifests(spec, "packed"):
            file, pixels = _open_pixels(path, manifest)
            self.files.append(str(file))
            self._pixels.append(pixels)
            self._names.append(_open_names(path, manifest))
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
        """The image's pixels."""
        number, row = self._locate(index)
        # Copied, so that the disk is read here, in the thread that asks, and not where it is used.
        return self._pixels[number][row].copy()

    def rows(self, start: int, stop: int) -> UInt8[np.ndarray, "n s s 3"]:
        """Images `start` to `stop`; those of one file are memory-mapped and read-only, not copied.

        Raises:
            IndexError: the range is not within the store.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"images {start} to {stop} of {len(self)}")
        parts = [
            pixels[max(start - first, 0) : stop - first]
            for pixels, (first, end) in zip(self._pixels, pairwise(self._starts), strict=True)
            if start < end and first < stop
        ]
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
    file = _whole_file(path, manifest["shards"][0])
    side = manifest["image_size"]
    shape = (manifest["count"], side, side, 3)
    try:
        # An array, since every slice of a memmap would be another memmap, which costs time.
        pixels = np.asarray(np.lib.format.open_memmap(file, mode="r"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: is not a NumPy file of pixels ({error})") from error
    if pixels.dtype != np.uint8 or pixels.shape != shape or not pixels.flags.c_contiguous:
        order = "C" if pixels.flags.c_contiguous else "Fortran"
        raise InputError(
            f"{file}: is {pixels.dtype} {pixels.shape} in {order} order, not uint8 {shape} in C "
            "order; prepare it again"
        )
    return file, pixels


def _open_names(path: pathlib.Path, manifest: Manifest) -> _Lines:
    file = _whole_file(path, manifest["names"])
    try:
        names = _Lines(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    if len(names) != manifest["count"]:
        raise InputError(
            f"{file}: has {len(names)} lines, {path.name} says {manifest['count']} images; "
            "prepare it again"
        )
    return names


def _whole_file(path: pathlib.Path, entry: dict[str, Any]) -> pathlib.Path:
    file = listed_file(path, entry)
    size = file.stat().st_size
    if size != entry["bytes"]:
        raise InputError(
            f"{file}: has {size} bytes, {path.name} says {entry['bytes']}; copy or prepare it again"
        )
    return file
