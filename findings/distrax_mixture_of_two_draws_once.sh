#!/usr/bin/env bash
# distrax's MixtureOfTwo takes one component for the whole batch.
#
# Guess:  the members of a batch are drawn independently, as with all other distributions: half of
#         1000 draws of `MixtureOfTwo(0.5, a, b)` with batch shape (1000,) are from a.
# Seen:   all are from a, or all are from b: one coin is tossed for each element of `sample_shape`,
#         and none for the batch. Correlation of two members: 0.96 instead of 0. `log_prob` is that
#         of independent members. Each member alone has the right distribution, so that histograms
#         over `sample_shape` and tests of one member pass.
# Why:    `_sample_n` draws the mask with shape [n] and broadcasts it over batch and event.
# Source: https://github.com/google-deepmind/distrax, _sample_n in
#         distrax/_src/distributions/mixture_of_two.py; no issue was found. The documentation says
#         that `prob_a` is a scalar, and nothing of the batch.
# Hurts:  data made with per-example components (outliers in 10 % of the rows: none or all), agents
#         in parallel environments that explore in the same steps, Monte Carlo means over a batch,
#         whose error does not fall with its size: 5 instead of 0.16 below.
# Cure:   `MixtureSameFamily`, or components without a batch and `sample_shape`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  distrax==0.1.9 tfp-nightly==0.26.0.dev20261027 jax==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import sys

import distrax
import jax
import jax.numpy as jnp
import numpy as np

print("distrax", distrax.__version__, "jax", jax.__version__)
BATCH, DRAWS = 1000, 400
zeros, tens = jnp.zeros(BATCH), jnp.full(BATCH, 10.0)
two = distrax.MixtureOfTwo(0.5, distrax.Normal(zeros, 1.0), distrax.Normal(tens, 1.0))
same = distrax.MixtureSameFamily(
    distrax.Categorical(probs=jnp.full((BATCH, 2), 0.5)),
    distrax.Normal(jnp.stack([zeros, tens], axis=1), 1.0))
assert two.batch_shape == same.batch_shape == (BATCH,) and two.event_shape == ()

one = [np.asarray(two.sample(seed=jax.random.key(seed))) for seed in range(12)]
counts = [int((draw < 5).sum()) for draw in one]
print(f"of {BATCH} members, from the first component, for 12 seeds: {counts}")

summary = {}
for name, mixture in (("MixtureOfTwo", two), ("MixtureSameFamily", same)):
    x = np.asarray(mixture.sample(seed=jax.random.key(0), sample_shape=DRAWS), np.float64)
    correlation = np.corrcoef(x[:, 0], x[:, 1])[0, 1]
    error = x.mean(1).std()
    information = -np.asarray(mixture.log_prob(x.astype(np.float32))).sum(1).mean() / np.log(2)
    summary[name] = correlation, error, np.mean(x[:, 0] < 5)
    print(f"{name:17}: member 0 from the first {summary[name][2]:.2f}, correlation of members 0 "
          f"and 1 {correlation:.2f}, standard deviation of the mean over the batch {error:.2f}, "
          f"-log_prob {information:.0f} bits a draw")

wrong, right = summary["MixtureOfTwo"], summary["MixtureSameFamily"]
marginals = all(abs(values[2] - 0.5) < 0.1 for values in (wrong, right))
if not (set(counts) == {0, BATCH} and wrong[0] > 0.9 and wrong[1] > 4 and marginals):
    sys.exit("no longer seen: members of a batch choose their components independently")
assert abs(right[0]) < 0.2 and right[1] < 0.3
print("seen: all members of a batch are from the same component")
PYTHON
