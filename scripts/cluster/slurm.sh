#!/usr/bin/env bash
# Submits an experiment to Slurm; it goes on by itself after preemption and after its time is up.
#   scripts/cluster/slurm.sh [--dry_run] [--sweep=FILE] [OPTIONS OF SBATCH] -- train --config=... --workdir=...
# --dry_run prints what would be done. --sweep submits an array, one job for each line of FILE; a line holds the flags
# of its job: --workdir=runs/a --config.train.learning_rate=1e-4
set -euo pipefail

dry_run='' sweep='' options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --dry_run) dry_run=yes ;;
    --sweep=*) sweep=$(realpath -m -- "${1#*=}") ;;
    *) options+=("$1") ;;
  esac
  shift
done
shift || true
cd "$(dirname "$0")/../.."
. scripts/cluster/_launch.sh
check_experiment "$@"
python=${PYTHON:-.venv/bin/python}

lines=('') submit=(sbatch)
if [ -n "$sweep" ]; then
  [ -s "$sweep" ] || fail "--sweep $sweep: there is no such file, or it is empty"
  ! grep -qE '^[[:space:]]*$' "$sweep" || fail "--sweep $sweep: has an empty line; each is a job"
  mapfile -t lines < "$sweep"
  submit=(env SWEEP="$sweep" sbatch --array="1-${#lines[@]}" --output=%x-%A_%a.out)
fi
# Mistakes are found now, not when the job has waited for its turn.
for line in "${lines[@]}"; do
  read -r -a own <<< "$line"
  check=("$python" "experiments/$1.py" "${@:2}" ${own[@]+"${own[@]}"} --dry_run)
  if [ -n "$dry_run" ]; then run "${check[@]}"; else "${check[@]}" > /dev/null; fi
done
run "${submit[@]}" --chdir="$PWD" ${options[@]+"${options[@]}"} scripts/cluster/slurm.sbatch "$@"
