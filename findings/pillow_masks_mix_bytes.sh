#!/usr/bin/env bash
# Pillow mixes the bytes of numbers, not the numbers, where a mask is grey.
#
# Guess:  `Image.composite(a, b, mask)` and `paste` with a mask of mode "L" give (mask * a + (255
#         - mask) * b) / 255 in all modes they accept.
# Seen:   half of 1000 and 0 in mode "F" is 2.6e-18, half of 1000 and 500 is 1488, and half of 1
#         and 0 is 1.6e-19; half of 500 and -500 in mode "I" is 2139062144. In "I;16" half of 1000
#         and 0 is 628. Masks of 0 and 255 only are right, and so is mode "L".
# Why:    the mask is applied to each byte of a pixel by itself, whatever the bytes mean: sign,
#         exponent and fraction of floats, low and high bytes of integers.
# Source: src/libImaging/Paste.c (images and colours with a mask of mode "L")
# Hurts:  who blends images of floats, 32-bit or 16-bit integers (depth, heat maps, masks with
#         soft borders, tiles with seams feathered): no error, and pixels of any size at the soft
#         border. `Image.blend` and `ImageChops` refuse modes I and I;16.
# Here:   only `alpha_composite` of 8-bit RGBA, for alpha on black; no masks.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import PIL
from PIL import Image

print("Pillow", PIL.__version__)


def half(mode, above, below):
    """A pixel of `above` over `below`, with a mask of 128."""
    size = (4, 4)
    images = [Image.new(mode, size, value) for value in (above, below)]
    mixed = Image.composite(*images, Image.new("L", size, 128))
    return np.asarray(mixed)[0, 0].item()


wrong = {}
for mode, pairs in {
    "L": [(200, 100), (1, 0)],
    "F": [(1000.0, 0.0), (1000.0, 500.0), (1.0, 0.0), (0.75, 0.25)],
    "I": [(1000, 0), (1000, 500), (500, -500)],
    "I;16": [(1000, 0), (40000, 39000), (255, 256)],
}.items():
    wrong[mode] = 0
    for above, below in pairs:
        right = (128 * above + 127 * below) / 255
        seen = half(mode, above, below)
        print(f"{mode}: {above} over {below} by half: {seen:.6g}, right is {right:.6g}")
        wrong[mode] += abs(seen - right) > 0.01 * abs(above - below) + (mode != "F")

# A picture of floats over its mirror image, with a soft border in the middle.
picture = np.tile(np.linspace(0.2, 0.9, 256, dtype=np.float32), (64, 1))
border = 255 / (1 + np.exp(-(np.arange(256) - 127.5) / 20))
mask = np.tile(border.round().astype(np.uint8), (64, 1))
images = [Image.fromarray(values.copy()) for values in (picture, picture[:, ::-1])]
mixed = np.asarray(Image.composite(*images, Image.fromarray(mask)))
weight = mask / 255.0
error = np.abs(mixed - (weight * picture + (1 - weight) * picture[:, ::-1]))
print(f"picture of floats from 0.2 to 0.9: errors up to {error.max():.2f}, from 0.01 on in "
      f"{(error > 0.01).mean():.0%} of the pixels")

if wrong["L"] or not (wrong["F"] and wrong["I"] and wrong["I;16"]) or error.max() < 0.05:
    sys.exit("no longer seen: numbers are mixed as numbers")
print("seen: bytes are mixed one by one")
PYTHON
