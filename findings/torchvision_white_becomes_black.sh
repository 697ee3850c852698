#!/usr/bin/env bash
# torchvision turns white into black where it converts images from half precision, or to 16 bits.
#
# Guess:  `to_dtype(image, dtype, scale=True)` maps 0 .. 1 to the range of the integers for all floating
#         types: 1.0 becomes 255 of uint8 and 65535 of uint16.
# Seen:   1.0 becomes 0 from bfloat16 and float16, and from float32 with uint16. All that rounds to 1.0 does:
#         in bfloat16 what is above 0.998, so that highlights and white backgrounds are black. float64 is
#         right, as is float32 to uint8. The other way, uint16 to float16 gives inf from 65520 on.
# Why:    the image is multiplied by max + 1 - 0.001 in its own type. 255.999 is 256 with the 8 bits of
#         bfloat16 and the 11 of float16, 65535.999 is 65536 with the 24 of float32, and the cast to the
#         integer wraps around (seen on CPUs). uint16 is cast to float16, whose largest value is 65504, and
#         then divided.
# Source: torchvision/transforms/v2/functional/_misc.py, to_dtype_image
#         https://github.com/pytorch/vision/issues/6799 (half precision; open since 2022)
# Hurts:  who decodes images with a network in bfloat16 (a VAE, a codec), clamps them and saves them so, and
#         who scales 16-bit images to floats, transforms them and goes back: pictures and metrics are wrong
#         where the image is brightest, by the whole range.
# Here:   `unit_to_pixels` in diffc_jax/diffusion/process.py rounds, clips and then casts.
#
# PyTorch from PyPI takes 6 GB on Linux while this runs.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torchvision==0.29.1 torch==2.14.1 numpy==2.4.6

"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
import torchvision
from torchvision.transforms.v2.functional import to_dtype

print("torchvision", torchvision.__version__, "torch", torch.__version__)

# A ramp as a network's output is: clamped to 0 .. 1.
ramp = torch.linspace(-0.01, 1.01, 1021, dtype=torch.float64).clamp(0, 1).reshape(1, 1, -1)
expected = True
for to, largest in ((torch.uint8, 255), (torch.uint16, 65535)):
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        image = ramp.to(dtype)
        levels = to_dtype(image, to, scale=True).double()
        error = (levels - image.double() * largest).abs().flatten()
        wrong = error > 0.02 * largest
        lowest = f", from {image.flatten()[wrong].min():.4f} on" if wrong.any() else ""
        print(f"{dtype} to {to}: 1.0 becomes {int(levels[..., -1])}{lowest}")
        safe = dtype == torch.float64 or (dtype, to) == (torch.float32, torch.uint8)
        expected &= levels[..., -1].item() == (largest if safe else 0)

deep = torch.tensor([0, 32768, 65503, 65519, 65520, 65535]).to(torch.uint16).reshape(1, 1, -1)
print(f"uint16 {deep.flatten().tolist()}")
for dtype in (torch.float32, torch.float16):
    print(f"  to {dtype}: {to_dtype(deep, dtype, scale=True).flatten().tolist()}")
expected &= to_dtype(deep, torch.float16, scale=True)[..., -2:].isinf().all().item()

if not expected:
    sys.exit("no longer seen: white stays white, or other conversions are wrong")
print("seen: white is black")
PYTHON
