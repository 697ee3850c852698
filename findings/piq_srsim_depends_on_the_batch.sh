#!/usr/bin/env bash
# piq: SR-SIM of an image depends on the other images of its batch.
#
# Guess:  `srsim(x, y, reduction="none")` scores each image by itself, as piq's other metrics do.
# Seen:   noisy photographs score 0.960, 0.949 and 0.964 alone, but 0.854, 0.834 and 0.859 in a
#         batch with a white image that is equal to its reference, and 0.824, 0.770 and 0.767 in one
#         with a noisy black image: less than with three times the noise alone (0.844, 0.813,
#         0.857).
# Why:    saliency maps are scaled to [0, 1] by the minimum and maximum of the whole batch,
#         `torch.min(map[:])`, not of each image. The spectrum of a flat image is one peak, for
#         which "spectral residual" saliency is huge: the maps of all others become nearly constant,
#         so that salient regions are no longer weighted. x and y are scaled apart, so their maps
#         may differ.
# Source: piq/srsim.py, _spectral_residual_visual_saliency
# Hurts:  who evaluates batches of patches or frames, some of which are flat (sky, paper, fades), or
#         trains with SRSIMLoss: scores depend on the size and order of batches. Among photographs
#         only, changes were at most 0.006.
# Here:   PSNR and MS-SSIM are our own, image by image (diffc_jax/metrics/pairs.py).
#
# PyTorch from PyPI takes 6 GB on Linux while this runs.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  piq==0.8.0 torch==2.13.0 torchvision==0.28.0 numpy==2.4.6 scikit-image==0.26.0

"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import numpy as np
import piq
import torch
from skimage import data

print("piq", importlib.metadata.version("piq"), "torch", torch.__version__)
torch.set_num_threads(1)
torch.manual_seed(0)
astronaut, coffee = data.astronaut(), data.coffee()
crops = astronaut[100:292, 100:292], coffee[100:292, 200:392], astronaut[300:492, 60:252]
x = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2) / 255
noise = torch.randn(x.shape)
y, worse = ((x + amount * noise).clamp(0, 1) for amount in (0.05, 0.15))
white, black = torch.ones(1, 3, 192, 192), torch.zeros(1, 3, 192, 192)
others = {"white": (white, white), "noisy black": (black, (0.02 * noise[:1]).clamp(0, 1))}


def scores(metric, x, y):
    return metric(x, y, reduction="none").flatten()


def alone(metric, y):
    return torch.cat([scores(metric, x[i : i + 1], y[i : i + 1]) for i in range(3)])


def in_batch(metric, a, b):
    return scores(metric, torch.cat([x, a]), torch.cat([y, b]))[:3]


def text(values):
    return ", ".join(f"{value:.3f}" for value in values)


change = {}
for name in ("srsim", "fsim", "vsi", "gmsd", "haarpsi", "mdsi", "ssim"):
    metric = getattr(piq, name)
    single = alone(metric, y)
    batches = {label: in_batch(metric, *other) for label, other in others.items()}
    change[name] = max((batch - single).abs().max().item() for batch in batches.values())
    print(f"{name}: alone {text(single)}; largest change in a batch {change[name]:.6f}")
    if name == "srsim":
        for label, batch in batches.items():
            print(f"  in a batch with another image ({label}): {text(batch)}")
        print(f"  three times the noise, alone: {text(alone(metric, worse))}")

if change.pop("srsim") < 0.05 or max(change.values()) > 1e-4:
    sys.exit("no longer seen: SR-SIM scores each image by itself, or the other metrics do not")
print("seen: SR-SIM depends on the other images of the batch")
PYTHON
