#!/usr/bin/env bash
# scikit-image: the bilateral filter of a 16-bit image is a plain blur without `sigma_color`.
#
# Guess:  `denoise_bilateral` of a uint16 image is that of the same image as floats: integers are
#         converted to 0 .. 1 (so the documentation), and `sigma_color` tells how different pixels
#         may be.
# Seen:   results with sigma_color of 0.01, 0.2 and the default are the same, edges are smeared,
#         and the image is worse than the noisy one by 10 dB and more.
# Why:    the largest value is taken before the conversion to floats, so that it is 65535 for an
#         image of 0 .. 1. Weights come from a table of 10000 steps up to the largest value: all
#         differences up to 1 fall into its first step, whose weight is 1. For uint8 the steps are
#         1/39 of the range, so that a small `sigma_color` is coarse.
# Source: skimage/restoration/_denoise.py, denoise_bilateral (max_value, then img_as_float)
# Hurts:  who denoises microscopy, X-ray or depth images of 16 bits and believes that edges are
#         kept. `img_as_float` before the call helps (but see
#         skimage_bilateral_kernel_sheared.sh).
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

# Dark and bright squares with noise.
rng = np.random.default_rng(0)
clean = 0.25 + 0.5 * np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((12, 12)))
noisy = clean + 0.05 * rng.standard_normal(clean.shape)
deep = np.round(65535 * noisy.clip(0, 1)).astype(np.uint16)
inner = (slice(10, -10), slice(10, -10))


def psnr(image):
    return -10 * np.log10(np.mean((image[inner] - clean[inner]) ** 2))


images = {
    "float64": deep / 65535,
    "uint8": np.round(deep / 257).astype(np.uint8),
    "uint16": deep,
}
print(f"noisy image: {psnr(images['float64']):.1f} dB")
results = {}
for name, image in images.items():
    for sigma in 0.01, 0.2, None:
        results[name, sigma] = denoise_bilateral(image, sigma_color=sigma, sigma_spatial=2)
        print(f"{name}, sigma_color={sigma}: {psnr(results[name, sigma]):.1f} dB")
flat = denoise_bilateral(images["float64"], sigma_color=1e6, sigma_spatial=2)

same = all(np.array_equal(results["uint16", 0.2], results["uint16", s]) for s in (0.01, None))
difference = np.abs(results["uint16", 0.2] - flat).max()
print(f"uint16: the same for all sigma_color: {same}")
print(f"        off float64 with sigma_color=1e6 by {difference:.1e}")
loss = psnr(results["float64", 0.2]) - psnr(results["uint16", 0.2])
if not (same and difference < 1e-6 and loss > 5):
    sys.exit("no longer seen: sigma_color has an effect on 16-bit images")
print("seen: 16-bit images are blurred across edges")
PYTHON
