#!/usr/bin/env bash
# equinox's rotary embedding uses the theta of another layer.
#
# Guess:  `RotaryPositionalEmbedding(size, theta=1e6)` rotates with the base 1e6.
# Seen:   with the base of the layer that was called first in the process, if that has the same
#         size and dtype: 1e4 and 1e6 give the same result, to the last bit. When a longer sequence
#         comes, the table is made again with the theta of the layer that sees it, and from then
#         on all layers use that one. So the result for one and the same input changes during the
#         life of a process, and depends on what ran before. Nothing warns.
# Why:    the cosines and sines are in one dictionary for all layers, and its key is
#         (embedding_size, dtype), without theta.
# Source: https://github.com/patrick-kidger/equinox, RotaryPositionalEmbedding.__call__ in
#         equinox/nn/_embedding.py. https://github.com/patrick-kidger/equinox/pull/735 made theta
#         a parameter, for Llama 3, and left the key as it was. No issue was found.
# Hurts:  networks with two bases, as Gemma 3 (1e4 in local, 1e6 in global layers) and ModernBERT
#         have; comparisons of values of theta in one process (all the same); converted weights,
#         which are right or wrong with what else was run; training and evaluation that call the
#         layers in another order or with other lengths.
# Cure:   `eqx.clear_caches()` before each layer that has another theta, or an own table.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  equinox==0.13.8 jax==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import equinox as eqx
import jax
import numpy as np

print("equinox", eqx.__version__, "jax", jax.__version__)
SIZE, LENGTH = 64, 256
rng = np.random.default_rng(0)
x = rng.normal(size=(LENGTH + 1, SIZE)).astype(np.float32)


def formula(x, theta):
    """The rotation in float64: channel i and channel i + SIZE / 2 are a pair."""
    angles = np.outer(np.arange(len(x)), theta ** (-np.arange(0, SIZE, 2) / SIZE))
    left, right = np.split(x.astype(np.float64), 2, axis=1)
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=1)


def which(result):
    """The theta whose formula the result follows."""
    errors = {theta: np.abs(result - formula(x[: len(result)], theta)).max()
              for theta in (1e4, 1e6)}
    best = min(errors, key=errors.get)
    assert errors[best] < 1e-3 < 1 < max(errors.values())
    return f"{best:.0e}"


local = eqx.nn.RotaryPositionalEmbedding(SIZE, theta=1e4)
across = eqx.nn.RotaryPositionalEmbedding(SIZE, theta=1e6)
seen = []
for name, layer, length in (
    ("theta=1e4", local, LENGTH),
    ("theta=1e6", across, LENGTH),
    ("theta=1e6", across, LENGTH + 1),
    ("theta=1e4", local, LENGTH),
):
    seen.append(which(np.asarray(layer(x[:length]))))
    print(f"{name}, {length} positions: rotated with {seen[-1]}")

eqx.clear_caches()
alone = which(np.asarray(across(x[:LENGTH])))
print(f"theta=1e6, {LENGTH} positions, after eqx.clear_caches(): rotated with {alone}")

score = [formula(x, theta)[0] @ formula(x, theta)[LENGTH] for theta in (1e4, 1e6)]
print(f"dot product of positions 0 and {LENGTH}: {score[0]:.2f} with 1e4, {score[1]:.2f} with 1e6")
if seen != ["1e+04", "1e+04", "1e+06", "1e+06"] or alone != "1e+06":
    sys.exit("no longer seen: layers use their own theta")
print("seen: layers use the theta of the layer that made the table")
PYTHON
