"""Per-image results of finished batches on disk, so that a killed evaluation goes on where it was."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool

from diffc_jax.errors import InputError
from diffc_jax.runtime import files

Results = dict[str, np.ndarray]


class Parts:
    """One npz file for each batch, named by the run of images that it holds.

    The first axis of every array is that of images, and every part has "index"; pictures may be of the
    first images of a part only.
    """

    def __init__(self, folder: files.AnyPath):
        self._folder = folder

    def save(self, part: Results) -> None:
        """Writes a batch of neighbouring images, whole or not at all."""
        index = part["index"]
        path = self._folder / f"{index[0]:08d}-{index[-1] + 1:08d}.npz"
        with files.atomic_write(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **part)

    def done(self, count: int) -> Bool[np.ndarray, " count"]:
        """Which of images 0 to count - 1 have results."""
        done = np.zeros(count, bool)
        for start, end, _ in self._runs():
            done[start:end] = True
        return done

    def read(self, images: range, names: Sequence[str] = ()) -> Iterator[Results]:
        """Results of neighbouring images in order, one part in memory at a time.

        Args:
            images: their indices, all of them `done`.
            names: arrays to read, others stay on disk; none means all. Parts without one skip it.

        Raises:
            InputError: a damaged file.
        """
        stop = images.start
        for start, end, path in self._runs():
            # Runs overlap after a change of the batch size.
            new = slice(max(stop - start, 0), max(min(images.stop, end) - start, 0))
            if new.start >= new.stop:
                continue
            stop = end
            try:
                with path.open("rb") as stream, np.load(stream) as part:
                    present = [name for name in names or part.files if name in part.files]
                    yield {name: part[name][new] for name in present}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise InputError(f"{path}: is damaged; delete it and run again") from error

    def _runs(self) -> list[tuple[int, int, files.AnyPath]]:
        # Temporary files, which a killed process leaves behind, begin with a dot.
        paths = sorted(self._folder.glob("[0-9]*.npz"))
        ends = [path.stem.split("-") for path in paths]
        return [(int(a), int(b), path) for (a, b), path in zip(ends, paths, strict=True)]
