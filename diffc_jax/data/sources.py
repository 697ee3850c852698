"""From a specification to a source of images."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging
from jaxtyping import UInt8

from diffc_jax.config.sources import NON_RGB_MODES, RESIZE_MODES, SourceSpec
from diffc_jax.data.array_record import ArrayRecordStore
from diffc_jax.data.decoding import UnreadableImageError, to_rgb
from diffc_jax.data.files import FolderStore, TarStore
from diffc_jax.data.official import OfficialStore
from diffc_jax.data.packed import PackedStore
from diffc_jax.data.photos import PhotosStore
from diffc_jax.data.spec import PixelStore, Store
from diffc_jax.data.tfds_store import TfdsStore
from diffc_jax.data.threads import map_in_windows
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.progress import Progress

_STORES: dict[str, Callable[[SourceSpec], Store]] = {
    "photos": PhotosStore,
    "tfds": TfdsStore,
    "npz": OfficialStore,
    "pickle": OfficialStore,
    "folder": FolderStore,
    "tar": TarStore,
    "array_record": ArrayRecordStore,
    "packed": PackedStore,
}


class StoredImages:
    """The `ImageSource` over any store.

    Attributes:
        name: name of the data set for results; a derived name ends in the resize mode, if any.
        split: split of the data set.
        files: the files behind the images, as far as they are the user's.
        skipped: names of the images left out because they cannot be decoded.
    """

    def __init__(self, store: Store, spec: SourceSpec):
        self._store, self._spec = store, spec
        derived = store.name + (
            "" if spec.resize == "refuse" else f"-{spec.resize}{spec.image_size}"
        )
        self.name = derived if spec.source == "tfds" else spec.name or derived
        self.split = spec.split
        self.files = store.files
        count = min(len(store), spec.max_images or len(store))
        self.skipped: tuple[str, ...] = ()
        self._kept: range | np.ndarray = range(count)
        if spec.skip_corrupt and not isinstance(store, PixelStore):
            self._leave_out_corrupt(count)

    def _leave_out_corrupt(self, count: int) -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            readable = np.fromiter(pool.map(self._is_readable, range(count)), bool, count)
        self._kept = np.flatnonzero(readable)
        self.skipped = tuple(self._store.label(int(index)) for index in np.flatnonzero(~readable))
        if self.skipped:
            logging.warning("%s: %d of %d images left out", self.name, len(self.skipped), count)

    def _is_readable(self, index: int) -> bool:
        try:
            self._load(index)
        except UnreadableImageError as error:
            logging.warning("left out: %s", error.flaw)
            return False
        return True

    def _load(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return to_rgb(self._store.read(index), self._store.label(index), self._spec)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        if not 0 <= index < len(self._kept):
            raise IndexError(f"image {index} of {len(self._kept)}")
        return self._load(int(self._kept[index]))

    def label(self, index: int) -> str:
        """File and place in it."""
        return self._store.label(int(self._kept[index]))

    def as_array(self) -> UInt8[np.ndarray, "n s s 3"]:
        """All images at once, n * s * s * 3 bytes; not to be written to.

        Packed images of one folder are a view of the memory-mapped file, unless they are scaled.
        All others are decoded here, in threads, into memory.

        Raises:
            InputError: an image that cannot be used.
        """
        count, size = len(self), self._spec.image_size
        if isinstance(self._store, PixelStore) and self._store.image_size == size:
            return self._store.rows(0, count)
        images = np.empty((count, size, size, 3), np.uint8)
        progress = Progress(f"decode {self.name}", count, "images")
        first = 0
        for window in map_in_windows(self.__getitem__, range(count)):
            images[first : first + len(window)] = window
            first += len(window)
            progress.advance(len(window))
        return images


def open_source(spec: SourceSpec) -> StoredImages:
    """Opens a source of images; the first image is decoded, so that a wrong size shows at once.

    Raises:
        UsageError: a field of `spec` cannot be used; the message starts with its name.
        InputError: a file is missing, damaged, empty or holds images that `spec` refuses. Images
            are checked when they are read: later ones raise it from `source[index]`.
    """
    _choose("source", spec.source, _STORES)
    _choose("resize", spec.resize, RESIZE_MODES)
    _choose("non_rgb", spec.non_rgb, NON_RGB_MODES)
    if spec.image_size < 1:
        raise UsageError(f"must be positive, not {spec.image_size}", field="image_size")
    if spec.max_images < 0:
        raise UsageError(f"must be 0 (all) or positive, not {spec.max_images}", field="max_images")
    source = StoredImages(_STORES[spec.source](spec), spec)
    if not len(source):
        raise InputError(f"{source.name}: has no readable image in split {source.split!r}")
    source[0]
    return source


def _choose(field: str, value: str, choices: Iterable[str]) -> None:
    if value not in (known := tuple(choices)):
        raise UsageError(f"unknown {value!r}; choose one of {', '.join(known)}", field=field)
