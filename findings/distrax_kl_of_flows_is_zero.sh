#!/usr/bin/env bash
# distrax gives KL divergence 0 for flows that have different parameters.
#
# Guess:  `p.kl_divergence(q)` of two `Transformed` with different bijectors is right, or raises
#         NotImplementedError, as its error message promises ("it is not possible to guarantee that
#         the bijectors are equal").
# Seen:   it is that of the base distributions, mostly 0.0, whatever the parameters of the
#         bijectors: shifts, linear maps, splines, and coupling layers with a network. Its gradient
#         is 0, too. Monte Carlo gives 0.5 to 36 nats for the pairs below. Numbers in Python
#         (ScalarAffine(0., 1.)) and arrays of another weak type (jnp.full) are noticed and refused.
# Why:    bijectors count as equal if the texts of the jaxprs of `forward` are equal. Arrays that a
#         bijector holds are constants of the jaxpr: the text has their names and shapes, and not
#         their values. Two networks of one architecture are always "equal".
# Source: https://github.com/google-deepmind/distrax, _kl_divergence_transformed_transformed in
#         distrax/_src/distributions/transformed.py; no issue was found. The only documentation is
#         the error message.
# Hurts:  KL terms between posterior and prior that are flows, penalties against an old policy,
#         distances between fitted flows: the term is 0, so that it never acts and no error is
#         seen. `estimate_kl_best_effort` takes this "exact" value and makes no estimate.
# Cure:   `distrax.mc_estimate_kl`, or the mean of p.log_prob - q.log_prob over samples of p.
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

print("distrax", distrax.__version__, "jax", jax.__version__)
SIZE = 4


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def coupling(seed):
    first, second = normal(seed, SIZE, 32) / 2, normal(seed + 10, 32, 2 * SIZE) / 6
    return distrax.MaskedCoupling(
        mask=jnp.arange(SIZE) % 2 == 0,
        conditioner=lambda x: (jnp.tanh(x @ first) @ second).reshape(*x.shape, 2),
        bijector=lambda p: distrax.ScalarAffine(p[..., 0], log_scale=jnp.tanh(p[..., 1])),
    )


bijectors = {
    "shift": lambda seed: distrax.Block(distrax.ScalarAffine(normal(seed, SIZE)), 1),
    "diagonal": lambda seed: distrax.DiagLinear(jnp.exp(normal(seed, SIZE))),
    "triangular": lambda seed: distrax.TriangularLinear((2.0 + seed) * jnp.eye(SIZE)),
    "spline": lambda seed: distrax.Block(
        distrax.RationalQuadraticSpline(normal(seed, SIZE, 13), -3.0, 3.0), 1),
    "coupling": coupling,
}


def flow(bijector):
    base = distrax.MultivariateNormalDiag(jnp.zeros(SIZE), jnp.ones(SIZE))
    return distrax.Transformed(base, bijector)


key, found = jax.random.key(5), []
for name, make in bijectors.items():
    p, q = flow(make(0)), flow(make(1))
    samples, log_prob = p.sample_and_log_prob(seed=key, sample_shape=4096)
    truth = float(jnp.mean(log_prob - q.log_prob(samples)))
    try:
        exact = float(p.kl_divergence(q))
    except NotImplementedError:
        exact = None
    print(f"{name:10}: kl_divergence {exact}, Monte Carlo {truth:.2f}")
    found.append(exact == 0.0 and truth > 0.3)

p, q = (distrax.MultivariateNormalDiag(normal(seed, SIZE), jnp.ones(SIZE)) for seed in (0, 1))
closed = float(jnp.sum((normal(0, SIZE) - normal(1, SIZE)) ** 2) / 2)
print(f"the shift as a normal distribution: kl_divergence {float(p.kl_divergence(q)):.2f}, "
      f"closed form {closed:.2f}")
if not all(found):
    sys.exit("no longer seen: flows with other parameters have another divergence, or none")
print("seen: the divergence of different flows is 0")
PYTHON
