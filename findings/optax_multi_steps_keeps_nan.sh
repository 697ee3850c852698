#!/usr/bin/env bash
# optax's MultiSteps never gets rid of a gradient that is not finite, and training stands still.
#
# Guess:  with `MultiSteps(apply_if_finite(optimizer, 1000), 4)` a gradient with NaN costs the
#         update of its four small steps, and the next four begin at zero.
# Seen:   one NaN, or one infinite gradient as loss scaling makes them, and no update is made any
#         more: parameters stay as they are. With `zero_nans` in its place a NaN does the same, and with `clip`
#         parameters become NaN. With `MultiSteps(..., should_skip_update_fn=skip_not_finite)` and
#         with `apply_if_finite(MultiSteps(...))` the run goes on.
# Why:    the sum of gradients is set back by `(1 - emit) * sum`, and 0 * NaN is NaN. So the sum
#         is NaN for ever.
# Source: https://github.com/google-deepmind/optax, optax/transforms/_accumulation.py; no issue
#         was found. The documentation of neither function says it.
# Hurts:  who accumulates gradients, in half precision above all: the loss stays flat from some
#         step on and looks as if training had converged. A checkpoint keeps the NaN, so that
#         starting again from it does not help.
# Cure:   apply_if_finite around MultiSteps, or should_skip_update_fn.
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
import optax

print("optax", optax.__version__, "jax", jax.__version__)
STEPS, BAD = 400, 9


def train(optimizer, value):
    """Loss before a gradient that is not finite, and at the end."""
    def step(carry, index):
        weights, state = carry
        gradient = jnp.where(index == BAD, value, 1.0) * weights
        updates, state = optimizer.update(gradient, state, weights)
        return (optax.apply_updates(weights, updates), state), (weights**2).sum()

    start = jnp.ones(3)
    run = jax.jit(lambda: jax.lax.scan(step, (start, optimizer.init(start)), jnp.arange(STEPS)))
    losses = run()[1]
    return float(losses[BAD]), float(losses[-1])


def optimizers():
    """Each with one update for four small steps."""
    adam, sgd = optax.adam(0.05), optax.sgd(0.1)
    every = 4
    yield "apply_if_finite inside", optax.MultiSteps(optax.apply_if_finite(sgd, 1000), every)
    yield "apply_if_finite inside, Adam", optax.MultiSteps(
        optax.apply_if_finite(adam, 1000), every)
    yield "zero_nans inside", optax.MultiSteps(optax.chain(optax.zero_nans(), sgd), every)
    yield "apply_if_finite outside", optax.apply_if_finite(
        optax.MultiSteps(sgd, every).gradient_transformation(), 1000)
    yield "skip_not_finite", optax.MultiSteps(
        sgd, every, should_skip_update_fn=optax.skip_not_finite)


seen = {}
for value in (float("nan"), float("inf")):
    for name, optimizer in optimizers():
        before, end = seen[name, str(value)] = train(optimizer, value)
        print(f"one {value} at step {BAD}, {name:28}: loss {before:.4f} then, {end:.2g} at the end")

inside = [seen[name, value] for name in ("apply_if_finite inside", "apply_if_finite inside, Adam")
          for value in ("nan", "inf")] + [seen["zero_nans inside", "nan"]]
others = [seen[name, value][1] for name in ("apply_if_finite outside", "skip_not_finite")
          for value in ("nan", "inf")]
if not (all(before == end for before, end in inside) and max(others) < 1e-6):
    sys.exit("no longer seen: accumulation begins anew")
print("seen: training stands still")
PYTHON
