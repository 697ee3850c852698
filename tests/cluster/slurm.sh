#!/usr/bin/env bash
# Runs the shipped Slurm job on a real Slurm: Debian's slurm-wlm, a controller and one node on this machine, two tasks.
#   tests/cluster/slurm.sh          (as root; PYTHON names another interpreter than .venv/bin/python)
# Installs Slurm if it is missing, and stops what it started. Where that cannot be, it says so and leaves with 0.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
python=${PYTHON:-$root/.venv/bin/python}

leave_out() {
  echo "tests/cluster/slurm.sh: left out: $*"
  exit 0
}
[ "$(id -u)" -eq 0 ] || leave_out "Slurm's daemons need root"
if ! command -v slurmctld slurmd munged > /dev/null; then
  command -v apt-get > /dev/null || leave_out "no slurmctld, slurmd and munged, and no apt-get to install them"
  echo "installing slurm-wlm ..."
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends slurm-wlm munge; } \
    > /dev/null 2>&1 || leave_out "apt-get could not install slurm-wlm"
fi
! { pgrep -x slurmctld || pgrep -x slurmd; } > /dev/null || leave_out "a Slurm is running on this machine already"

work=$(mktemp -d)
chmod 711 "$work"
pids=()
stop() {
  local code=$?
  [ $code -eq 0 ] || tail -n 40 "$work"/*.log "$work"/*.out >&2 || true
  # Slurm ends the processes of its jobs; then its daemons can go.
  scancel --user="$(id -un)" 2> /dev/null || true
  for _ in {1..50}; do
    [ -n "$(squeue --noheader 2> /dev/null)" ] || break
    sleep 0.2
  done
  for pid in ${pids[@]+"${pids[@]}"}; do
    kill "$pid" 2> /dev/null || true
    wait "$pid" 2> /dev/null || true
  done
  rm -rf "$work"
  exit $code
}
trap stop EXIT

# A Slurm of its own: ports that are free, state and keys in the temporary folder.
read -r controller_port node_port < <("$python" -c '
import socket
ends = [socket.create_server(("", 0)) for _ in range(2)]
print(*(end.getsockname()[1] for end in ends))')
host=$(hostname -s)
mkdir "$work/state" "$work/spool"
head -c 128 /dev/urandom > "$work/munge.key"
chmod 400 "$work/munge.key"
cat > "$work/slurm.conf" << CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller_port
SlurmdPort=$node_port
SlurmUser=root
AuthInfo=socket=$work/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
JobRequeue=0
ReturnToService=2
KillWait=10
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=$host Default=YES PriorityTier=1 GraceTime=120
PartitionName=high Nodes=$host PriorityTier=2 PreemptMode=OFF
CONF
export SLURM_CONF=$work/slurm.conf

munged --foreground --force --key-file="$work/munge.key" --socket="$work/munge.socket" --pid-file="$work/munge.pid" \
  --seed-file="$work/munge.seed" --log-file="$work/munge.log" > /dev/null 2>&1 &
pids+=($!)
slurmctld -D -i > "$work/slurmctld.log" 2>&1 &
pids+=($!)
slurmd -D -N "$host" > "$work/slurmd.log" 2>&1 &
pids+=($!)

fail() {
  echo "tests/cluster/slurm.sh: FAILED: $*" >&2
  exit 1
}
# until_true SECONDS COMMAND ...: waits until it succeeds.
until_true() {
  local end=$((SECONDS + $1))
  while ! "${@:2}" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "not within $1 seconds: ${*:2}"
    sleep 0.2
  done
}
node_is_idle() { [ "$(sinfo --noheader --partition=low --format=%T)" = idle ]; }
field() { scontrol show job "$1" --oneliner | grep -o "\b$2=[^ ]*" | head -n 1 | cut -d= -f2; }
is() { [ "$(field "$1" "$2")" = "$3" ]; }
# Steps that have been logged in a workdir.
steps() { sed 's/.*"step": \([0-9]*\).*/\1/' "$1/metrics.jsonl" 2> /dev/null; }
has_step() { [ "$(steps "$1" | tail -n 1)" -ge "$2" ]; }
# A job that is requeued waits for two minutes, or until it is told to start; nodes refuse jobs that they have just killed.
start_again() {
  until_true 60 is "$1" JobState PENDING
  sleep 3
  until_true 30 scontrol update jobid="$1" StartTime=now
}

export PYTHON=$python JAX_PLATFORMS=cpu
flags=(--config=configs/quickstart.py:smoke --config.train.eval_every_steps=1000 --config.train.log_every_steps=1
  --config.train.checkpoint_every_steps=1000)
submit() { scripts/cluster/slurm.sh --output="$work/%x-%j-%a.out" "$@" | grep -o '[0-9]*$'; }
until_true 60 node_is_idle

echo "training in two tasks, preempted twice"
run=$work/run last=60
job=$(submit --partition=low --ntasks=2 --time=10 -- \
  train "${flags[@]}" --workdir="$run" --config.train.num_steps=$last)
until_true 120 has_step "$run" 5
scancel --signal=TERM "$job" # what --signal does before the time is up
start_again "$job"
saved=$(ls "$run/checkpoints")
until_true 120 has_step "$run" $((saved + 2))
urgent=$(sbatch --parsable --partition=high --ntasks=2 --output=/dev/null --wrap='sleep 1')
until_true 120 is "$urgent" JobState COMPLETED
has_step "$run" $last && fail "the job was not preempted"
start_again "$job"
until_true 240 is "$job" JobState COMPLETED
is "$job" Restarts 2 || fail "restarts: $(field "$job" Restarts), not 2"
is "$job" ExitCode 0:0 || fail "exit code: $(field "$job" ExitCode)"
[ "$(steps "$run")" = "$(seq $last; echo $last)" ] || fail "steps were lost or repeated: $(steps "$run" | paste -sd' ')"
[ -s "$run/params.safetensors" ] || fail "no parameters were exported"
[ "$(grep -c 'stopped as asked and saved' "$work"/diffc-"$job"-*.out)" -ge 2 ] || fail "nobody said that it was stopped"

echo "evaluation in two tasks"
job=$(submit --partition=low --ntasks=2 --time=10 -- \
  evaluate "${flags[@]}" --workdir="$run")
until_true 240 is "$job" JobState COMPLETED
[ "$(wc -l < "$run/eval/rd.csv")" -gt 1 ] || fail "no rate points"

echo "an array of two jobs, one of them stopped"
printf '%s\n' "--workdir=$work/a --config.train.num_steps=2" "--workdir=$work/b --config.train.num_steps=$last" > "$work/sweep"
job=$(submit --sweep="$work/sweep" --partition=low --ntasks=1 --time=10 -- train "${flags[@]}")
until_true 120 has_step "$work/b" 5
scancel --signal=TERM "${job}_2"
start_again "${job}_2"
for task in 1 2; do until_true 240 is "${job}_$task" JobState COMPLETED; done
[ "$(steps "$work/a" | tail -n 1) $(steps "$work/b" | tail -n 1)" = "2 $last" ] || fail "lines of the sweep were mixed up"
is "${job}_1" Restarts 0 || fail "the whole array was requeued"

echo "tests/cluster/slurm.sh: passed"
