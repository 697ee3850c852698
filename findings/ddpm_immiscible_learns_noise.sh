#!/usr/bin/env bash
# denoising-diffusion-pytorch: with immiscible=True a model learns nothing about the noise.
#
# Guess:  `GaussianDiffusion(..., immiscible=True)` pairs images with near noise, as in the paper,
#         and trains faster than without.
# Seen:   with objective="pred_v" (the default) and "pred_noise" models learn that the noise is 0 on
#         average, whatever the image: the loss stays at that level, and samples are noisy at any
#         length of training. Of two patterns, 99 % of the samples are one of both without the
#         option, and none or few with it. Only "pred_x0" is right.
# Why:    `q_sample` puts the batch of noise in another order, `noise = noise[assign]`, and returns
#         the noisy images only. `p_losses` then takes its own `noise`, in the order of before, as
#         the target: the noise of another image of the batch.
# Source: denoising_diffusion_pytorch/denoising_diffusion_pytorch.py, q_sample and p_losses. No
#         issue was found. Immiscible Diffusion, https://arxiv.org/abs/2406.12303
# Hurts:  who switches the option on to train faster, or compares it: the loss falls at first, since
#         the part of v that is image is learned, and the samples look like too little training.
# Cure:   without the option, or objective="pred_x0", or noise assigned before `p_losses(noise=)`.
#
# PyTorch from PyPI takes 6 GB on Linux while this runs.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  denoising-diffusion-pytorch==2.3.4 torch==2.13.0 torchvision==0.28.0 numpy==2.4.6

"$folder/venv/bin/python" - 2> "$folder/log" <<'PYTHON' || { tail -n 5 "$folder/log" >&2; exit 1; }
import sys

import torch
from denoising_diffusion_pytorch import GaussianDiffusion
from denoising_diffusion_pytorch.version import __version__
from torch import nn

print("denoising-diffusion-pytorch", __version__, "torch", torch.__version__)
torch.set_num_threads(1)
steps = 100
patterns = torch.tensor([[0.9, 0.1, 0.1, 0.9], [0.1, 0.9, 0.9, 0.1]]).view(2, 1, 2, 2)


class Network(nn.Module):
    """A small network for images of 2 x 2 pixels, with what GaussianDiffusion asks of one."""

    channels = out_dim = 1
    self_condition = False

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(12, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(),
                                    nn.Linear(96, 4))

    def forward(self, x, time, _=None):
        angle = time[:, None] / steps * torch.tensor([1.5, 3.0, 6.0, 12.0])
        return self.layers(torch.cat([x.flatten(1), angle.sin(), angle.cos()], 1)).view_as(x)


def train(objective, immiscible):
    """Mean loss of the last 100 of 1000 steps, and the share of samples near a pattern."""
    torch.manual_seed(0)
    diffusion = GaussianDiffusion(Network(), image_size=2, timesteps=steps, objective=objective,
                                  immiscible=immiscible)
    optimizer = torch.optim.Adam(diffusion.parameters(), 2e-3)
    losses = []
    for _ in range(1000):
        loss = diffusion(patterns[torch.randint(0, 2, (128,))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    samples = diffusion.sample(500)
    error = (samples[:, None] - patterns[None]).flatten(2).pow(2).mean(-1).amin(1).sqrt()
    return sum(losses[-100:]) / 100, (error < 0.05).float().mean().item(), error.median().item()


near = {}
for objective in ("pred_v", "pred_noise", "pred_x0"):
    for immiscible in (False, True):
        loss, near[objective, immiscible], error = train(objective, immiscible)
        share = near[objective, immiscible]
        print(f"{objective:10} immiscible={immiscible!s:5}: loss {loss:.3f}, {share:4.0%}"
              f" of the samples near a pattern, median error {error:.3f}", flush=True)

right = [share for key, share in near.items() if not key[1] or key[0] == "pred_x0"]
wrong = [near["pred_v", True], near["pred_noise", True]]
if max(wrong) > 0.3 or min(right) < 0.7:
    sys.exit("no longer seen: models learn the noise with immiscible=True")
print("seen: with immiscible=True the noise is not learned")
PYTHON
