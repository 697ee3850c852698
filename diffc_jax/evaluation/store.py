"""Numbers of finished batches on disk, so that a killed evaluation goes on where it was."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, PyTree

from diffc_jax.errors import InputError
from diffc_jax.runtime import files

Arrays = dict[str, np.ndarray]


class Store:
    """One npz file for each batch, named by the range of images that it holds.

    The first axis of every array is that of images, and every batch has "index"; pixels may be of the
    first images of a batch only.
    """

    def __init__(self, folder: files.AnyPath):
        """`folder` belongs to this store; `fingerprint` names it after what the numbers depend on."""
        self._folder = folder

    def save(self, batch: Arrays) -> None:
        """Writes the numbers of a batch of neighbouring images, whole or not at all."""
        index = batch["index"]
        path = self._folder / f"{index[0]:08d}-{index[-1] + 1:08d}.npz"
        with files.atomic_write(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **batch)

    def done(self, count: int) -> Bool[np.ndarray, " count"]:
        """Which of images 0 to count - 1 have been saved."""
        done = np.zeros(count, bool)
        for start, end, _ in self._ranges():
            done[start:end] = True
        return done

    def read(self, images: range, names: Sequence[str] = ()) -> Iterator[Arrays]:
        """Numbers of neighbouring images in order, up to the first that has none.

        One batch is in memory at a time. Arrays not in `names` stay on disk; none means all. Batches without
        one skip it.

        Raises:
            InputError: a damaged file.
        """
        stop = images.start
        for start, end, path in self._ranges():
            if start > stop:
                return
            # Ranges overlap after a change of the batch size.
            new = slice(stop - start, max(min(images.stop, end) - start, 0))
            if new.start >= new.stop:
                continue
            stop = end
            try:
                with path.open("rb") as stream, np.load(stream) as batch:
                    present = [name for name in names or batch.files if name in batch.files]
                    yield {name: batch[name][new] for name in present}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise InputError(f"{path}: is damaged; delete it and run again") from error

    def _ranges(self) -> list[tuple[int, int, files.AnyPath]]:
        # Temporary files, which a killed process leaves behind, begin with a dot.
        paths = sorted(self._folder.glob("[0-9]*.npz"))
        ends = [path.stem.split("-") for path in paths]
        return [(int(a), int(b), path) for (a, b), path in zip(ends, paths, strict=True)]


def fingerprint(description: Mapping[str, Any], params: PyTree) -> str:
    """Twelve hexadecimal digits that stand for a description and the values of parameters."""
    digest = hashlib.sha1(usedforsecurity=False)
    digest.update(json.dumps(description, sort_keys=True, allow_nan=False).encode())
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]
