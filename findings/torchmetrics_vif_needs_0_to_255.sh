#!/usr/bin/env bash
# TorchMetrics' visual information fidelity (VIF) of images in [0, 1] is another number, and ranks otherwise.
#
# Guess:  VIF does not depend on the unit of the pixels, or the documentation says which one it takes. Images
#         in [0, 1] are what other metrics of the package take: LPIPS with normalize=True, SSIM and PSNR with
#         data_range=1.
# Seen:   it is right for [0, 255] only, and neither documentation nor a warning says so. In [0, 1] noise
#         hardly counts: 0.98 instead of 0.32 for a standard deviation of 15 levels. A noisy image is then
#         better than a slightly blurred one; with [0, 255] it is the worse one. [-1, 1] is as bad.
# Why:    `sigma_n_sq`, the variance of the visual noise, is 2 in squared levels of 255. In [0, 1] that is
#         more than any variance of an image, and VIF becomes a ratio of energies that noise does not lower.
#         It has to be 2 / 255^2 there. There is no `data_range`; piq, one of its models, has it and scales.
# Source: https://github.com/Lightning-AI/torchmetrics/blob/master/src/torchmetrics/functional/image/vif.py
#         https://github.com/Lightning-AI/torchmetrics/issues/3184 (a `data_range` that was only documented)
# Hurts:  who reports VIF of restored, denoised or compressed images as networks give them: values near 1 that
#         cannot be compared with others, and another order of methods.
# Here:   VIF is not measured; PSNR and MS-SSIM take uint8 only (diffc_jax/metrics/pairs.py).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torchmetrics==1.9.0 torch==2.14.1 sewar==0.4.10 scikit-image==0.26.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import sewar
import torch
import torchmetrics
from scipy import ndimage
from skimage import data
from torchmetrics.image import VisualInformationFidelity

print("torchmetrics", torchmetrics.__version__)
photo = data.camera()[:256, :256]
noise = np.random.default_rng(0).normal(0, 15, photo.shape)
distorted = {
    "noise": (photo + noise).round().clip(0, 255).astype(np.uint8),
    "blur": ndimage.gaussian_filter(photo, 1),
}


def vif(preds, scale, offset=0.0, **settings):
    """VIF of pixels that are multiplied by `scale` and shifted."""
    images = [torch.from_numpy(image)[None, None].double() * scale + offset for image in (preds, photo)]
    return VisualInformationFidelity(**settings)(*images).item()


rows = {name: {} for name in distorted}
for name, image in distorted.items():
    rows[name] = {
        "sewar, uint8": sewar.vifp(photo, image),  # a control: another implementation
        "[0, 255]": vif(image, 1),  # a control: agrees with it
        "[0, 1], sigma_n_sq=2/255^2": vif(image, 1 / 255, sigma_n_sq=2 / 255**2),  # a control: agrees
        "[0, 1]": vif(image, 1 / 255),
        "[-1, 1]": vif(image, 1 / 127.5, -1),
    }
for setting in rows["noise"]:
    print(f"{setting}: noise {rows['noise'][setting]:.3f}, blur {rows['blur'][setting]:.3f}")

noisy, blurred = (list(rows[name].values()) for name in ("noise", "blur"))
right = np.ptp(noisy[:3]) < 1e-3 and np.ptp(blurred[:3]) < 1e-3 and noisy[0] < blurred[0]
turned = all(n > 0.9 and n > b for n, b in zip(noisy[3:], blurred[3:]))
if not (right and turned):
    sys.exit("no longer seen: VIF behaves otherwise")
print("seen: in [0, 1] noise hardly counts, and the order of the two images is the other one")
PYTHON
