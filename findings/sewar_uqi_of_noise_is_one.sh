#!/usr/bin/env bash
# sewar's universal image quality index (UQI, UIQI, Q) is near 1 for images that have nothing in common.
#
# Guess:  UQI is the mean over windows of 4 c mx my / ((vx + vy) (mx^2 + my^2)), with means m, variances v and
#         the covariance c of the two images: 1 for equal ones, about 0 for independent ones, and negative
#         where one goes up as the other goes down.
# Seen:   independent noise has 0.98 instead of 0.00, a photograph and its mean grey 0.65 instead of 0.00, a
#         photograph and its negative 0.38 instead of -0.60, one blurred over 3 pixels 0.95 instead of 0.48.
# Why:    the formula is that of Wang and Bovik for sums over the window, N sum(xy) - sum(x) sum(y), but means
#         (`uniform_filter`) are put in. N mean(xy) - mean(x) mean(y) is nearly N mean(xy), and the index
#         compares little but brightness.
# Source: https://github.com/andrewekhalel/sewar/blob/master/sewar/full_ref.py (_uqi_single)
#         https://github.com/lanha/DSen2/issues/11 (published values not met: sewar's are higher)
# Hurts:  who reports UQI, as is common for satellite images: all methods look nearly perfect and alike.
# Here:   UQI is not measured.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  sewar==0.4.10 scikit-image==0.26.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import sewar
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage
from skimage import data

print("sewar", importlib.metadata.version("sewar"))


def defined(x, y, window):
    """UQI as it is defined, each window by itself; where both are flat, the index of their brightness."""
    x, y = (sliding_window_view(image.astype(float), (window, window)) for image in (x, y))
    axes = (-2, -1)
    mx, my, vx, vy = x.mean(axes), y.mean(axes), x.var(axes), y.var(axes)
    covariance = (x * y).mean(axes) - mx * my
    brightness = 2 * mx * my / (mx**2 + my**2)
    structure = np.divide(2 * covariance, vx + vy, out=np.ones_like(vx), where=vx + vy > 0)
    return (brightness * structure).mean()


generator = np.random.default_rng(0)
photo = data.camera()[100:228, 180:308]
noise, other_noise = generator.integers(100, 156, (2, 128, 128)).astype(np.uint8)
pairs = {
    "the same photograph": (photo, photo),  # a control: right
    "photograph and its mean grey": (photo, np.full_like(photo, int(photo.mean()))),
    "photograph and its negative": (photo, 255 - photo),
    "photograph and its blur": (photo, ndimage.gaussian_filter(photo, 3)),
    "independent noise": (noise, other_noise),
}
excess = {}
for name, (x, y) in pairs.items():
    for window in (8, 16):
        value, true = sewar.uqi(x, y, ws=window), defined(x, y, window)
        print(f"{name}, window {window}: {value:.3f}, by definition {true:.3f}")
        excess[name, window] = value - true

far = {name for (name, window), by in excess.items() if window == 8 and by > 0.3}
if far != set(pairs) - {"the same photograph"} or abs(excess["the same photograph", 8]) > 1e-6:
    sys.exit("no longer seen: UQI is another number")
print("seen: UQI is high for images that have nothing in common")
PYTHON
