#!/usr/bin/env bash
# augmax's RandomSizedCrop zooms out beyond the image, although that is switched off.
#
# Guess:  with `prevent_underzoom=True`, the default ("whether to prevent zooming beyond the image
#         size"), a crop of 224x224 from an image of 256x256 holds pixels of the image only.
# Seen:   40 % of the crops have black borders, and up to 67 % of a crop is black (the image shrunk
#         to half its size). Of crops of 96x96 from 64x64, 80 % have borders.
# Why:    the smallest zoom that is allowed is `log(height / H)` instead of `height / H`: below 0
#         for crops that are smaller than the image, so that the limit never applies. (The
#         logarithm is taken again later, where zooms are drawn.)
# Source: https://github.com/khdlr/augmax, RandomSizedCrop.transform_coordinates in
#         augmax/geometric.py; no issue was found.
# Hurts:  image classifiers trained with the default zoom_range=(0.5, 2): images shrunk below the
#         crop and framed in black, as validation images never are.
# Cure:   `zoom_range=(max(height / H, width / W), 2)`, which the limit should do.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  augmax==0.4.1 jax==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import importlib.metadata
import sys

import augmax
import jax
import jax.numpy as jnp
import numpy as np

print("augmax", importlib.metadata.version("augmax"), "jax", jax.__version__)
SIZE, CROP, DRAWS = 64, 56, 500  # as 256 and 224
keys = jax.random.split(jax.random.key(0), DRAWS)


def black(crop, **options):
    """For each draw, the part of the crop that is not from the image (which is white)."""
    transform = augmax.RandomSizedCrop(crop, crop, **options)
    white = jnp.ones((SIZE, SIZE, 1))
    out = np.asarray(jax.jit(jax.vmap(lambda key: transform(key, white)))(keys))
    return np.mean(out < 0.5, axis=(1, 2, 3))


default = black(CROP)
larger = black(96)
narrow = black(CROP, zoom_range=(CROP / SIZE, 2.0))
# Zooms are drawn uniformly in their logarithms between 0.5 and 2.
share = np.log(CROP / SIZE / 0.5) / np.log(4)
print(f"crops of {CROP} from {SIZE}: {np.mean(default > 0):.0%} with a border (zooms below "
      f"{CROP / SIZE}: {share:.0%}), up to {default.max():.0%} black")
print(f"crops of 96 from {SIZE}: {np.mean(larger > 0):.0%} with a border")
print(f"crops of {CROP} from {SIZE} with zoom_range=({CROP / SIZE}, 2): "
      f"{np.mean(narrow > 0):.0%} with a border")
if not (abs(np.mean(default > 0) - share) < 0.08 and default.max() > 0.5
        and np.mean(narrow > 0) < 0.02):
    sys.exit("no longer seen: crops hold pixels of the image only")
print("seen: crops have black borders although underzoom is prevented")
PYTHON
