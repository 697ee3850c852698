#!/usr/bin/env bash
# Builds the container image of the last commit and pushes it where a cluster can get it.
#   scripts/cluster/image.sh [--dry_run] [--extra=cuda|tpu] [--push] --image=REGISTRY/NAME:TAG
# DOCKER names another builder than docker, for example podman. --dry_run prints what would be done.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/cluster/_launch.sh

dry_run='' extra=cuda push='' image=''
for argument in "$@"; do
  case $argument in
    --dry_run) dry_run=yes ;;
    --extra=cuda | --extra=tpu) extra=${argument#*=} ;;
    --push) push=yes ;;
    --image=?*) image=${argument#*=} ;;
    *) fail "$argument: is none of --dry_run, --extra=cuda, --extra=tpu, --push, --image=REGISTRY/NAME:TAG" ;;
  esac
done
[ -n "$image" ] || fail "--image: say what to call it, REGISTRY/NAME:TAG"

context=$(mktemp)
trap 'rm -f "$context"' EXIT
run git archive --output="$context" --format=tar HEAD
run "${DOCKER:-docker}" build --file=scripts/cluster/Dockerfile --build-arg="EXTRA=$extra" \
  --build-arg="COMMIT=$(git rev-parse HEAD)" --tag="$image" - < "$context"
[ -z "$push" ] || run "${DOCKER:-docker}" push "$image"
