# What the launchers share; sourced after they have set dry_run (empty, or anything for --dry_run).

# fail MESSAGE: a mistake on the command line, in one line.
fail() {
  echo "$(basename "$0"): error: $*" >&2
  exit 2
}

# run COMMAND ...: runs it, or only prints it.
run() {
  if [ -n "$dry_run" ]; then
    printf '%q ' "$@"
    echo
  else
    "$@"
  fi
}

# check_experiment train --config=... --workdir=...: what every launcher is given behind --.
check_experiment() {
  [ $# -gt 0 ] || fail "nothing to run; put the experiment and its flags behind --: -- train --config=..."
  [ -f "experiments/$1.py" ] || fail "$1: is no experiment; choose one of $(list_experiments)"
  grep -q multi_host "experiments/$1.py" || fail "$1: runs in one process; launch $(list_experiments)"
}

list_experiments() {
  grep -l multi_host experiments/*.py | xargs -n 1 basename -s .py | paste -sd, - | sed 's/,/, /g'
}
