#!/usr/bin/env bash
# Lints, checks types and spelling, builds the documentation and runs the tests, from a fresh clone or any later state.
# Arguments go to pytest:  scripts/test.sh tests/evaluation/test_sweep.py -k flow
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/_environment.sh
make_environment test

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/codespell
.venv/bin/mkdocs build --strict
# A worker for each of two to four cores; a file stays in one, so that its fixtures are made once. The order of the
# alphabet starts the slowest files early.
workers=$(nproc)
workers=$((workers < 2 ? 2 : workers > 4 ? 4 : workers))
JAX_PLATFORMS=${JAX_PLATFORMS:-cpu} .venv/bin/python -m pytest \
  --numprocesses $workers --dist loadfile --no-loadscope-reorder --jaxtyping-packages=diffc_jax,beartype.beartype "$@"
# The Slurm job on a real Slurm, where this machine can run one; where not, it says so.
[ $# -gt 0 ] || PYTHON=$PWD/.venv/bin/python tests/cluster/slurm.sh
