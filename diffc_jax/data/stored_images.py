"""The images of any store: decoded, brought to one size, and left out if they are damaged."""

import itertools

import numpy as np
from absl import logging
from jaxtyping import UInt8

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.decoding import UnreadableImageError, map_in_windows, to_rgb
from diffc_jax.data.spec import PixelStore, Store
from diffc_jax.errors import InputError
from diffc_jax.runtime.progress import Progress


class StoredImages:
    """The `ImageSource` over any store.

    Attributes:
        name: name of the data set for results; a derived name ends in the way of resizing, if any.
        split: split of the data set.
        files: the files behind the images, as far as they are the user's.
        skipped: names of the images left out because they cannot be used.
    """

    def __init__(self, store: Store, spec: SourceSpec):
        self._store, self._spec = store, spec
        derived = store.name
        if spec.resize != "refuse":
            derived += f"-{spec.resize}{spec.image_size}"
            derived += "" if spec.resize_filter == "box" else f"-{spec.resize_filter}"
        self.name = derived if spec.source == "tfds" else spec.name or derived
        self.split = spec.split
        self.files = store.files
        count = min(len(store), spec.max_images or len(store))
        self.skipped: tuple[str, ...] = ()
        self._kept: range | np.ndarray = range(count)
        if spec.skip_corrupt:
            self._leave_out_corrupt(count)

    def _leave_out_corrupt(self, count: int) -> None:
        windows = map_in_windows(self._is_readable, range(count))
        readable = np.fromiter(itertools.chain.from_iterable(windows), bool, count)
        self._kept = np.flatnonzero(readable)
        self.skipped = tuple(self._store.label(int(index)) for index in np.flatnonzero(~readable))
        if self.skipped:
            logging.warning("%s: %d of %d images left out", self.name, len(self.skipped), count)

    def _is_readable(self, index: int) -> bool:
        flaw: object
        try:
            item = self._store.read(index)
        except UnreadableImageError as error:  # others are of a whole file, or of the disk
            flaw = error.flaw
        else:
            try:
                to_rgb(item, self._store.label(index), self._spec)
                return True
            except InputError as error:
                flaw = error.flaw if isinstance(error, UnreadableImageError) else error
        logging.warning("left out: %s", flaw)
        return False

    def _load(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        return to_rgb(self._store.read(index), self._store.label(index), self._spec)

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        if not 0 <= index < len(self._kept):
            raise IndexError(f"image {index} of {len(self._kept)}")
        return self._load(int(self._kept[index]))

    @property
    def spec(self) -> SourceSpec:
        """Which images, and how they are read."""
        return self._spec

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
