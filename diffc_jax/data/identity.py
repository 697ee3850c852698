"""Which images a set has, by their pixels: names, places and dates of files do not count.

A digest of an image is of what a source gives, after decoding and scaling, so that it is the same for another
copy or another lossless format of the same pictures. Reading all images for that takes about 0.6 ms of
one core each (64x64 PNG), which an evaluation can afford. Training sets are known by a part of them.
"""

import hashlib
import itertools
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from diffc_jax.data.decoding import map_in_windows
from diffc_jax.data.spec import ImageSource
from diffc_jax.data.stored_images import StoredImages
from diffc_jax.runtime.progress import Progress

DIGEST_BYTES = 16
# Images of a large set that stand for all of it: two seconds' work.
_MOST_SAMPLED = 4096

Digests = UInt8[np.ndarray, "n 16"]


def image_digests(
    images: Sequence[UInt8[np.ndarray, "h w 3"]] | UInt8[np.ndarray, "n h w 3"],
) -> Digests:
    """A digest of the shape and the pixels of each image."""
    digests = np.empty((len(images), DIGEST_BYTES), np.uint8)
    for row, image in enumerate(images):
        digest = hashlib.blake2b(f"{image.shape}\n".encode(), digest_size=DIGEST_BYTES)
        digest.update(image.tobytes())
        digests[row] = np.frombuffer(digest.digest(), np.uint8)
    return digests


def digests_of(source: ImageSource, indices: Sequence[int] | None = None) -> Digests:
    """`image_digests` of a source, of all its images or of some; they are decoded in threads.

    Raises:
        InputError: an image that cannot be used.
    """
    chosen = range(len(source)) if indices is None else indices
    progress = Progress(f"compare {source.name}", len(chosen), "images")
    digests = np.empty((len(chosen), DIGEST_BYTES), np.uint8)

    def digest(index: int) -> Digests:
        return image_digests([source[index]])

    for row, one in enumerate(itertools.chain.from_iterable(map_in_windows(digest, chosen))):
        digests[row] = one
        progress.advance()
    return digests


def set_digest(digests: Digests) -> str:
    """What stands for a set of images in their order: 32 hexadecimal digits."""
    return hashlib.blake2b(digests.tobytes(), digest_size=16).hexdigest()


def sampled_digest(source: ImageSource) -> str:
    """What stands for the number of images of a source and for up to 4096 of them, evenly spread.

    All images of smaller sources are looked at. Of a larger one some images may be exchanged without notice.

    Raises:
        InputError: an image that cannot be used.
    """
    count = min(len(source), _MOST_SAMPLED)
    chosen = np.linspace(0, len(source) - 1, count).round().astype(int).tolist()
    return f"{len(source)}-{set_digest(digests_of(source, chosen))}"


def files_signature(source: ImageSource) -> str | None:
    """What stands for the files of a source, by their paths, sizes and dates, and for how they are read.

    While it stays the same, so do the images; a copy of the same files has another. None for sources without
    files of their own.
    """
    if not isinstance(source, StoredImages) or not source.files:
        return None
    digest = hashlib.blake2b(repr((source.spec, len(source))).encode(), digest_size=16)
    for file in source.files:
        try:
            status = os.stat(file)
        except OSError:
            return None
        # A name need not be UTF-8.
        digest.update(b"\n" + os.fsencode(os.path.abspath(file)))
        digest.update(f"\t{status.st_size}\t{status.st_mtime_ns}".encode())
    return digest.hexdigest()
