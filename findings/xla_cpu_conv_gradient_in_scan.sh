#!/usr/bin/env bash
# XLA on CPUs: gradients of convolutions are tens of times slower inside scan, while_loop and cond.
#
# Guess:  a training step inside `jax.lax.scan` is as fast as the same compiled step called from Python, within
#         20 %, or faster, as it saves dispatches.
# Seen:   with convolutions in it, it is slower by a factor of tens, which grows with the size; so it is in a
#         branch of `jax.lax.cond`. The forward pass of channels-last convolutions is not, nor is a scan that is
#         unrolled altogether. The results are the same.
# Why:    only convolutions in NHWC and HWIO order are computed by Eigen, others by plain loops. A pass brings
#         them into that order (gradients have others), but only those of the entry computation: bodies of
#         loops and branches are left as they are.
# Source: https://github.com/openxla/xla/blob/main/xla/service/cpu/conv_canonicalization.cc
#         https://github.com/jax-ml/jax/issues/12868 (open since 2022; forward passes with channels first)
# Hurts:  who scans over training steps, accumulates gradients in a scan, or skips bad updates by cond, and
#         tests or trains on CPUs: what takes seconds takes minutes and looks like a deadlock.
# Here:   diffc_jax/training/feed.py calls single updates from Python on CPUs, and scans elsewhere.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import statistics
import sys
import time

import jax
import jax.numpy as jnp

STEPS, ROUNDS = 4, 5
kernel = 0.05 * jax.random.normal(jax.random.key(0), (3, 3, 32, 32))
images = jax.random.normal(jax.random.key(1), (4, 16, 16, 32))
print("jax", jax.__version__)


def conv(x, w):
    return jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def loss(w):
    return jnp.mean(conv(jnp.tanh(conv(images, w)), w) ** 2)


def forward(w):
    return w + 1e-6 * loss(w)


def descend(w):
    return w - 0.1 * jax.grad(loss)(w)


def called(step):
    compiled = jax.jit(step)

    def run(w):
        for _ in range(STEPS):
            w = compiled(w)
        return w

    return run


def scanned(step, unroll):
    return jax.jit(
        lambda w: jax.lax.scan(lambda w, _: (step(w), None), w, length=STEPS, unroll=unroll)[0]
    )


def chosen(step):
    compiled = jax.jit(lambda w, wanted: jax.lax.cond(wanted, step, lambda w: w, w))

    def run(w):
        for _ in range(STEPS):
            w = compiled(w, True)
        return w

    return run


def milliseconds(run):
    """Median of a step."""
    run(kernel).block_until_ready()
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        run(kernel).block_until_ready()
        times.append(1e3 * (time.perf_counter() - begin) / STEPS)
    return statistics.median(times)


for name, step in (("forward pass", forward), ("gradient step", descend)):
    programs = {
        "called": called(step),
        "in a scan": scanned(step, unroll=1),
        "in an unrolled scan": scanned(step, unroll=STEPS),
        "in a branch of cond": chosen(step),
    }
    times = {where: milliseconds(run) for where, run in programs.items()}
    for where, duration in times.items():
        ratio = duration / times["called"]
        print(f"{name} {where}: {duration:.2f} ms, {ratio:.1f} times the called one")

difference = jnp.abs(programs["called"](kernel) - programs["in a scan"](kernel)).max()
print(f"largest difference between results: {difference:.1e}")
if times["in a scan"] < 3 * times["called"]:
    sys.exit("no longer seen: the scan is less than 3 times slower")
print("seen: the scan is more than 3 times slower")
PYTHON
