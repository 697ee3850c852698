#!/usr/bin/env bash
# distrax's hidden Markov model ignores observations that have small densities.
#
# Guess:  `HMM.forward`, `backward` and `forward_backward` are the scaled recursions: right for long
#         sequences and for observations of many dimensions, up to float32.
# Seen:   products of prior and density below 1e-15 are all set to 1e-15, and 0 stays 0:
#         1. With 32 dimensions and unit variance the posteriors are 1/2 for two states that are
#            easily told apart (55 % right instead of 99 %), the log-likelihood of 100 steps is
#            1200 nats too high, and its gradient is exactly 0. It is right up to about 16
#            dimensions. Smaller scales move the limit (densities become large).
#         2. In one dimension, one outlier of 17 standard deviations (density 0 in float32) ends
#            the sum: what comes after it adds 0 to the log-likelihood, so that it is 120 nats
#            HIGHER than without the outlier, and all posteriors, before and after, are 0.
#         `viterbi` works with logarithms and is right. Nothing warns.
# Why:    `_normalize` has `u = where(u == 0, 0, where(u < eps, eps, u))`, eps=1e-15, on densities
#         (not logarithms), and replaces a sum of 0 by 1, so that log(1) = 0 is added.
# Source: https://github.com/google-deepmind/distrax, _normalize in distrax/_src/utils/hmm.py; no
#         issue was found. Issue 337 is about `length`. The documentation says nothing of densities.
# Hurts:  who fits such models to features (MFCCs, neural activity, embeddings) by gradients or EM:
#         nothing is learned; and who compares likelihoods, where broken sequences win.
# Cure:   own recursions with `logsumexp`, or dynamax.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  distrax==0.1.9 tfp-nightly==0.26.0.dev20261027 jax==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import distrax
import jax
import jax.numpy as jnp
import numpy as np

print("distrax", distrax.__version__, "jax", jax.__version__)
START, STAY = np.array([0.5, 0.5]), np.array([[0.9, 0.1], [0.1, 0.9]])


def model(means):
    return distrax.HMM(
        distrax.Categorical(probs=jnp.asarray(START)), distrax.Categorical(probs=jnp.asarray(STAY)),
        distrax.MultivariateNormalDiag(means, jnp.ones_like(means)))


def exact(means, x):
    """Log-likelihood and posteriors with logarithms, in float64."""
    x, means, size = np.float64(x), np.float64(means), means.shape[1]
    density = -((x[:, None] - means) ** 2).sum(2) / 2 - size * np.log(2 * np.pi) / 2
    ahead, behind = [np.log(START) + density[0]], [np.zeros(2)]
    for row in density[1:]:
        ahead.append(np.logaddexp.reduce(ahead[-1][:, None] + np.log(STAY), axis=0) + row)
    for row in density[:0:-1]:
        behind.append(np.logaddexp.reduce(np.log(STAY) + row + behind[-1], axis=1))
    both = np.array(ahead) + np.array(behind[::-1])
    return np.logaddexp.reduce(ahead[-1]), both


def compare(name, means, x, states):
    hmm = model(means)
    _, _, posterior, got = hmm.forward_backward(x)
    truth, both = exact(means, x)
    slope = np.abs(jax.grad(lambda means: model(means).forward(x)[0])(means)).max()
    right = [np.mean(np.argmax(p, 1) == states) for p in (posterior, both)]
    print(f"{name}: log-likelihood {got:.1f}, exact {truth:.1f}; states right {right[0]:.0%}, "
          f"exact {right[1]:.0%}, Viterbi {np.mean(hmm.viterbi(x) == states):.0%}; sums of "
          f"posteriors {posterior.sum(1).min():.2f} to {posterior.sum(1).max():.2f}; "
          f"gradient {slope:.3g}")
    return float(got - truth), right[1] - right[0], slope


results = []
for size, gap in ((8, 1.0), (32, 0.5)):
    means = jnp.stack([jnp.zeros(size), jnp.full(size, gap)])
    states, x = model(means).sample(seed=jax.random.key(0), seq_len=100)
    results.append(compare(f"{size} dimensions", means, x, states))
means = jnp.array([[0.0], [3.0]])
states, x = model(means).sample(seed=jax.random.key(0), seq_len=100)
results.append(compare("1 dimension", means, x, states))
results.append(compare("1 dimension, x[30] = 20", means, x.at[30].set(20.0), states))
good = all(abs(results[i][0]) < 0.1 and results[i][1] < 0.02 for i in (0, 2))
wide = results[1][0] > 500 and results[1][1] > 0.3 and results[1][2] == 0
if not (good and wide and results[3][0] > 100 and results[3][1] > 0.3):
    sys.exit("no longer seen: small densities are used, or large ones are not")
print("seen: observations with small densities are ignored")
PYTHON
