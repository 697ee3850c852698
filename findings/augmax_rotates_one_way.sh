#!/usr/bin/env bash
# augmax's Rotate turns images one way only, if it is not applied to all.
#
# Guess:  `Rotate((-30, 30), p=0.5)` leaves half of the images and turns the others by angles
#         between -30 and 30 degrees, uniformly, as with p=1.
# Seen:   by angles between -30 and 0 only; with p=0.25, between -30 and -15. Those in the upper
#         part of the range never come: what is applied are the lowest p of all angles.
# Why:    one key draws both whether to rotate (`bernoulli(rng, p)`, that is u < p) and the angle
#         (`uniform(rng, ...)`, from the same u).
# Source: https://github.com/khdlr/augmax, Rotate.transform_coordinates in augmax/geometric.py; no
#         issue was found. All other transforms with a probability split their keys or draw
#         numbers of another kind. The documentation says "random arbitrary angle".
# Hurts:  training with rotations in some of the images (the default is p=1): a classifier never
#         sees the other way, and key points and boxes get a bias of 15 degrees.
# Cure:   `Rotate` with p=1, and a `jnp.where` of one's own.
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
SIZE, DRAWS = 17, 2000
rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32) - SIZE // 2
plane = jnp.asarray(np.stack([rows, columns], axis=-1))  # each pixel holds its position


def angles(p):
    rotate = augmax.Rotate((-30, 30), p=p)
    keys = jax.random.split(jax.random.key(0), DRAWS)
    pixel = jax.jit(jax.vmap(lambda key: rotate(key, plane)[SIZE // 2, SIZE // 2 + 4]))(keys)
    return np.degrees(np.arctan2(*np.asarray(pixel, np.float64).T))


seen = {}
for p in (1.0, 0.5, 0.25):
    found = angles(p)
    turned = found[np.abs(found) > 1e-3]
    seen[p] = turned
    print(f"p={p:4}: {len(turned) / DRAWS:.0%} turned, by {turned.min():6.2f} to "
          f"{turned.max():6.2f} degrees, mean {turned.mean():6.2f}; "
          f"{np.mean(turned > 0):.0%} of these the other way")

even = abs(np.mean(seen[1.0] > 0) - 0.5) < 0.05
if not (even and len(seen[0.5]) > 800 and seen[0.5].max() < 0.1 and seen[0.25].max() < -14):
    sys.exit("no longer seen: images are turned both ways")
print("seen: with p < 1 images are turned one way only")
PYTHON
