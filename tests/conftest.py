"""Strict settings for every test: eight CPU devices, no silent rank promotion, checked shapes."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile far more than they compute, and so do the programs that they start: machine code that is made
# quickly saves much of their time. Flags that are given win: XLA_FLAGS=--xla_backend_optimization_level=3.
os.environ["XLA_FLAGS"] = (
    f"--xla_backend_optimization_level=1 {os.environ.get('XLA_FLAGS', '')}".strip()
)

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
