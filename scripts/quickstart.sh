#!/usr/bin/env bash
# From a fresh clone to a rate-distortion plot: installs, trains a small model on built-in photographs,
# sweeps noise levels, runs classical codecs, and plots. Run again to resume.
#   scripts/quickstart.sh [WORKDIR] [--config.x.y=v ...]
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/_environment.sh
workdir=runs/quickstart
if [ $# -gt 0 ] && [ "${1#-}" = "$1" ]; then
  workdir=$1
  shift
fi
make_environment

.venv/bin/python experiments/reproduce.py --config="${CONFIG:-configs/quickstart.py}" \
  --workdir="$workdir" "$@"
echo
echo "Rate-distortion plot: $workdir/figures/rate_psnr_log.png"
echo "Reconstructions:      $workdir/*/eval/reconstructions.png"
