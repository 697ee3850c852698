#!/usr/bin/env bash
# Optax's Muon takes the biases of Flax's attention, and none of its kernels.
#
# Guess:  `optax.contrib.muon(rate)` orthogonalises the updates of weight matrices, of which attention has most,
#         and leaves biases to AdamW.
# Seen:   in Flax's attention layers it is the other way round. Muon takes each parameter with two axes. The
#         kernels of query, key, value and output have three, (features, heads, features of a head), and go to
#         AdamW; the biases of query, key and value have two, (heads, features of a head), and are
#         orthogonalised as if they were matrices. Kernels of convolutions go to AdamW, tables of embeddings
#         and the last layer to Muon. Nothing is said about it.
# Why:    the rule is documented, and the shapes are those of Flax; only together they mean this.
# Source: https://github.com/google-deepmind/optax/blob/main/optax/contrib/_muon.py
#         https://github.com/google/flax/blob/main/flax/linen/attention.py
# Hurts:  who compares Muon with AdamW on a network of Flax, and compares AdamW with AdamW for the most part.
# Here:   diffc_jax/training/optimizer.py says by name and axes which parameters are matrices
#         (muon_weight_dimension_numbers), kernels of convolutions among them.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  optax==0.2.8 flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

print("optax", optax.__version__, "flax", flax.__version__)


class Network(nn.Module):
    @nn.compact
    def __call__(self, tokens, image):
        x = nn.Embed(50, 32, name="embedding")(tokens)
        x = nn.MultiHeadDotProductAttention(num_heads=4, name="attention")(x)
        return nn.Dense(50, name="last")(x), nn.Conv(32, (3, 3), name="conv")(image)


network = Network()
params = network.init(jax.random.key(0), jnp.zeros((1, 8), int), jnp.zeros((1, 8, 8, 16)))["params"]
gradients = jax.tree.map(lambda p: jax.random.normal(jax.random.key(1), p.shape), params)

# With the rate of AdamW at zero, only what is Muon's moves.
optimizer = optax.contrib.muon(1e-3, adam_learning_rate=0.0)
updates, _ = optimizer.update(gradients, optimizer.init(params), params)
updates = flax.traverse_util.flatten_dict(updates, sep="/")
by_muon = {name: bool(jnp.any(value != 0)) for name, value in updates.items()}
for name, value in updates.items():
    print(f"{name} {value.shape}: {'Muon' if by_muon[name] else 'AdamW'}")

kernels = [name for name in updates if name.startswith("attention/") and name.endswith("kernel")]
biases = [f"attention/{name}/bias" for name in ("query", "key", "value")]
if any(by_muon[name] for name in kernels) or not all(by_muon[name] for name in biases):
    sys.exit("no longer seen: the parameters of attention are divided otherwise")
print("seen: AdamW has all kernels of the attention, Muon its biases of query, key and value")
PYTHON
