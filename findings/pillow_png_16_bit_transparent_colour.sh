#!/usr/bin/env bash
# Pillow makes the wrong pixels of a 16-bit RGB PNG transparent, where the file names a transparent colour.
#
# Guess:  a PNG may name one colour that is transparent (tRNS). Converted to RGBA, the pixels of that colour, or
#         of its 8-bit shade, become transparent, as they do with 8 bits.
# Seen:   with 16 bits pixels of the named colour stay opaque, and others become transparent: those whose high byte
#         is the low byte of the named one.
# Why:    pixels are narrowed to their high bytes when the file is read, the colour is kept in 16 bits, and only its
#         low byte is compared with them.
# Source: https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Convert.c
# Hurts:  who puts images with transparency on a background, or refuses them by their alpha: the hole is
#         elsewhere, or is not noticed.
# Here:   diffc_jax/runtime/image_headers.py refuses 16-bit PNG files with a transparent colour.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct
import sys
import zlib

import numpy as np
import PIL
from PIL import Image

print("pillow", PIL.__version__)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def opaque(pixels, colour):
    """Which pixels of a row are opaque, in a PNG of them in which this grey value is transparent."""
    bits, row = 8 * pixels.itemsize, np.repeat(pixels[:, None], 3, axis=1)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", len(pixels), 1, bits, 2, 0, 0, 0))
        + chunk(b"tRNS", struct.pack(">HHH", colour, colour, colour))
        + chunk(b"IDAT", zlib.compress(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes()))
        + chunk(b"IEND", b"")
    )
    with Image.open(io.BytesIO(data)) as image:
        return (np.asarray(image.convert("RGBA"))[0, :, 3] == 255).tolist()


eight = opaque(np.array([0x12, 0x34, 0x80], np.uint8), 0x12)
sixteen = opaque(np.array([0x1234, 0x34FF, 0x8000], np.uint16), 0x1234)
print("8 bits, 0x12 transparent:    pixels 0x12, 0x34, 0x80 are opaque:", eight)
print("16 bits, 0x1234 transparent: pixels 0x1234, 0x34ff, 0x8000 are opaque:", sixteen)
if eight != [False, True, True] or sixteen != [True, False, True]:
    sys.exit("no longer seen: with 16 bits other pixels are transparent")
print("seen: with 16 bits the pixel of the named colour is opaque, and another one is transparent")
PYTHON
