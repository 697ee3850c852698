#!/usr/bin/env bash
# Pillow turns white to black, and opaque to transparent, in JPEG 2000 with more than 8 bits a channel.
#
# Guess:  Pillow has no RGB of more than 8 bits, so it keeps the high byte of each sample or rounds to 8 bits, as
#         it does for PNG and TIFF, or refuses the file. White is 255 in any case.
# Seen:   samples are rounded, and those that round to 256 become 0. That is the top 1/512 of the range: from
#         65408 on of 65535, from 4088 on of 4095. White is black, a channel that is full alone is missing, and
#         an opaque image with alpha is all transparent. It is so for RGB, RGBA and grey with alpha, and for grey
#         of 9 bits in a JP2 file. Grey of other depths opens with 16 bits and is right.
# Why:    half a step is added before the shift to 8 bits, and what is left is stored in a byte without a limit.
# Source: https://github.com/python-pillow/Pillow/blob/main/src/libImaging/Jpeg2KDecode.c
# Hurts:  who reads scans of archives, frames of films or medical images: paper and highlights come out black
#         or in false colours. Most of a photograph is right, so it passes a look at a few images.
# Here:   diffc_jax/runtime/image_headers.py reads the bits of each channel from the file, and refuses these.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pillow==13.0.0 imagecodecs==2026.3.6 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import imagecodecs
import numpy as np
import PIL
from PIL import Image, features

print("pillow", PIL.__version__, "openjpeg", features.version("jpg_2000"))


def file_of(values, channels, bits, container):
    """A lossless file with each of the values in all channels."""
    image = np.repeat(values.reshape(-1, 2 ** (bits // 2))[..., None], channels, axis=-1)
    image = np.ascontiguousarray(image[..., 0] if channels == 1 else image)
    data = bytes(
        imagecodecs.jpeg2k_encode(image, level=0, bitspersample=bits, codecformat=container)
    )
    assert (imagecodecs.jpeg2k_decode(data) == image).all()  # the file is right
    return data


expected = True
for bits, channels, container in [
    (8, 3, "jp2"),  # controls: right
    (12, 1, "jp2"),
    (16, 1, "jp2"),
    (9, 3, "jp2"),
    (10, 3, "j2k"),
    (10, 3, "jp2"),
    (12, 3, "jp2"),
    (16, 3, "j2k"),
    (16, 3, "jp2"),
    (16, 2, "jp2"),
    (16, 4, "jp2"),
    (9, 1, "jp2"),
]:
    values = np.arange(2**bits, dtype=np.uint8 if bits == 8 else np.uint16)
    with Image.open(io.BytesIO(file_of(values, channels, bits, container))) as image:
        mode, pixels = image.mode, np.asarray(image).reshape(len(values), -1).astype(int)
    kept = 16 if mode == "I;16" else 8
    nearest = np.floor(values * 2.0 ** (kept - bits) + 0.5)
    wrong = np.flatnonzero((pixels != np.minimum(nearest, 2**kept - 1)[:, None]).any(axis=1))
    print(
        f"{bits} bits, {channels} channel(s), {container}: mode {mode}, white is {pixels[-1].tolist()}, "
        + (f"wrong for samples {wrong[0]} to {wrong[-1]}" if len(wrong) else "all samples right")
    )
    highest = values[len(values) - len(values) // 512 :] if kept < bits else []
    expected &= np.array_equal(wrong, highest) and not pixels[wrong].any()

if not expected:
    sys.exit("no longer seen: other samples are wrong, or none")
print("seen: the highest samples, white among them, become 0 in each channel, alpha included")
PYTHON
