#!/usr/bin/env bash
# pytorch-msssim: SSIM of any two 8-bit images is exactly 1.
#
# Guess:  SSIM of uint8 tensors with data_range=255, as image files are read, is that of the same values as
#         floats, or an error. The documentation asks for non-negative RGB images, "0~255".
# Seen:   `ssim` and `SSIM` are 1 for an image and its noisy copy, its negative, black, for all.
#         `ms_ssim` refuses uint8, as it happens: PyTorch's pooling does.
# Why:    the Gaussian window is cast to the type of the images. Its weights are below 1 and become 0, all
#         means and variances are 0, and C1 C2 / (C1 C2) is 1.
# Source: https://github.com/VainF/pytorch-msssim/blob/master/pytorch_msssim/ssim.py (`win.to`)
#         https://github.com/Po-Hsun-Su/pytorch-ssim/issues/20 (the same in another package)
# Hurts:  who measures restored or compressed images after rounding them to bytes: all are perfect.
# Here:   PSNR and MS-SSIM are our own, and take uint8 (diffc_jax/metrics/pairs.py).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  pytorch-msssim==1.0.0 torch==2.14.1 numpy==2.4.6 scikit-image==0.26.0

"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import sys
import warnings

import torch
from pytorch_msssim import SSIM
from skimage import data
from skimage.metrics import structural_similarity

warnings.simplefilter("error")  # none comes
print("pytorch-msssim", importlib.metadata.version("pytorch-msssim"))
torch.manual_seed(0)
photo = torch.from_numpy(data.astronaut()[:256, :256]).permute(2, 0, 1)[None]
noisy = (photo + 30 * torch.randn(photo.shape)).round().clamp(0, 255).to(torch.uint8)
others = {"noisy": noisy, "negative": 255 - photo, "black": torch.zeros_like(photo)}

right, ones = [], []
for name, other in others.items():
    control = structural_similarity(
        *(image[0].permute(1, 2, 0).numpy() for image in (photo, other)),
        channel_axis=2, gaussian_weights=True, use_sample_covariance=False, data_range=255,
    )
    floats, bytes_ = (
        SSIM(data_range=255)(photo.to(kind), other.to(kind)).item()
        for kind in (torch.float32, torch.uint8)
    )
    print(
        f"photograph and its {name} version: {bytes_:.3f} of uint8, {floats:.3f} of float32,"
        f" {control:.3f} by scikit-image"
    )
    right.append(abs(floats - control) < 0.02 and floats < 0.6)
    ones.append(bytes_)

if not all(right) or set(ones) != {1.0}:
    sys.exit("no longer seen: 8-bit images differ")
print("seen: SSIM of all 8-bit images is 1")
PYTHON
