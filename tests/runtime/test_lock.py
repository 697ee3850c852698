"""One process for the folder of a run: who is refused, what is stale, and what is noticed while it runs."""

import errno
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
from jax.experimental import multihost_utils

from diffc_jax.errors import InputError
from diffc_jax.runtime import files, lock, multihost, owner
from tests.support.refusals import fails, message


@pytest.fixture
def asleep(monkeypatch):
    """Sleeping takes no time; gives the seconds and the function that is called with every sleep."""
    sleeping = types.SimpleNamespace(slept=0.0, then=lambda: None)

    def sleep(seconds):
        sleeping.slept += seconds
        sleeping.then()

    monkeypatch.setattr(lock, "time", types.SimpleNamespace(sleep=sleep, strftime=time.strftime))
    return sleeping


def write_lock(folder, **fields):
    own = owner.this_process()
    description = {
        "host": "node7",
        "place": own.place,
        "pid": own.pid,
        "start": own.start,
        "since": "2026-11-28 02:00:00 +0000",
        "command": "experiments/train.py --workdir=W",
        "job": None,
        "token": "0",
        **fields,
    }
    folder.mkdir(exist_ok=True)
    (folder / lock.LOCK).write_text(json.dumps(description))
    return folder / lock.LOCK


def hold(folder):
    with lock.holding(folder):
        return json.loads((folder / lock.LOCK).read_text())


def refusal(folder, who):
    return f"--workdir {folder}: is in use by {who}. Wait for it, or use another --workdir"


def test_the_lock_names_its_process_and_goes_with_it(tmp_path):
    folder = tmp_path / "run"
    held = hold(folder)
    assert (held["pid"], held["host"]) == (os.getpid(), socket.gethostname())
    assert held["command"].startswith(sys.argv[0])
    assert not folder.exists()
    folder.mkdir()
    hold(folder)
    assert list(folder.iterdir()) == []
    with lock.holding(folder):
        files.write_json(folder / "a.json", {})
    assert [path.name for path in folder.iterdir()] == ["a.json"]


def test_blocks_of_one_process_may_be_nested(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with lock.holding(tmp_path / "run"):
        for name in ("run", "link"):
            hold(tmp_path / name)
        assert (tmp_path / "run" / lock.LOCK).exists()
    assert not (tmp_path / "run").exists()


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path):
    path = write_lock(tmp_path / "run", pid=os.getppid(), start=0, job="42")
    before = path.read_text()
    fails(
        InputError,
        refusal(
            path.parent,
            f"process {os.getppid()} on node7, job 42, since 2026-11-28 02:00:00 +0000:"
            " experiments/train.py --workdir=W",
        ),
        lambda: hold(path.parent),
    )
    assert path.read_text() == before


def test_two_processes_and_one_folder(tmp_path):
    code = (
        "import pathlib, sys; from diffc_jax.runtime import lock\n"
        "with lock.holding(pathlib.Path(sys.argv[1])): print('mine', flush=True); input()"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout.readline() == "mine\n"
    said = message(lambda: hold(tmp_path), InputError)
    assert said.startswith(f"--workdir {tmp_path}: is in use by process {first.pid} on ")
    first.kill()
    first.wait()
    assert hold(tmp_path)["pid"] == os.getpid()


@pytest.mark.parametrize("fields", [{"pid": 2**22 + 1}, {"start": 1}])
def test_a_dead_process_holds_nothing(fields, tmp_path, asleep, caplog):
    path = write_lock(tmp_path / "run", **fields)
    assert hold(path.parent)["token"] != "0"
    assert "is taken over from process " in caplog.text
    assert asleep.slept < 1.0
    assert list(path.parent.iterdir()) == []


def test_a_process_that_cannot_be_seen_is_alive_if_its_lock_is_touched(tmp_path, asleep):
    path = write_lock(tmp_path / "run", place="0" * 8)
    asleep.then = lambda: os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert message(lambda: hold(path.parent), InputError).startswith(
        f"--workdir {path.parent}: is in use by process {os.getpid()} on node7"
    )
    assert asleep.slept < 1.0


@pytest.mark.parametrize(
    "content",
    [None, "", "[]", '{"place": 3}', '{"place": "0", "pid": -1, "start": 0}', "[" * 9999, b"\xff"],
)
def test_a_lock_that_nobody_touches_is_stale(content, tmp_path, asleep, monkeypatch):
    path = write_lock(tmp_path / "run", place="0" * 8)
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    # A minute passes from one look to the next, by the clock of the file system.
    now, minutes = lock._now, itertools.count(0, int(60e9))
    monkeypatch.setattr(lock, "_now", lambda path: now(path) + next(minutes))
    assert hold(path.parent)["pid"] == os.getpid()
    assert asleep.slept > 0.0
    assert list(path.parent.iterdir()) == []


def test_of_two_that_take_over_one_does(tmp_path, asleep):
    """The other one comes between, and is found when things have settled."""
    path = write_lock(tmp_path / "run", pid=2**22 + 1)
    asleep.then = lambda: write_lock(path.parent, pid=os.getppid(), start=0)
    assert " is in use by process " in message(lambda: hold(path.parent), InputError)


def test_many_at_once(tmp_path):
    """Threads that stand for processes: one makes the lock."""
    path = tmp_path / lock.LOCK
    made = []

    def make(number):
        try:
            lock._create(path, str(number))
            made.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=make, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_text()] == [str(number) for number in made]


