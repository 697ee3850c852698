#!/usr/bin/env bash
# OpenCV: stackBlur of 16-bit images wraps around.
#
# Guess:  `cv2.stackBlur` of a constant image is that image, in all types it accepts (uint8,
#         uint16, int16, float32), and that of a uint16 image is that of the same values as
#         float32, rounded.
# Seen:   40000 becomes 34575 with a kernel of 7 x 7 and 3220 with 101 x 101; 20000 of int16
#         becomes -12768 with 31 x 31. uint8 and float32 are right.
# Why:    pixels left and right of the center are added in 16 bits, where sums stop at 65535 (32767
#         for int16). The weighted sum is then multiplied by a number from a table and shifted right
#         by up to 24 bits, all in 32 bits; the tables were made for 8-bit values. Values of uint16
#         must stay below 2^(32 - shift): 32768 with 31 x 31, 4096 with 101 x 101.
# Source: modules/imgproc/src/stackblur.cpp (stackblurMul, stackblurShr)
#         https://github.com/opencv/opencv/pull/20379 (where it was added)
# Hurts:  who blurs 16-bit images (depth, X-ray, microscopy, HDR) with the blur that is
#         recommended for large kernels: bright areas are dark, banded or negative. Data of 10 or
#         12 bits look right with small kernels.
# Here:   OpenCV is not used.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  opencv-python-headless==5.0.0.93 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import cv2
import numpy as np

print("OpenCV", cv2.__version__)


def center_of(value, size, dtype="uint16"):
    """What a constant image becomes, far from its border."""
    return cv2.stackBlur(np.full((256, 256), value, dtype), (size, size))[128, 128].item()


worst = dict.fromkeys(("uint8", "uint16", "int16", "float32"), 0.0)
for name, value in {"uint8": 200, "uint16": 40000, "int16": 20000, "float32": 0.6}.items():
    for size in 3, 5, 7, 31, 101:
        center = center_of(value, size, name)
        worst[name] = max(worst[name], abs(center - value) / value)
        print(f"{name}, {size} x {size}: {value} becomes {center:g}")

# The largest constant that survives.
for size in 7, 31, 101:
    wrong = (
        value
        for value in range(0, 65536, 50)
        if abs(center_of(value, size) - value) > 0.01 * value + 1
    )
    print(f"uint16, {size} x {size}: wrong from about {next(wrong, None)} on")

# A picture: smooth, from black to white.
y, x = np.mgrid[:256, :256]
picture = np.round(65535 * (0.5 + 0.5 * np.sin(x / 40) * np.cos(y / 30)))
right = cv2.stackBlur(picture.astype(np.float32), (31, 31))
seen = cv2.stackBlur(picture.astype(np.uint16), (31, 31))
far = np.abs(seen - right) > 0.05 * 65535
print(f"smooth picture, 31 x 31: {far.mean():.0%} of the pixels off by more than 5 % of the range")

safe = max(worst["uint8"], worst["float32"]) < 0.01
if not (safe and worst["uint16"] > 0.1 and worst["int16"] > 0.1 and far.any()):
    sys.exit("no longer seen: 16-bit images keep their values, or others do not")
print("seen: 16-bit images wrap around")
PYTHON
