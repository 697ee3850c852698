"""PNG files with fewer pixels than their headers say."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import PIL.Image
import pytest

from diffc_jax.errors import InputError
from diffc_jax.runtime import png_data
from diffc_jax.runtime.image_files import decode_image_file

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def chunk(kind, contents):
    length, check = len(contents), zlib.crc32(kind + contents)
    return struct.pack(">I", length) + kind + contents + struct.pack(">I", check)


def png(width, height, bits, kind, raw, interlaced=0, parts=1):
    packed = zlib.compress(raw)
    size = -(-len(packed) // parts)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    data = b"".join(chunk(b"IDAT", packed[i : i + size]) for i in range(0, len(packed), size))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def interlaced_rows(pixels):
    """Rows of the seven passes, by slices."""
    starts = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    for top, left, down, across in starts:
        some = pixels[top::down, left::across]
        yield from (b"\0" + row.tobytes() for row in some if row.size)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (9, 5), (70, 300)])
def test_whole_files_of_every_kind(mode, size):
    stream = io.BytesIO()
    PIL.Image.new(mode, size, 1).save(stream, "PNG")
    data = stream.getvalue()
    assert not png_data.is_short(data)
    bits, kind = data[24], data[25]
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    raw = (1 + -(-size[0] * bits * channels // 8)) * size[1]
    for parts in (1, 3):
        assert not png_data.is_short(png(*size, bits, kind, bytes(raw), parts=parts))
        assert png_data.is_short(png(*size, bits, kind, bytes(raw - 1), parts=parts))


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (13, 30)])
def test_interlaced_files(size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    rows = list(interlaced_rows(pixels))
    data = png(*size, 8, 2, b"".join(rows), interlaced=1)
    np.testing.assert_array_equal(decode_image_file(data, "x.png").image, pixels)
    assert png_data.is_short(png(*size, 8, 2, b"".join(rows)[:-1], interlaced=1))


def test_missing_rows_are_not_black():
    data = png(8, 8, 8, 2, bytes(25 * 3))
    with pytest.raises(InputError, match=r"^x.png: .*fewer pixels than the header says"):
        decode_image_file(data, "x.png")


def test_a_small_file_costs_little_whatever_it_claims():
    data = png(12, 2_097_162, 8, 2, bytes(1000))
    tracemalloc.start()
    assert png_data.is_short(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_other_damage_is_left_to_the_decoder():
    whole = png(8, 8, 8, 2, bytes(25 * 8))
    for data in (whole[:20], whole[:50], whole[:45] + b"\xff" * 4 + whole[49:]):
        assert not png_data.is_short(data)
