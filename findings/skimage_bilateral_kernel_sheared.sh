#!/usr/bin/env bash
# scikit-image: the spatial weights of the bilateral filter are sheared into two arcs.
#
# Guess:  with a very large `sigma_color`, `denoise_bilateral` is a Gaussian blur with
#         `sigma_spatial`: each pixel weighs most in its own result, and pictures stay where they
#         are.
# Seen:   a single bright pixel becomes two arcs beside it, and has a weight of 0 where it was; the
#         picture moves by more than a pixel. Noisy squares come out 4 to 6 dB worse than by the
#         definition, or worse than the noisy ones. Float images as well, all odd windows (the
#         default).
# Why:    weights are computed on arange(-win_size // 2, win_size // 2 + 1). As -5 // 2 is -3,
#         that is one point more than the window has, for odd sizes. The table is then read with
#         rows of win_size, so that each row is off by one more.
# Source: skimage/restoration/_denoise.py, _compute_spatial_lut; _denoise_cy.pyx,
#         _denoise_bilateral
# Hurts:  who uses it to denoise, or as the baseline in a comparison of denoisers: quality is lost,
#         images are moved, and a `sigma_color` tuned for it means nothing elsewhere.
# Here:   not used.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-image==0.26.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import skimage
from skimage.restoration import denoise_bilateral

print("scikit-image", skimage.__version__)


def bilateral(image, color, spatial):
    """By its definition, with the window that scikit-image takes."""
    radius = max(5, 2 * int(np.ceil(3 * spatial)) + 1) // 2
    padded = np.pad(image, radius, mode="edge")
    total, weights = 0.0, 0.0
    for y in range(2 * radius + 1):
        for x in range(2 * radius + 1):
            other = padded[y : y + image.shape[0], x : x + image.shape[1]]
            square = ((y - radius) ** 2 + (x - radius) ** 2) / spatial**2
            weight = np.exp(-0.5 * (square + (other - image) ** 2 / color**2))
            total, weights = total + weight * other, weights + weight
    return total / weights


def library(image, color, spatial):
    return denoise_bilateral(image, sigma_color=color, sigma_spatial=spatial, mode="edge")


point = np.zeros((21, 21))
point[10, 10] = 1
seen, right = library(point, 1e6, 1), bilateral(point, 1e6, 1)
print("a bright pixel, sigma_spatial=1, sigma_color=1e6, thousandths:")
print(np.round(1000 * seen[6:15, 6:15]).astype(int))
print("by the definition:")
print(np.round(1000 * right[6:15, 6:15]).astype(int))
own = seen[10, 10] / right[10, 10]
rows = (seen.sum(1) * np.arange(21)).sum() / seen.sum() - 10
print(f"own weight {own:.3f} of what it is; the pixel moves by {rows:.2f} rows")

# Bright and dark squares with noise.
rng = np.random.default_rng(0)
clean = 0.25 + 0.5 * np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((12, 12)))
noisy = clean + 0.1 * rng.standard_normal(clean.shape)


def psnr(image):
    return -10 * np.log10(np.mean((image - clean) ** 2))


print(f"noisy squares: {psnr(noisy):.1f} dB")
for color in 0.1, 0.2, 0.3:
    both = [psnr(f(noisy, color, 2)) for f in (library, bilateral)]
    print(f"sigma_color={color}: {both[0]:.1f} dB, by the definition {both[1]:.1f} dB")

if own > 0.5 or abs(rows) < 0.5:
    sys.exit("no longer seen: the weights are largest in the middle")
print("seen: weights are in the wrong places")
PYTHON
