# Makes .venv in the repository's root from the project's own files, or finds it up to date.
# Sourced by quickstart.sh and test.sh:  make_environment [EXTRA]
# PYTHON names another interpreter than python3.

make_environment() {
  local extra=${1:-} python=${PYTHON:-python3} target stamp wanted
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "$0: error: $python is missing or older than Python 3.11; set PYTHON=/path/to/python3.11" >&2
    return 2
  fi
  target=".${extra:+[$extra]}"
  stamp=.venv/installed-${extra:-base}
  wanted=$(cat setup.cfg pyproject.toml constraints.txt | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing into .venv (once) ..."
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      --constraint constraints.txt --editable "$target"
    echo "$wanted" > "$stamp"
  fi
}
