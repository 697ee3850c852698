#!/usr/bin/env bash
# augmax's ColorJitter does nothing for most sets of strengths that contain a 0.
#
# Guess:  `ColorJitter(brightness=0, contrast=0, saturation=0, hue=0.2)` shifts hues: a strength of
#         0 turns its part off, and no other.
# Seen:   the image comes back unchanged, with p=1 and p=0.5. So does contrast alone, with p=1.
#         Two strengths of 0 also turn off the last of the others. Saturation is never changed,
#         whatever its strength (this part is known).
# Why:    a key is split for each strength above 0, but keys are paired with all four parts, by
#         `zip(["brightness", "contrast", "hue", "saturation"], keys)`, before those of strength 0
#         are left out: with one key only brightness is looked at.
# Source: https://github.com/khdlr/augmax, ColorJitter in augmax/colorspace.py; for saturation,
#         issue 2 of Physical-Intelligence/augmax and pull request 12 of khdlr/augmax; no issue
#         about the keys was found.
# Hurts:  who compares augmentations one by one (hue "has no effect"), or wants colours changed and
#         brightness kept: nothing is augmented, and nothing says so.
# Cure:   strengths of 1e-6 instead of 0 (not for saturation).
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  augmax==0.4.1 jax==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import colorsys
import importlib.metadata
import sys

import augmax
import jax
import numpy as np

print("augmax", importlib.metadata.version("augmax"), "jax", jax.__version__)
image = np.random.default_rng(0).uniform(0.2, 0.8, (4, 4, 3)).astype(np.float32)
keys = jax.random.split(jax.random.key(0), 200)
NAMES = ("brightness", "contrast", "saturation", "hue")
before = np.array([colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3)])


def changed(p=1.0, **strengths):
    """Part of the draws that change the image, and the largest shift of a hue."""
    strengths = dict.fromkeys(NAMES, 0) | strengths
    transform = augmax.ColorJitter(**strengths, p=p)
    out = np.asarray(jax.jit(jax.vmap(lambda key: transform(key, image)))(keys))
    share = np.mean(np.abs(out - image).max((1, 2, 3)) > 1e-4)
    pixels = out[:, 0, 0].clip(0, 1)
    hues = np.array([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels]) - before[0, 0]
    return share, np.abs((hues + 0.5) % 1 - 0.5).max()


alone = {}
for name in NAMES:
    alone[name] = changed(**{name: 0.2})[0]
    half = changed(0.5, **{name: 0.2})[0]
    print(f"{name:10} alone: changes {alone[name]:.0%} of the images with p=1, {half:.0%} with "
          "p=0.5")
share, shift = changed(hue=0.2, brightness=1e-6, contrast=1e-6, saturation=1e-6)
print(f"hue, with 1e-6 instead of 0 for the others: {share:.0%}, by up to {shift:.2f}")
pair = changed(contrast=0.2, hue=0.2)
print(f"contrast and hue: {pair[0]:.0%}, hues by up to {pair[1]:.3f}")
if not (alone["hue"] == alone["contrast"] == 0 and alone["brightness"] > 0.9 and share > 0.9
        and shift > 0.15 and pair[1] < 0.01):
    sys.exit("no longer seen: strengths of 0 turn off their own part only")
print("seen: a strength of 0 turns off other parts as well")
PYTHON
