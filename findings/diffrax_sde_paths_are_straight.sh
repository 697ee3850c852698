#!/usr/bin/env bash
# diffrax saves straight lines for stochastic equations, at times between the steps of the solver.
#
# Guess:  `diffeqsolve` of an SDE with `SaveAt(ts=...)` returns samples of the process at these
#         times: the Brownian path is known there (`VirtualBrownianTree` can be read at any time).
# Seen:   saved every 0.01 with dt0=0.1, Brownian motion has a quadratic variation of 0.1 instead of
#         1, and a volatility of 0.3 is estimated from an Ornstein-Uhlenbeck process as 0.1. With
#         steps that a PIDController chooses, which one does not see, the same. No warning.
# Why:    values at `ts` are interpolated between steps as for ordinary equations (for Euler, Heun
#         and the solvers for SDEs on a straight line); the noise between them is left out.
# Source: https://github.com/patrick-kidger/diffrax/issues/224 (open: asked for an ODE); the
#         `interpolation_cls` of solvers, as diffrax/_integrate.py uses it. Docstrings of
#         solvers say "1st order local linear interpolation for dense/ts output", that of SaveAt
#         "some array of times at which to save the output".
# Hurts:  simulated paths as training or test data, estimates of volatility or of time scales, and
#         values at times between steps, whose variance is too small by up to a quarter of a step.
# Cure:   steps that end at all `ts`: `StepTo(ts)`, or `ClipStepSizeController(..., step_ts=ts)`.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  diffrax==0.7.2 equinox==0.13.8 lineax==0.1.1 optimistix==0.1.0 jax==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" -W ignore::DeprecationWarning - <<'PYTHON'
import importlib.metadata
import sys

import diffrax
import jax
import jax.numpy as jnp

print("diffrax", importlib.metadata.version("diffrax"), "jax", jax.__version__)
TIMES = jnp.linspace(0.0, 1.0, 101)
KEYS = jax.random.split(jax.random.key(0), 400)


def variation(solver, controller, dt0, rate, volatility):
    """The mean over paths of the summed squares of the 100 increments."""

    def path(key):
        noise = diffrax.VirtualBrownianTree(
            0.0, 1.0, 1e-3, (), key, levy_area=diffrax.SpaceTimeLevyArea)
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, args: -rate * y),
            diffrax.ControlTerm(lambda t, y, args: jnp.float32(volatility), noise))
        return diffrax.diffeqsolve(
            terms, solver, 0.0, 1.0, dt0, jnp.float32(0.0), max_steps=1000,
            saveat=diffrax.SaveAt(ts=TIMES), stepsize_controller=controller).ys

    paths = jax.jit(jax.vmap(path))(KEYS)
    return float((jnp.diff(paths, axis=1) ** 2).sum(axis=1).mean())


constant = diffrax.ConstantStepSize()
adaptive = diffrax.PIDController(rtol=1e-2, atol=1e-2)
brownian = variation(diffrax.Euler(), constant, 0.1, 0.0, 1.0)
fine = variation(diffrax.Euler(), constant, 0.01, 0.0, 1.0)
exact_ends = variation(diffrax.Euler(), diffrax.StepTo(TIMES), None, 0.0, 1.0)
print(f"Brownian motion, quadratic variation until 1: {brownian:.3f} with dt0=0.1, {fine:.3f} with "
      f"dt0=0.01, {exact_ends:.3f} with StepTo(ts), right 1")
estimate = {}
for title, solver, controller in (("Euler, dt0=0.1", diffrax.Euler(), constant),
                                  ("ShARK, dt0=0.1", diffrax.ShARK(), constant),
                                  ("ShARK, PIDController", diffrax.ShARK(), adaptive)):
    estimate[title] = variation(solver, controller, 0.1, 1.0, 0.3) ** 0.5
    print(f"volatility by realized variance, {title:20}: {estimate[title]:.3f}, right 0.3")
if not (brownian < 0.15 and abs(fine - 1) < 0.05 and abs(exact_ends - 1) < 0.05
        and max(estimate.values()) < 0.2):
    sys.exit("no longer seen: saved paths have the noise between steps")
print("seen: saved paths are straight between steps")
PYTHON
