#!/usr/bin/env bash
# Runs an experiment on a TPU pod: asks for it (a queued resource), starts the container on all of its hosts, asks again
# when it was taken away, and gives it back in the end.
#   scripts/cluster/tpu.sh [--dry_run] [--keep] --name=NAME --zone=ZONE --type=v5litepod-64 --image=IMAGE \
#     [--setup=COMMAND] [OPTIONS OF gcloud] -- train --config=... --workdir=...
# It has to go on running itself, for example in tmux. --setup runs on every host first, for example to mount a file
# system at /mnt, which the container sees, too. --keep does not give the pod back. Options such as --spot, --project=P
# and --runtime-version=V go to `gcloud compute tpus queued-resources create`. --dry_run prints the commands.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/cluster/_launch.sh

dry_run='' keep='' name='' type='' image='' setup=true place=() options=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --dry_run) dry_run=yes ;;
    --keep) keep=yes ;;
    --name=?*) name=${1#*=} ;;
    --type=?*) type=${1#*=} ;;
    --image=?*) image=${1#*=} ;;
    --setup=?*) setup=${1#*=} ;;
    --zone=?* | --project=?*) place+=("$1") ;;
    *) options+=("$1") ;;
  esac
  shift
done
shift || true
for flag in name type image; do
  [ -n "${!flag}" ] || fail "--$flag: is missing"
done
[[ "${place[*]-}" == *--zone=* ]] || fail "--zone: is missing"
check_experiment "$@"

if [[ "${options[*]-}" != *--runtime-version=* ]]; then
  case $type in
    v5lite*) options+=(--runtime-version=v2-alpha-tpuv5-lite) ;;
    v5p*) options+=(--runtime-version=v2-alpha-tpuv5) ;;
    v6e*) options+=(--runtime-version=v2-alpha-tpuv6e) ;;
    *) fail "--type=$type: say which --runtime-version it needs" ;;
  esac
fi

queued() { gcloud compute tpus queued-resources "$1" "$name" "${place[@]}" "${@:2}"; }
# Empty if there is no such resource. Any other error of gcloud, such as one of the network, says nothing about it.
state() {
  local try
  for try in {1..20}; do
    if queued describe --format='value(state.state)' 2> "$errors"; then return; fi
    if grep -q NOT_FOUND "$errors"; then return; fi
    echo "try $try: $(< "$errors")" >&2
    sleep "${TPU_POLL_SECONDS:-30}"
  done
  return 1
}

# Until the pod is ours; a pod that was taken away stays in the list until it is deleted.
obtain() {
  local now
  while true; do
    now=$(state)
    case $now in
      ACTIVE) return ;;
      FAILED | SUSPENDED) give_back ;;
      '') queued create --node-id="$name" --accelerator-type="$type" "${options[@]}" ;;
      *) sleep "${TPU_POLL_SECONDS:-30}" ;;
    esac
  done
}
give_back() { queued delete --force --quiet; }
# Whatever ends the script; the code stays that of the run.
at_exit() {
  local code=$?
  [ -n "$keep" ] || give_back || echo "$name may be left: see gcloud compute tpus queued-resources list" >&2
  rm -f "$errors"
  exit "$code"
}

printf -v command '%q ' "experiments/$1.py" "${@:2}" --distributed=auto
command="$setup && sudo docker run --rm --privileged --network=host --volume=/mnt:/mnt $image $command"
case $image in
  *-docker.pkg.dev/*) command="sudo gcloud auth configure-docker ${image%%/*} --quiet && $command" ;;
esac
start() { gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --worker=all --command="$command"; }

if [ -n "$dry_run" ]; then
  # The same functions, with a gcloud that is only printed.
  gcloud() { run gcloud "$@"; }
  queued create --node-id="$name" --accelerator-type="$type" "${options[@]}"
  start
  [ -n "$keep" ] || give_back
  exit
fi
errors=$(mktemp)
trap at_exit EXIT
while true; do
  obtain
  code=0
  start || code=$?
  # 85: saved after SIGTERM, goes on. Anything else is an error, unless the pod is gone.
  if [ $code -eq 0 ] || { [ $code -ne 85 ] && [ "$(state)" = ACTIVE ]; }; then break; fi
done
exit "$code"
