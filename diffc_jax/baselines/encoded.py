"""Files that codecs made of the images of a run, kept until it is over, so that a kill costs little."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from diffc_jax.baselines.codecs import Codec, Quality
from diffc_jax.data.identity import image_digests, set_digest
from diffc_jax.runtime.array_files import open_arrays
from diffc_jax.runtime.files import AnyPath, atomic_write


class EncodedFiles:
    """Folder with the files of every codec and quality that is finished.

    They count as long as images, encoders and their settings are the same.
    """

    def __init__(self, folder: AnyPath, images: UInt8[np.ndarray, "n h w 3"]):
        """`folder` may be missing."""
        self._folder = folder
        self._count, self._images = len(images), set_digest(image_digests(images))

    def has(self, name: str, codec: Codec, quality: Quality) -> bool:
        """Whether the files of all images are there."""
        return self._path(name, codec, quality).exists()

    def read(self, name: str, codec: Codec, quality: Quality) -> list[bytes] | None:
        """The files of all images in their order, if they are there.

        Raises:
            InputError: a damaged file.
        """
        path = self._path(name, codec, quality)
        if not self.has(name, codec, quality):
            return None
        with open_arrays(path, "is damaged", "delete it and run again") as content:
            sizes = content.read("sizes", (self._count,), np.integer)
            joined = content.read("bytes", (None,), np.uint8).tobytes()
            if sizes.min(initial=0) < 0 or sizes.sum() != len(joined):
                raise content.refuse("holds no files of these sizes")
        ends = np.cumsum(sizes)
        return [joined[end - size : end] for end, size in zip(ends, sizes, strict=True)]

    def write(self, name: str, codec: Codec, quality: Quality, files: Sequence[bytes]) -> None:
        """Keeps the files of all images."""
        sizes = np.array(list(map(len, files)), np.int64)
        joined = np.frombuffer(b"".join(files), np.uint8)
        with (
            atomic_write(self._path(name, codec, quality)) as temporary,
            temporary.open("wb") as stream,
        ):
            np.savez(stream, allow_pickle=False, sizes=sizes, bytes=joined)

    def remove(self) -> None:
        """Deletes the folder, once the results are written."""
        if self._folder.exists():
            for path in self._folder.glob("*.npz"):
                path.unlink()
            self._folder.rmdir()

    def _path(self, name: str, codec: Codec, quality: Quality) -> AnyPath:
        made_by = f"{self._images} {codec.version()} {sorted(codec.settings.items())}"
        digest = hashlib.blake2b(made_by.encode(), digest_size=8).hexdigest()
        return self._folder / f"{name}-{quality:g}-{digest}.npz"
