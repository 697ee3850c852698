#!/usr/bin/env bash
# Pillow rotates and transforms 16-bit images as if each byte were a pixel.
#
# Guess:  `rotate` and `transform` of a 16-bit grey image with BILINEAR or BICUBIC give what they
#         give for the same values in mode "I" or "F", rounded, or raise an error, as filters do.
# Seen:   noise between 0 and 255, and no pixel above it. Only the left half of the picture is
#         read. NEAREST (the default of `rotate`) is right, and `resize` interpolates 16 bits.
# Why:    the functions that choose a filter ask only whether the image is one of bytes
#         (`image8`), and storage of mode "I;16" counts as such. The interpolation for 8 bits then
#         reads the bytes of the row, low and high ones in turn, and writes one byte of each
#         pixel. For NEAREST the pixel size is looked at.
# Source: src/libImaging/Geometry.c, getfilter
#         https://github.com/python-pillow/Pillow/issues/1127 (2015; closed, with a hint to use "I")
# Hurts:  who turns, shears or warps 16-bit PNG or TIFF images (depth, X-ray, microscopy), as
#         augmentations of torchvision do on such images: Pillow opens both as "I;16".
# Here:   images are transposed (EXIF) and resized, never turned by an angle or warped.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import PIL
from PIL import Image

print("Pillow", PIL.__version__)

# A smooth ramp from left to right, saved as 16-bit PNG and opened again.
ramp = np.tile(np.linspace(0, 65535, 128).astype(np.uint16), (128, 1))
file = io.BytesIO()
Image.fromarray(ramp).save(file, "PNG")
deep = Image.open(file)
same = Image.fromarray(ramp.astype(np.int32))
print("modes", deep.mode, same.mode)
shift = (1, 0, 0.5, 0, 1, 0)
steps = {
    "rotate by 10 degrees": lambda image, how: image.rotate(10, how),
    "shift by half a pixel": lambda image, how: image.transform((128, 128), 0, shift, how),
}
expected = True
for name, step in steps.items():
    for how in Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC:
        seen = np.asarray(step(deep, how)).astype(float)
        right = np.asarray(step(same, how)).clip(0, 65535).astype(float)
        error = np.abs(seen - right)
        print(
            f"{name}, {how.name}: largest value {seen.max():.0f} in place of {right.max():.0f}, "
            f"mean error {error.mean() / 655.35:.1f} % of the range"
        )
        if how == Image.Resampling.NEAREST:
            expected &= bool(error.mean() < 65)
        else:
            expected &= bool(seen.max() <= 255)
print("row after the shift:", np.asarray(steps["shift by half a pixel"](deep, 2))[64, :8].tolist())
print("            with I: ", np.asarray(steps["shift by half a pixel"](same, 2))[64, :8].tolist())

if not expected:
    sys.exit("no longer seen: 16-bit images are interpolated, or NEAREST is wrong, too")
print("seen: 16-bit images are lost where they are interpolated")
PYTHON
