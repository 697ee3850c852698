#!/usr/bin/env bash
# Optax's Adam with bfloat16 parameters: the second moment never falls, large gradients slow it
# for good.
#
# Guess:  Adam does not depend on the scale of gradients: when they are 10 times smaller than at
#         the start, its updates are as large as before some thousand steps later.
#         `mu_dtype=jnp.float32` is the option for averages in float32.
# Seen:   with parameters in bfloat16 the updates stay 10 times too small, after 20 000 steps too.
#         One spike (a gradient that is 100 times larger, in one step) costs a factor of 2, for
#         good. With `mu_dtype=jnp.float32` it is the same. adamw, nadam, adabelief and lamb share
#         this.
# Why:    the second moment has the type of the parameters, and no option changes that (`mu_dtype`
#         is for the first). It is multiplied by b2 in that type, where 0.999 is 1 (the next
#         number is 0.996): it can grow but not fall. b2=0.99 is 0.988 there, with which it falls.
# Source: https://github.com/google-deepmind/optax/blob/main/optax/_src/transform.py
#         (`scale_by_adam`)
#         https://github.com/google-deepmind/optax/issues/1552 (closed; on types, not on what they
#         do)
# Hurts:  who keeps parameters in bfloat16 (`param_dtype` of Flax), as fine-tuning on one device
#         does, with the default b2=0.999: large gradients of the first steps or of one bad batch
#         lower the learning rate forever, and it looks like a plateau. Nothing warns, and the
#         loss still falls at first.
# Cure:   `tx.init` of a float32 copy of the parameters: Optax keeps the type of the second moment
#         (below).
# Here:   parameters and optimizer state of diffc_jax are in float32: not affected.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

print("optax", optax.__version__, "jax", jax.__version__)
print("b2 in bfloat16:", *(f"{b2} is {float(jnp.bfloat16(b2)):.3f}" for b2 in (0.99, 0.998, 0.999)))
STEPS, SIZE, TIMES = 20_000, 256, (2_500, 5_000, 10_000, 20_000)


def update_sizes(optimizer, scales, dtype, moments=None):
    """RMS of updates in the 500 steps before TIMES; gradients are noise times `scales`."""
    params = jnp.zeros(SIZE, dtype)
    state = optimizer.init(params.astype(moments or dtype))

    def step(state, inputs):
        scale, key = inputs
        gradient = (scale * jax.random.normal(key, (SIZE,))).astype(dtype)
        updates, state = optimizer.update(gradient, state, params)
        return state, jnp.sqrt(jnp.mean(updates.astype(jnp.float32) ** 2))

    keys = jax.random.split(jax.random.key(0), STEPS)
    _, sizes = jax.lax.scan(step, state, (jnp.asarray(scales, jnp.float32), keys))
    return [float(np.asarray(sizes)[time - 500 : time].mean()) for time in TIMES]


steps = np.arange(STEPS)
gradients = {
    "10 times larger until step 2000": np.where(steps < 2000, 10, 1),
    "100 times larger in step 3000": np.where(steps == 3000, 100, 1),
}
runs = {
    "float32": (optax.adam(1.0), jnp.float32, None),
    "bfloat16": (optax.adam(1.0), jnp.bfloat16, None),
    "bfloat16, mu_dtype=float32": (optax.adam(1.0, mu_dtype=jnp.float32), jnp.bfloat16, None),
    "bfloat16, init in float32": (optax.adam(1.0), jnp.bfloat16, jnp.float32),
}
last = {}
print("updates over the learning rate, before steps", *TIMES)
for shape, scales in gradients.items():
    print(f"gradients {shape}")
    for name, (optimizer, dtype, moments) in runs.items():
        sizes = update_sizes(optimizer, scales, dtype, moments)
        print(f"  {name}: " + ", ".join(f"{size:.3f}" for size in sizes))
        last[shape, name] = sizes[-1]

expected = True
for shape, factor in zip(gradients, (8, 1.7), strict=True):
    exact = last[shape, "float32"]
    expected &= exact > factor * last[shape, "bfloat16"]
    expected &= exact > factor * last[shape, "bfloat16, mu_dtype=float32"]
    expected &= abs(last[shape, "bfloat16, init in float32"] / exact - 1) < 0.05
if not expected:
    sys.exit("no longer seen: updates in bfloat16 are as large as in float32, or others are not")
print("seen: after large gradients updates in bfloat16 stay small")
PYTHON
