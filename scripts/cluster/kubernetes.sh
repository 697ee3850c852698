#!/usr/bin/env bash
# Runs an experiment on GPU nodes of Kubernetes, as a JobSet (jobset.sigs.k8s.io, 0.10 or newer): one pod for each node.
# It starts again by itself after preemption, and up to five times after other failures.
#   scripts/cluster/kubernetes.sh [--dry_run] --name=NAME --image=IMAGE --claim=CLAIM [--nodes=N] [--gpus=N] \
#     [--selector=LABEL:VALUE] -- train --config=... --workdir=/mnt/runs/...
# CLAIM is a PersistentVolumeClaim that many nodes may write (ReadWriteMany); it is mounted at /mnt. --dry_run prints
# the manifest.
set -euo pipefail
cd "$(dirname "$0")/../.."
. scripts/cluster/_launch.sh

dry_run='' name='' image='' claim='' nodes=1 gpus=8 selector=''
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --dry_run) dry_run=yes ;;
    --name=?*) name=${1#*=} ;;
    --image=?*) image=${1#*=} ;;
    --claim=?*) claim=${1#*=} ;;
    --nodes=[1-9]*) nodes=${1#*=} ;;
    --gpus=[1-9]*) gpus=${1#*=} ;;
    --selector=?*:?*) selector=${1#*=} ;;
    *) fail "$1: is none of --dry_run, --name, --image, --claim, --nodes, --gpus, --selector=LABEL:VALUE" ;;
  esac
  shift
done
shift || true
for flag in name image claim; do
  [ -n "${!flag}" ] || fail "--$flag: is missing"
done
check_experiment "$@"

# quote WORD ...: a YAML list on one line.
quote() { python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@"; }

node_selector=''
[ -z "$selector" ] || node_selector="nodeSelector: {${selector%%:*}: \"${selector#*:}\"}"
manifest=$(
  cat << END
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: $name
spec:
  failurePolicy:
    maxRestarts: 5
    restartStrategy: BlockingRecreate
    rules:
      - name: preempted
        action: RestartJobSetAndIgnoreMaxRestarts
        onJobFailureReasons: [PodFailurePolicy]
        onJobFailureMessagePatterns: [".*exit code 85.*", ".*DisruptionTarget.*"]
      - name: misused
        action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
        onJobFailureMessagePatterns: [".*exit code 2 .*"]
  replicatedJobs:
    - name: workers
      replicas: 1
      template:
        spec:
          completionMode: Indexed
          completions: $nodes
          parallelism: $nodes
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes: {containerName: main, operator: In, values: [2, 85]}
              - action: FailJob
                onPodConditions: [{type: DisruptionTarget, status: "True"}]
          template:
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: 600
              $node_selector
              containers:
                - name: main
                  image: $image
                  args: $(quote "experiments/$1.py" "${@:2}" --distributed=auto)
                  env:
                    - {name: JAX_COORDINATOR_ADDRESS, value: "$name-workers-0-0.$name:8476"}
                    - {name: JAX_NUM_PROCESSES, value: "$nodes"}
                    - name: JAX_PROCESS_ID
                      valueFrom:
                        fieldRef:
                          fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
                  resources:
                    limits: {nvidia.com/gpu: $gpus}
                  volumeMounts:
                    - {name: runs, mountPath: /mnt}
                    - {name: memory, mountPath: /dev/shm}
              volumes:
                - name: runs
                  persistentVolumeClaim: {claimName: $claim}
                - name: memory
                  emptyDir: {medium: Memory}
END
)
if [ -n "$dry_run" ]; then echo "$manifest"; else kubectl apply --filename=- <<< "$manifest"; fi
