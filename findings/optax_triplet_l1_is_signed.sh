#!/usr/bin/env bash
# optax's triplet loss with norm_degree=1 has no distance in it.
#
# Guess:  `triplet_margin_loss(anchors, positives, negatives, norm_degree=1)` compares the sums
#         of absolute differences, as the same argument does in PyTorch (`p`).
# Seen:   it compares the sums of the differences, which can be negative. Its values have nothing
#         to do with the loss (correlation 0), and training with it brings it to 0 while positives
#         are the nearer ones in half of the triplets only, as before; with norm_degree=2 in all
#         of them. With norm_degree=3 or 1.5 it is NaN.
# Why:    the distance is `jnp.power(anchors - positives, norm_degree).sum(axis)` with the power
#         1 / norm_degree: the absolute value is missing, which even degrees hide.
# Source: https://github.com/google-deepmind/optax, optax/losses/_self_supervised.py; the tests
#         and examples use degree 2. "norm_degree: The norm degree for distance calculation". No
#         issue was found (MLX had the same fault: https://github.com/ml-explore/mlx/pull/3613).
# Hurts:  who trains embeddings or patch descriptors with the L1 distance: the loss falls to 0 and
#         looks well, and retrieval stays at chance.
# Cure:   norm_degree=2, or `jnp.abs` and the hinge by hand.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  optax==0.2.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

print("optax", optax.__version__, "jax", jax.__version__)
rng = np.random.default_rng(0)
anchors, positives, negatives = jnp.asarray(rng.normal(size=(3, 1000, 16)), jnp.float32)


def norm(difference, degree):
    """The norm by its definition."""
    return (jnp.abs(difference) ** degree).sum(-1) ** (1 / degree)


def compare(degree):
    """Mean loss, the mean by definition, and the correlation of both."""
    loss = optax.losses.triplet_margin_loss(anchors, positives, negatives, norm_degree=degree)
    right = norm(anchors - positives, degree) - norm(anchors - negatives, degree)
    right = jnp.maximum(right + 1, 0)
    return float(loss.mean()), float(right.mean()), float(jnp.corrcoef(loss, right)[0, 1])


@partial(jax.jit, static_argnums=0)
def train(degree):
    """Mean loss and share of triplets whose positive is nearer after 200 steps of Adam."""
    optimizer = optax.adam(0.05)

    def loss(points):
        return optax.losses.triplet_margin_loss(*points, norm_degree=degree).mean()

    def step(_, carry):
        points, state = carry
        updates, state = optimizer.update(jax.grad(loss)(points), state)
        return optax.apply_updates(points, updates), state

    start = anchors, positives, negatives
    points, _ = jax.lax.fori_loop(0, 200, step, (start, optimizer.init(start)))
    near = norm(points[0] - points[1], degree) < norm(points[0] - points[2], degree)
    return loss(points), near.mean()


values = {degree: compare(degree) for degree in (1, 2, 4, 3, 1.5)}
for degree, (loss, right, correlation) in values.items():
    print(f"degree {degree:3}: loss {loss:6.3f}, by definition {right:.3f}, correlation "
          f"{correlation:.3f}")
ends = {degree: [float(value) for value in train(degree)] for degree in (1, 2)}
for degree, (loss, near) in ends.items():
    print(f"trained with degree {degree}: loss {loss:.4f}, positives nearer in {near:.0%}")

if not (abs(values[1][2]) < 0.2 and all(values[degree][2] > 0.999 for degree in (2, 4))
        and ends[1][0] < 0.05 and ends[1][1] < 0.7 and ends[2][1] > 0.97):
    sys.exit("no longer seen: degree 1 is a distance")
print("seen: differences are added with their signs")
PYTHON
