#!/usr/bin/env bash
# TorchMetrics' relative average spectral error (RASE) is too large by the area of the window.
#
# Guess:  RASE is an error in percent of the mean: 100 / M sqrt(mean over bands of RMSE^2), here in each
#         window. If all pixels are 10 % too bright, it is 10, whatever the window.
# Seen:   640 with the default windows of 8x8 pixels, 160 with 4x4, 2560 with 16x16.
# Why:    the mean M of a window is a uniform filter divided by the area of the window, but the filter is a
#         mean already. sewar, whose version 0.4.10 the script compares with, does not do it.
# Source: https://github.com/Lightning-AI/torchmetrics/blob/master/src/torchmetrics/functional/image/rase.py
#         The example in TorchMetrics' documentation, two independent noises, has 5326 %.
# Hurts:  who reports RASE of pansharpened or fused satellite images: values 64 times those of papers, and
#         larger windows seem to be worse. The order of methods with one window is right.
# Here:   RASE is not measured.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torchmetrics==1.9.0 torch==2.14.1 sewar==0.4.10 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import sewar
import torch
import torchmetrics
from torchmetrics.image import ErrorRelativeGlobalDimensionlessSynthesis, RelativeAverageSpectralError

print("torchmetrics", torchmetrics.__version__)
target = np.random.default_rng(0).uniform(100, 110, (64, 64, 3))
preds = target * 1.1  # an error of 10 % everywhere


def tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None]


# a control: ERGAS, a related index, which is 100 times the relative error for ratio=1
control = ErrorRelativeGlobalDimensionlessSynthesis(ratio=1)(tensor(preds), tensor(target)).item()
print(f"an error of 10 %: ERGAS {control:.2f}")
factors = []
for window in (4, 8, 16):
    windows = np.lib.stride_tricks.sliding_window_view(target, (window, window), axis=(0, 1))
    errors = np.lib.stride_tricks.sliding_window_view((preds - target) ** 2, (window, window), axis=(0, 1))
    defined = 100 / windows.mean((2, 3, 4)) * np.sqrt(errors.mean((2, 3, 4)))
    value = RelativeAverageSpectralError(window_size=window)(tensor(preds), tensor(target)).item()
    other = float(sewar.rase(target, preds, ws=window))  # a control: agrees with the definition
    print(
        f"windows of {window}x{window}: torchmetrics {value:.1f}, sewar {other:.1f},"
        f" by definition {defined.mean():.2f}"
    )
    factors += [value / defined.mean() / window**2, other / defined.mean()]

if abs(control - 10) > 0.1 or max(abs(factor - 1) for factor in factors) > 0.02:
    sys.exit("no longer seen: RASE is another number")
print("seen: RASE is multiplied by the number of pixels of a window")
PYTHON
