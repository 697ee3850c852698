#!/usr/bin/env bash
# prodigyopt: parameters whose learning rate is 0 keep moving.
#
# Guess:  a group with lr=0 stays as it is. 0 is the one other rate that groups may have: "Setting
#         different lr values in different parameter groups is only supported for values of 0".
# Seen:   a group whose rate is set to 0 after 300 steps goes on in one direction for ever: the loss
#         of a linear model rises from 0.2 to 28000 in 1700 steps, while the other group is trained.
#         A group with lr=0 from the start shrinks by weight decay as fast as those that are
#         trained. With AdamW both stay.
# Why:    the first loop skips groups with lr=0, so that their averages of gradients are frozen, but
#         the second one makes the step of all groups, with one `dlr` that comes from the largest
#         rate: the last momentum is applied at each step, and so is the decoupled weight decay.
#         With betas=(0, ...) the gradient is divided by d * eps, and the group becomes NaN.
# Source: prodigyopt/prodigy.py, step. https://github.com/konstmish/prodigy; no issue was found.
# Hurts:  who freezes a part of a model by its rate, as for a text encoder that stops before the
#         rest, or by a schedule for each group: nothing warns, and the frozen part is destroyed.
# Cure:   `p.grad = None` (or requires_grad=False and zero_grad()) for what shall stay; groups
#         without gradients are skipped.
#
# PyTorch from PyPI takes 6 GB on Linux while this runs.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  prodigyopt==1.1.2 torch==2.13.0 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import torch
from prodigyopt import Prodigy

print("prodigyopt", importlib.metadata.version("prodigyopt"), "torch", torch.__version__)
torch.set_num_threads(1)


def train(name, decay, stop, how="lr"):
    """Loss at the stop and in the end, and how far the second group has moved since."""
    torch.manual_seed(0)
    first, second = torch.nn.Parameter(torch.zeros(50)), torch.nn.Parameter(torch.randn(50))
    target = torch.randn(100)
    groups = [{"params": [first]}, {"params": [second]}]
    if name == "prodigy":
        optimizer = Prodigy(groups, lr=1.0, weight_decay=decay, decouple=True)
    else:
        optimizer = torch.optim.AdamW(groups, lr=0.03, weight_decay=decay)
    for step in range(2000):
        inputs = torch.randn(64, 100)
        error = inputs @ (torch.cat([first, second]) - target) + 0.3 * torch.randn(64)
        loss = error.square().mean()
        if step == stop:
            at_stop, value = loss.item(), second.detach().clone()
            if how == "lr":
                optimizer.param_groups[1]["lr"] = 0.0
        optimizer.zero_grad()
        loss.backward()
        if how == "grad" and step >= stop:
            second.grad = None
        optimizer.step()
    moved = ((second - value).norm() / value.norm()).item()
    print(f"{name:7} weight decay {decay:4}, frozen from step {stop:3} by {how:4}: loss there "
          f"{at_stop:7.2f}, in the end {loss.item():8.2f}, frozen part moved by {moved:.1%}")
    return moved


moved = [train("prodigy", 0.0, 300), train("prodigy", 0.01, 300), train("prodigy", 0.01, 0)]
still = [train("prodigy", 0.0, 0), train("prodigy", 0.01, 300, "grad"), train("adamw", 0.01, 300)]
if min(moved) < 0.3 or max(still) > 0:
    sys.exit("no longer seen: groups with lr=0 stay")
print("seen: groups with lr=0 move")
PYTHON
