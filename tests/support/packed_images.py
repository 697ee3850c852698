"""The images that the tests of packed images pack: in two archives, one name awkward."""

import io
import pathlib
import tarfile

import numpy as np

from diffc_jax.data import SourceSpec
from diffc_jax.data.decoding import encode

SIDE, COUNT = 8, 300
ARCHIVES = {"hq64_0": range(100), "ref_0": range(100, COUNT)}
NAMES = [*(f"sub/{number}.png" for number in range(COUNT - 1)), "new\nline \udc80.png"]
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), dtype=np.uint8)


def write_tars(folder: pathlib.Path) -> pathlib.Path:
    """Puts `IMAGES` into the archives of `ARCHIVES`."""
    for archive, numbers in ARCHIVES.items():
        with tarfile.open(folder / f"{archive}.tar", "w") as tar:
            for number in numbers:
                content = encode(IMAGES[number], "png")
                info = tarfile.TarInfo(NAMES[number])
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return folder


def write_broken_folder(folder: pathlib.Path) -> pathlib.Path:
    """Three files, of which the middle one is no image."""
    folder.mkdir()
    for number, content in enumerate((encode(IMAGES[0], "png"), b"junk", encode(IMAGES[1], "png"))):
        (folder / f"{number}.png").write_bytes(content)
    return folder


def spec(path: object, **fields: object) -> SourceSpec:
    """Archives of images, called v1."""
    return SourceSpec(
        **{"source": "tar", "path": str(path), "name": "v1", "image_size": SIDE, **fields}
    )


def npy(images: np.ndarray) -> bytes:
    """What `numpy.save` writes."""
    stream = io.BytesIO()
    np.save(stream, images)
    return stream.getvalue()
