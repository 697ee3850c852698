"""SIGTERM, Ctrl-C and SIGKILL at any moment: the exit code that is promised, and nothing left behind."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from diffc_jax.runtime import files, owner, signals
from tests.support.processes import ROOT, environment

STOPPED = "error: stopped by {}; run the same command again to go on\n"
SIGNALS = {"SIGTERM": "SIGTERM", "SIGINT": "Ctrl-C"}


def run(*arguments, **variables):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("program", ["train", "evaluate", "reproduce"])
def test_programs_that_go_on_say_so_from_their_first_moments_on(program, name, tmp_path):
    """They meet a signal while they import a package instead of JAX."""
    package = tmp_path / "packages" / "jax"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f"import signal; signal.raise_signal(signal.{name})\n")
    variables = {"PYTHONPATH": f"{package.parent}:{ROOT}"}
    done = run(f"experiments/{program}.py", "--config=no.py", "--workdir=no", **variables)
    assert done.returncode == 85
    assert done.stderr == f"{program}.py: {STOPPED.format(SIGNALS[name])}"


WRITE = """
import os, pathlib, signal, sys, time
from diffc_jax.runtime import files, lock, signals
signals.leave_at_signals(eval(sys.argv[2]))
path = pathlib.Path(sys.argv[1])
with lock.holding(path.parent), files.atomic_write(path) as temporary:
    temporary.write_bytes(b"half")
    print(*sorted(p.name for p in path.parent.iterdir()), flush=True)
    os.kill(os.getpid(), getattr(signal, sys.argv[3]))
    time.sleep(60)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("code", [85, None])
def test_signals_leave_no_temporary_file_and_no_lock(code, name, tmp_path):
    path = tmp_path / "a.diffc"
    path.write_bytes(b"old")
    done = run("-c", WRITE, path, code, name)
    assert done.returncode == (code or -getattr(signal, name)), done.stderr
    assert done.stderr == (f"-c: {STOPPED.format(SIGNALS[name])}" if code else "")
    temporary, final, lock = done.stdout.split()
    assert temporary.startswith(".a.diffc-")
    assert (final, lock) == ("a.diffc", "lock.json")
    assert names(tmp_path) == ["a.diffc"]
    assert path.read_bytes() == b"old"


def test_programs_in_the_background_go_on_ignoring_ctrl_c():
    """A shell lets them ignore it, since it is meant for those in front."""
    received = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals.handling(lambda signum, frame: received.append(signum)):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
    assert received == [signal.SIGTERM]


def test_sigterm_leaves_no_folder_that_it_found_new(tmp_path):
    """What lies in it goes before it does."""
    done = run("-c", WRITE, tmp_path / "run" / "a.diffc", None, "SIGTERM")
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert len(done.stdout.split()) == 2
    assert names(tmp_path) == []


def test_what_a_killed_process_left_goes_with_the_next_that_writes_there(tmp_path):
    path = tmp_path / "a.diffc"
    for _ in range(2):
        done = run("-c", WRITE, path, None, "SIGKILL")
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert names(tmp_path) == [done.stdout.split()[0], "lock.json"]
    files.write_json(tmp_path / "b.json", {})
    assert names(tmp_path) == ["b.json", "lock.json"]


# Temporary names


def touch(folder, **fields):
    """A temporary file for a.npz of a process that differs from this one in these fields."""
    own = owner.this_process()
    values = {"place": own.place, "pid": own.pid, "start": own.start, **fields}
    name = f".a.diffc-{values['place']}-{values['pid']}-{values['start']}-01234567.npz"
    (folder / name).touch()
    return folder / name


def test_names_tell_their_process(tmp_path):
    with files.atomic_write(tmp_path / "a.npz") as temporary:
        kept = touch(tmp_path)
        assert temporary.name[: -len("01234567.npz")] == kept.name[: -len("01234567.npz")]
        assert temporary.suffix == ".npz"
    assert names(tmp_path) == sorted([kept.name, "a.npz"])


def test_only_what_dead_processes_left_is_removed(tmp_path):
    others = touch(tmp_path, place="0" * 8, pid=1)
    kept = [touch(tmp_path), touch(tmp_path, pid=os.getppid(), start=0), others]
    for name in (".hidden.npz", ".a.diffc-1-2-3-4.npz", "a.diffc-00000000-1-1-01234567.npz"):
        (tmp_path / name).touch()
        kept.append(tmp_path / name)
    own = owner.this_process()
    gone = [touch(tmp_path, pid=2**22 + 1), touch(tmp_path, start=own.start + 1)]
    almost_a_day = time.time() - 0.99 * 86400
    os.utime(others, (almost_a_day, almost_a_day))
    owner.remove_leftovers(tmp_path)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)
    # Nobody has written to it for long.
    old = time.time() - 2 * 86400
    os.utime(others, (old, old))
    owner.remove_leftovers.cache_clear()
    owner.remove_leftovers(tmp_path)
    assert [path.exists() for path in kept] == [path is not others for path in kept]


def test_long_names_and_the_rights_of_files_are_kept(tmp_path):
    path = tmp_path / f"{'ä' * 120}.npz"
    before = os.umask(0o027)
    try:
        with files.atomic_write(path) as temporary:
            temporary.write_bytes(b"x")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == [path.name]


def test_a_folder_is_searched_once(tmp_path, monkeypatch):
    searched = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (searched.append(path), scandir(path))[1])
    for number in range(3):
        files.write_json(tmp_path / f"{number}.json", {})
    assert searched == [pathlib.Path(tmp_path)]
