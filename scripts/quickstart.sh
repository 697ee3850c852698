#!/usr/bin/env bash
# From a fresh clone to a rate-distortion plot: installs, sweeps noise levels of the shipped model on built-in
# photographs, runs classical codecs, and plots. Run again to resume.
#   scripts/quickstart.sh [WORKDIR] [--config.x.y=v ...]
# CONFIG names another config than configs/quickstart.py; configs/quickstart.py:train trains a small model first.
set -euo pipefail
workdir=
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  workdir=$(realpath -m -- "$1")
  shift
fi
cd "$(dirname "$0")/.."
workdir=${workdir:-$PWD/runs/quickstart}
. scripts/_environment.sh
make_environment

.venv/bin/python experiments/reproduce.py --config="${CONFIG:-configs/quickstart.py}" \
  --workdir="$workdir" "$@"
echo
echo "Rate-distortion plot: $workdir/figures/rate_psnr_log.png"
echo "Reconstructions:      $workdir/*/eval/reconstructions.png"
