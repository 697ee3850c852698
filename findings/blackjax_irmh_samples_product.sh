#!/usr/bin/env bash
# BlackJAX's independent Metropolis-Hastings, called as in its example, samples another density.
#
# Guess:  `blackjax.irmh(logdensity_fn, proposal_distribution)`, the example of the documentation,
#         has the target as its stationary distribution.
# Seen:   it has target times proposal. For a target Normal(1, 1) and proposals from Normal(0, 2),
#         draws have mean 0.8 and variance 0.8. With proposals from the prior, the posterior counts
#         the prior twice. Acceptance rates and r_hat look as they should.
# Why:    without the optional `proposal_logdensity_fn` "we assume the proposal is symmetric". For
#         a random walk that is right if its noise is symmetric; an independent proposal is
#         symmetric, q(y) = q(x), only if it is uniform. A Gaussian, which looks symmetric, is not.
# Source: https://github.com/blackjax-devs/blackjax, irmh_as_top_level_api and build_irmh in
#         blackjax/mcmc/random_walk.py; pull request 581 added the argument, optional. The
#         docstring states the assumption, and its example breaks it.
# Hurts:  who proposes from a prior, a Laplace approximation or a flow, or puts irmh into SMC:
#         posteriors too narrow and pulled towards the proposal, without a warning.
# Cure:   `proposal_logdensity_fn=lambda old, new: log_q(new.position)`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  blackjax==1.7.1 jax==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import blackjax
import jax
import numpy as np

print("blackjax", blackjax.__version__, "jax", jax.__version__)
CHAINS, STEPS = 500, 400


def target(x):
    return -((x - 1) ** 2) / 2


def propose(key):
    return 2 * jax.random.normal(key)


def run(**options):
    sampler = blackjax.irmh(target, propose, **options)

    def step(state, key):
        state, info = jax.vmap(sampler.step)(jax.random.split(key, CHAINS), state)
        return state, (state.position, info.is_accepted)

    start = 1 + jax.random.normal(jax.random.key(0), (CHAINS,))  # from the target itself
    keys = jax.random.split(jax.random.key(1), STEPS)
    state = jax.vmap(sampler.init)(start)
    _, (draws, accepted) = jax.lax.scan(step, state, keys)
    draws = np.asarray(draws, np.float64)[STEPS // 4:]
    return draws.mean(), draws.var(), float(accepted.mean())


plain = run()
full = run(proposal_logdensity_fn=lambda old, new: -new.position**2 / 8)
print("target Normal(1, 1), proposals from Normal(0, 2), chains that start in the target")
for name, (mean, variance, accepted) in (("as in the example", plain), ("with log q", full)):
    print(f"{name:17}: mean {mean:.3f}, variance {variance:.3f}, accepted {accepted:.0%}")
# The product of the densities: precisions 1 and 1/4.
print(f"target times proposal: mean {1 / 1.25:.3f}, variance {1 / 1.25:.3f}")
assert abs(full[0] - 1) < 0.02 and abs(full[1] - 1) < 0.03
if not (abs(plain[0] - 0.8) < 0.02 and abs(plain[1] - 0.8) < 0.03):
    sys.exit("no longer seen: draws are from the target")
print("seen: draws are from target times proposal")
PYTHON
