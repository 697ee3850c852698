"""Random images, and files of them for the tests of sources."""

import io
import pathlib
import re
import tarfile
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from diffc_jax import read_image
from diffc_jax.data import ImageSource, SourceSpec, open_source
from diffc_jax.data.decoding import to_rgb
from diffc_jax.errors import InputError


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


def png(
    image: np.ndarray, chunks: dict[bytes, bytes] | None = None, width: int = 0, bits: int = 0
) -> bytes:
    """A PNG file of grey or RGB pixels, uint8 or uint16, with chunks that Pillow does not write.

    Grey pixels of fewer `bits` come packed into bytes, with their `width`.
    """
    height, width = len(image), width or image.shape[1]
    header = bytes([bits or 8 * image.itemsize, 0 if image.ndim == 2 else 2, 0, 0, 0])
    rows = b"".join(b"\0" + row.tobytes() for row in image.astype(image.dtype.newbyteorder(">")))
    parts = {
        b"IHDR": width.to_bytes(4, "big") + height.to_bytes(4, "big") + header,
        **(chunks or {}),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in parts.items()
    )


def write_tar(path, members: dict[str, bytes]):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def opened(**fields) -> ImageSource:
    return open_source(SourceSpec(image_size=8, **fields))


def jpeg2000(image: np.ndarray, **options) -> bytes:
    """Lossless, of as many bits as asked for."""
    return bytes(imagecodecs.jpeg2k_encode(np.ascontiguousarray(image), level=0, **options))


def prepared(content: bytes, **fields) -> np.ndarray:
    """What sources of images make of a file."""
    return to_rgb(content, "x", SourceSpec(image_size=8, **fields))


def read(folder: pathlib.Path, content: bytes, **options) -> np.ndarray:
    """What compress.py reads from a file."""
    (folder / "x").write_bytes(content)
    return read_image(folder / "x", **options)


def refusal(job, *arguments, **options) -> str:
    """The one line that `prepared` or `read` fails with, without the folder of the file."""
    with pytest.raises(InputError) as caught:
        job(*arguments, **options)
    assert "\n" not in str(caught.value)
    return re.sub(r"^/\S*/x:", "x:", str(caught.value))
