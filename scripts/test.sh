#!/usr/bin/env bash
# Lints, checks types and runs the tests, from a fresh clone or any later state.
# Arguments go to pytest:  scripts/test.sh tests/test_sweep.py -k flow
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/_environment.sh
make_environment test

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# Two workers share the machine's cores; a file stays in one, so that its fixtures are made once. The order of the
# alphabet starts the slowest file early.
JAX_PLATFORMS=${JAX_PLATFORMS:-cpu} .venv/bin/python -m pytest \
  --numprocesses 2 --dist loadfile --no-loadscope-reorder --jaxtyping-packages=diffc_jax,beartype.beartype "$@"
