#!/usr/bin/env bash
# TorchMetrics' universal image quality index (UQI) of an image with a flat area and itself is -1e10 or 0.1.
#
# Guess:  UQI is between -1 and 1, and 1 for an image and itself. Where a window is flat in both images, the
#         authors' code takes the index of their brightness alone, which is 1 if they are equal.
# Seen:   a drawing on white, compared with itself, has -4e10 in [0, 255], in float64 as well, and about 0.1
#         in [0, 1], as on black, instead of 1.
# Why:    variances are mean(x^2) - mean(x)^2, cut off at 0, but the covariance is not cut off. In a flat
#         window it is a rounding error of 255^2, of either sign, and it is divided by eps, 1e-7, as both
#         variances are 0. Where it happens to be 0, so is the index, not 1.
# Source: https://github.com/Lightning-AI/torchmetrics/blob/master/src/torchmetrics/functional/image/uqi.py
#         https://github.com/Lightning-AI/torchmetrics/issues/2221 (NaN in such areas, which `eps` replaced)
# Hurts:  who reports UQI, or the spectral distortion index and QNR made of it, of documents, digits, medical
#         or satellite images with borders, clipped skies or masks: one flat area outweighs all images.
# Here:   UQI is not measured.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import torchmetrics
from torchmetrics.image import UniversalImageQualityIndex

print("torchmetrics", torchmetrics.__version__)
generator = torch.Generator().manual_seed(0)
drawing = torch.randint(0, 256, (1, 1, 20, 50), generator=generator)
everywhere = torch.randint(0, 256, (1, 1, 128, 128), generator=generator)


def canvas(level):
    """A small drawing on a large flat background."""
    image = torch.full((1, 1, 128, 128), level)
    image[..., 40:60, 40:90] = drawing
    return image


images = {
    "no flat area": everywhere,  # a control: right
    "on white": canvas(255),
    "on grey": canvas(77),
    "on black": canvas(0),
}
seen = {}
for name, image in images.items():
    for unit, x in {
        "[0, 255]": image.float(),
        "[0, 1]": image.float() / 255,
        "float64 in [0, 255]": image.double(),
    }.items():
        value = UniversalImageQualityIndex()(x, x).item()
        print(f"{name}, {unit}: UQI with itself {value:.4g}")
        seen[name, unit] = value

right = all(abs(value - 1) < 1e-3 for (name, _), value in seen.items() if name == "no flat area")
flat = {key: value for key, value in seen.items() if key[0] != "no flat area"}
wrong = all(abs(value - 1) > 0.4 for value in flat.values()) and min(flat.values()) < -100
if not (right and wrong):
    sys.exit("no longer seen: an image with a flat area is equal to itself")
print("seen: an image with a flat area and itself have no index of 1, but any number")
PYTHON
