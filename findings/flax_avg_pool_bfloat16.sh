#!/usr/bin/env bash
# Flax's avg_pool in bfloat16 gives a quarter of the average for windows of 32x32, on CPUs.
#
# Guess:  `nn.avg_pool(x, window)` in bfloat16 is the average, rounded to bfloat16 as `x.mean((1, 2))` is.
# Seen:   the average of ones is 0.89 for a window of 17x17, and 0.25 for 32x32 and for 64x64, with jit and
#         without. Random pixels: 8x8 is off by up to 2%, 32x32 by half. `jnp.mean` is right to 0.4% (half a
#         step of bfloat16), and `avg_pool` is right in float32.
# Why:    `avg_pool` sums with `lax.reduce_window` in the type of its input, and XLA rounds to bfloat16 after
#         each addition on CPUs: 256 + 1 is 256. `jnp.mean` asks for a sum in float32. (Not tried on GPUs and
#         TPUs.)
# Source: https://github.com/google/flax/blob/main/flax/linen/pooling.py
#         https://github.com/jax-ml/jax/pull/17792 (`jnp.mean`, where it was mended)
# Hurts:  who pools globally by `nn.avg_pool(x, x.shape[1:3])`, as is usual before a classifier and in
#         squeeze-and-excitation, and runs or tests the network in bfloat16 on CPUs: features shrink as
#         images grow. `nnx.avg_pool` is the same function.
# Here:   the only windows in bfloat16 are 2x2 (diffc_jax/models/improved_diffusion.py), where it costs
#         another rounding; averages over images are by `mean`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  jax==0.10.2 jaxlib==0.10.2 flax==0.12.8 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

print("jax", jax.__version__, "flax", flax.__version__)


def pooled(images):
    """The global average, by pooling."""
    return nn.avg_pool(images, images.shape[1:3])[:, 0, 0]


def averages(images):
    """The same in float32, in bfloat16, in bfloat16 under jit, and by the mean in bfloat16."""
    half = images.astype(jnp.bfloat16)
    results = pooled(images), pooled(half), jax.jit(pooled)(half), half.mean((1, 2))
    return [np.asarray(result, np.float64) for result in results]


expected = True
for side in (16, 17, 24, 32, 64, 112):
    whole, half, compiled, mean = (result.item() for result in averages(jnp.ones((1, side, side, 1))))
    print(f"ones, {side}x{side}: float32 {whole}, bfloat16 {half}, jit {compiled}, mean {mean}")
    expected &= whole == mean == 1.0  # controls
    expected &= (half == 1.0) if side == 16 else (half < 0.9 and compiled < 0.9)

rng = np.random.default_rng(0)
for side in (2, 8, 16, 32, 64):
    images = jnp.asarray(rng.random((256, side, side, 1)), jnp.bfloat16).astype(jnp.float32)
    exact = np.asarray(images, np.float64).mean((1, 2))
    errors = [np.abs(result / exact - 1).max() for result in averages(images)]
    print(
        f"random pixels, {side}x{side}, largest error: float32 {errors[0]:.1e}, bfloat16 {errors[1]:.1%}, "
        f"jit {errors[2]:.1%}, mean {errors[3]:.1%}"
    )
    expected &= errors[0] < 1e-5 and errors[3] < 0.004
    expected &= side < 32 or min(errors[1:3]) > 0.3

if not expected:
    sys.exit("no longer seen: pooling in bfloat16 is right")
print("seen: sums of a window stop growing")
PYTHON
