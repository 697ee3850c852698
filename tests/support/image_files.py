"""Random images, and files of them for the tests of sources."""

import io
import pathlib
import tarfile

import numpy as np
from PIL import Image

from diffc_jax.data import ImageSource, SourceSpec, open_source


def pixels(number: int, side: int = 8, height: int | None = None) -> np.ndarray:
    shape = (height or side, side, 3)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def photo_crops(number: int) -> np.ndarray:
    """The first crops of 64x64 pixels of the photographs that evaluations show."""
    source = open_source(SourceSpec(source="photos", split="eval"))
    return np.stack([source[index] for index in range(number)])


def smooth_image(generator: np.random.Generator, side: int, coarse: int) -> Image.Image:
    """A random image of `coarse` x `coarse` pixels, enlarged to `side` x `side`."""
    small = Image.fromarray(generator.integers(0, 256, (coarse, coarse, 3), dtype=np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def write_smooth_images(folder: pathlib.Path, number: int, side: int, coarse: int) -> pathlib.Path:
    """Fills a folder with PNG files of `smooth_image`, in the order of their names."""
    generator = np.random.default_rng(0)
    for index in range(number):
        smooth_image(generator, side, coarse).save(folder / f"{index:03d}.png")
    return folder


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
