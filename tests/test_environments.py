"""Which interpreter gets which versions: scripts/_environment.sh, with a stand-in for Python."""

import configparser
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LOWEST, HIGHEST = "constraints.txt", "constraints-highest.txt"

# Says that it is Python 3.$MINOR, notes what it is asked to do, and makes copies of itself as environments.
PYTHON = """#!/usr/bin/env bash
minor={minor}
case "$*" in
  -c*) echo $minor; exit ;;
  *venv*) [[ $* != *--clear* ]] || rm -r .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
esac
echo "$*" >> calls
"""


@pytest.fixture
def repository(tmp_path):
    for name in ("setup.cfg", "pyproject.toml", LOWEST, HIGHEST):
        shutil.copy(ROOT / name, tmp_path)
    for minor in (10, 11, 12, 13):
        python = tmp_path / f"python3.{minor}"
        python.write_text(PYTHON.format(minor=minor))
        python.chmod(0o755)
    return tmp_path


def make(repository, python, extra=""):
    """What the interpreters were asked to do, or the error."""
    calls = repository / "calls"
    calls.unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", "-euc", f". {ROOT}/scripts/_environment.sh; make_environment {extra}"],
        cwd=repository,
        env={"PATH": "/usr/bin:/bin", "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return done.returncode, done.stderr
    return calls.read_text().splitlines() if calls.exists() else []


def installing(constraints, target, venv="-m venv .venv"):
    pip = "-m pip install --quiet --disable-pip-version-check"
    return [venv, f"{pip} --constraint {constraints} --editable {target}"]


@pytest.mark.parametrize(("minor", "constraints"), [(11, LOWEST), (12, LOWEST), (13, HIGHEST)])
def test_the_interpreter_chooses_the_versions_once(repository, minor, constraints):
    python = f"./python3.{minor}"
    assert make(repository, python, "test") == installing(constraints, ".[test]")
    assert make(repository, python, "test") == []
    assert make(repository, python) == installing(constraints, ".")
    with (repository / constraints).open("a") as stream:
        stream.write("another==1\n")
    assert make(repository, python) == installing(constraints, ".")


def test_another_interpreter_begins_anew(repository):
    make(repository, "./python3.11", "test")
    make(repository, "./python3.11")
    anew = installing(HIGHEST, ".[test]", "-m venv --clear .venv")
    assert make(repository, "./python3.13", "test") == anew
    assert make(repository, "./python3.13", "test") == []
    assert make(repository, "./python3.13") == installing(HIGHEST, ".")


@pytest.mark.parametrize("python", ["./python3.10", "./no-python", "/bin/false"])
def test_an_old_or_missing_interpreter_is_one_line(repository, python):
    code, error = make(repository, python)
    assert (code, error) == (
        2,
        f"bash: error: {python} is missing or older than Python 3.11; set PYTHON=/path/to/python3.11\n",
    )
    assert not (repository / ".venv").exists()


def pinned(name):
    lines = (ROOT / name).read_text().splitlines()
    found = dict(line.split("==") for line in lines)
    assert len(found) == len(lines)
    return {canonical(package): version for package, version in found.items()}


def canonical(package):
    return re.sub(r"[-_.]+", "-", package).lower()


def test_both_ends_pin_everything_that_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    wanted = setup["options"]["install_requires"] + setup["options.extras_require"]["test"]
    lines = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    named = {canonical(re.split(r"[\[<>=]", line)[0]) for line in lines}
    lowest, highest = pinned(LOWEST), pinned(HIGHEST)
    assert named <= lowest.keys() & highest.keys()

    def release(text):
        return [int(part) for part in re.findall(r"\d+", text)]

    older = {p for p in lowest.keys() & highest.keys() if release(highest[p]) < release(lowest[p])}
    assert not older
    assert lowest["jax"].startswith("0.10.")
    assert highest["jax"].startswith("0.12.")


def test_the_job_on_slurm_takes_the_packages_that_were_installed():
    """And not the interpreter of PYTHON, which has none."""
    lines = (ROOT / "scripts" / "test.sh").read_text().splitlines()
    (line,) = (line for line in lines if line.endswith("slurm.sh"))
    assert line.endswith("PYTHON=$PWD/.venv/bin/python tests/cluster/slurm.sh")


def test_the_workflow_runs_both_ends():
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text()
    assert re.search(r'python: \["3.11", .*"3.13"\]', workflow)
    assert "cache-dependency-path: constraints*.txt" in workflow
