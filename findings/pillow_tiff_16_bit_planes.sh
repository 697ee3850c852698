#!/usr/bin/env bash
# Pillow takes the bytes of uncompressed 16-bit TIFF images with separate planes for pixels.
#
# Guess:  an RGB image with 16 bits a channel opens with the high byte of each sample, whether its channels are
#         stored pixel by pixel or as planes, compressed or not. Pillow opens it so, or refuses it.
# Seen:   planes of 16 bits without compression give noise, without an error: low and high bytes alternate as
#         neighbouring pixels, and half of the picture is lost. The same pixels are right with LZW, with 8
#         bits, or pixel by pixel. tifffile writes such a file from an array of shape (3, height, width) unless
#         told otherwise.
# Why:    the raw mode of a plane is one letter of the raw mode of the pixel: "R" of "RGB;16L", which drops the 16
#         bits. Compressed files are left to libtiff; so are all with `TiffImagePlugin.READ_LIBTIFF = True`, and
#         then these are right too.
# Source: https://github.com/python-pillow/Pillow/blob/main/src/PIL/TiffImagePlugin.py
#         https://github.com/python-pillow/Pillow/pull/5364 (planes of compressed files; this case remains)
# Hurts:  who reads images of microscopes and satellites, where planes are common: a data loader in Pillow trains
#         on noise.
# Here:   diffc_jax/runtime/image_headers.py reads the tags, and refuses 16-bit images with separate planes.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 tifffile==2026.3.3 imagecodecs==2026.3.6 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import PIL
import tifffile
from PIL import Image

print("pillow", PIL.__version__, "tifffile", tifffile.__version__)
SIDE = 32


def opened(planes, **options):
    """What Pillow makes of the file that tifffile writes."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, planes, photometric="rgb", **options)
    assert np.array_equal(tifffile.imread(io.BytesIO(buffer.getvalue())), planes)
    with Image.open(buffer) as image:
        return image.mode, np.asarray(image)


mode, pixels = opened(np.full((3, SIDE, SIDE), 0x1234, np.uint16))
print(f"0x1234 everywhere: mode {mode}, red {[hex(value) for value in pixels[0, :4, 0]]} ...")

# Smooth in both directions, as photographs are.
ramp = np.linspace(0, 65535, SIDE).astype(np.uint16)
across, down = np.meshgrid(ramp, ramp)
planes = np.stack([across, down, across // 2 + down // 2])
high = (planes >> 8).astype(np.uint8)
files = {
    "8 bits, planes": (high, {}),  # controls: right
    "16 bits, planes, LZW": (planes, {"compression": "lzw"}),
    "16 bits, pixel by pixel": (planes.transpose(1, 2, 0), {}),
    "16 bits, planes": (planes, {}),
    "16 bits, planes, big-endian": (planes, {"byteorder": ">"}),
    "16 bits, planes, a strip a row": (planes, {"rowsperstrip": 1}),
    "16 bits, planes, tiles": (planes, {"tile": (16, 16)}),
}
wrong = []
for name, (stored, options) in files.items():
    error = np.abs(opened(stored, **options)[1].astype(int) - high.transpose(1, 2, 0))
    share = (error > 0).any(-1).mean()
    print(f"{name}: {share:.0%} of the pixels wrong, by up to {error.max()} of 255")
    if error.any():
        wrong.append(name)

if wrong != list(files)[3:]:
    sys.exit("no longer seen: other files are wrong, or none")
print("seen: uncompressed planes of 16 bits are noise")
PYTHON
