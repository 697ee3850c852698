"""Random images, and files of them for the tests of sources."""

import io
import tarfile

import numpy as np
from PIL import Image

from diffc_jax.data import ImageSource, SourceSpec, open_source


def pixels(number: int, side: int = 8, height: int | None = None) -> np.ndarray:
    shape = (height or side, side, 3)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: np.ndarray | Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_tar(path, members: dict[str, bytes]):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def opened(**fields) -> ImageSource:
    return open_source(SourceSpec(image_size=8, **fields))
