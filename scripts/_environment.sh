# Makes .venv in the repository's root from the project's own files, or finds it up to date.
# Sourced by quickstart.sh and test.sh:  make_environment [EXTRA]
# PYTHON names another interpreter than python3. From Python 3.13 on packages have the versions of
# constraints-highest.txt, before that those of constraints.txt, the lowest.

make_environment() {
  local extra=${1:-} python=${PYTHON:-python3} version constraints stamp wanted clear=
  version=$(_minor_version "$python")
  if [ "${version:-0}" -lt 11 ]; then
    echo "$0: error: $python is missing or older than Python 3.11; set PYTHON=/path/to/python3.11" >&2
    return 2
  fi
  constraints=constraints.txt
  [ "$version" -lt 13 ] || constraints=constraints-highest.txt
  stamp=.venv/installed-${extra:-base}
  wanted="3.$version $(cat setup.cfg pyproject.toml "$constraints" | cksum)"
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing into .venv (once) ..."
    # Packages of one version of Python are none for another.
    [ ! -e .venv ] || [ "$(_minor_version .venv/bin/python)" = "$version" ] || clear=--clear
    "$python" -m venv $clear .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
      --constraint "$constraints" --editable ".${extra:+[$extra]}"
    echo "$wanted" > "$stamp"
  fi
}

# Y of Python 3.Y; nothing if it does not run or is no Python 3.
_minor_version() {
  "$1" -c 'import sys; sys.version_info[0] == 3 and print(sys.version_info[1])' 2>/dev/null || true
}