def test_the_owner_touches_its_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with lock.holding(tmp_path):
        path = tmp_path / lock.LOCK
        os.utime(path, (0, 0))
        for _ in range(500):
            if path.stat().st_mtime > 0:
                break
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 60


def test_a_lock_of_another_is_not_touched(tmp_path):
    """It may be stale, and somebody may wait to see that."""
    waits = iter(())

    class Ended(threading.Event):
        def wait(self, timeout=None):
            assert timeout == lock.BEAT_SECONDS
            return next(waits)

    path = write_lock(tmp_path)
    for mine, touched in (("another", False), (path.read_text(), True)):
        os.utime(path, (0, 0))
        waits = iter((False, False, True))
        lock._beat(path, mine, Ended())
        assert (path.stat().st_mtime > 0) == touched


def test_a_lock_that_cannot_be_read_is_taken_for_ours(tmp_path, monkeypatch):
    """As while a network is down: the write itself will tell."""

    def read(_):
        raise OSError(errno.EIO, "Input/output error")

    with lock.holding(tmp_path), monkeypatch.context() as patch:
        patch.setattr(lock, "_read", read)
        lock.check(tmp_path / "a.json")


def test_a_process_that_has_ended_and_is_not_waited_for_is_gone():
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.Owner(owner.this_process().place, child.pid, 0).is_gone()
    child.wait()


def test_hosts_boots_and_containers_are_places_of_their_own(tmp_path, monkeypatch):
    boot, namespace = tmp_path / "sys/kernel/random/boot_id", tmp_path / "self/ns/pid"
    for path in (boot, namespace):
        path.parent.mkdir(parents=True)
    monkeypatch.setattr(owner, "_PROC", tmp_path)
    places = [owner._place.__wrapped__()]
    boot.write_text("0123\n")
    places.append(owner._place.__wrapped__())
    namespace.symlink_to("pid:[4026531836]")
    places.append(owner._place.__wrapped__())
    namespace.unlink()
    namespace.symlink_to("pid:[4026532201]")
    places.append(owner._place.__wrapped__())
    monkeypatch.setattr(socket, "gethostname", lambda: "node8")
    places.append(owner._place.__wrapped__())
    assert len({*places}) == 5
    assert places[-1] == owner._place.__wrapped__()


def test_a_folder_that_was_deleted_is_noticed_at_the_next_write(tmp_path):
    folder = tmp_path / "run"

    def write():
        with lock.holding(folder):
            files.write_json(folder / "a.json", {})
            shutil.rmtree(folder)
            files.write_json(tmp_path / "elsewhere.json", {})
            files.write_json(folder / "sub" / "b.json", {})

    fails(
        InputError,
        f"--workdir {folder}: was deleted or moved while this run was writing to it (lock.json is gone);"
        " start the run again",
        write,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere.json"]


def test_a_folder_that_was_taken_over_is_noticed_and_left(tmp_path):
    def write():
        with lock.holding(tmp_path):
            write_lock(tmp_path)
            files.write_json(tmp_path / "a.json", {})

    said = message(write, InputError)
    assert said.startswith(
        f"--workdir {tmp_path}: was taken over by process {os.getpid()} on node7"
    )
    assert [path.name for path in tmp_path.iterdir()] == [lock.LOCK]


# Several processes


def test_processes_of_one_job_share_a_lock(tmp_path, monkeypatch):
    path = write_lock(tmp_path / "run", pid=os.getppid(), start=0)
    sent = []

    def broadcast(array):
        sent.append(array)
        return sent[0]

    monkeypatch.setattr(multihost.jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", broadcast)
    said = []
    for index in range(2):
        monkeypatch.setattr(multihost.jax, "process_index", lambda index=index: index)
        with pytest.raises(InputError) as caught, multihost.owning(path.parent):
            pytest.fail("was let in")
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert said[0].startswith(f"--workdir {path.parent}: is in use by process {os.getppid()}")
    path.unlink()
    sent.clear()
    for index in range(2):
        monkeypatch.setattr(multihost.jax, "process_index", lambda index=index: index)
        with multihost.owning(path.parent):
            assert path.exists() == (index == 0)
    assert [array.dtype for array in sent] == [np.uint8] * 2


def test_a_long_refusal_is_cut_between_characters(monkeypatch):
    monkeypatch.setattr(multihost.jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda array: array)
    text = f"x{'é' * 2000}"
    said = message(lambda: multihost._raise_in_all(InputError(text)), InputError)
    assert said == text[:1000]  # of 1999 bytes: the next one is half a character


def test_object_stores_are_not_locked():
    with multihost.owning(files.as_path("gs://bucket/run")):
        lock.check(files.as_path("gs://bucket/run/a.json"))
    assert not lock._held


def test_where_no_process_can_be_asked_for_none_is_sent_a_signal(monkeypatch):
    """On Windows the signal that asks would be Ctrl-C."""
    living, dead = owner.this_process(), owner.Owner(owner.this_process().place, 2**22, 1)
    assert (living.is_gone(), dead.is_gone()) == (False, True)
    monkeypatch.setattr(owner, "_CAN_ASK", False)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("sent a signal"))
    assert (living.is_gone(), dead.is_gone()) == (None, None)
    assert owner.this_process() == owner.Owner(living.place, living.pid, 0)
