"""One process for the folder of a run: W/lock.json names it, others are refused.

The file is made with O_EXCL, which network file systems honour too; flock they may not. Its owner touches it
every `BEAT_SECONDS`. A lock is stale if its process has ended, where that can be seen, or else if it was not
touched for `LEASE_SECONDS` by the clock of the file system: then its machine or container is gone.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import secrets
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Required, TypedDict

from absl import logging
from etils import epath

from diffc_jax.errors import InputError
from diffc_jax.runtime import disk, owner, signals
from diffc_jax.runtime.json_text import parse_json
from diffc_jax.typed import Count, Meta

LOCK = "lock.json"
BEAT_SECONDS = 15.0
LEASE_SECONDS = 90.0
# How long two processes that take over the same stale lock need to see which of them did.
_SETTLE_SECONDS = 0.5
_POLL_SECONDS = 0.5
# Content of the locks that this process holds, by their folders.
_held: dict[pathlib.Path, str] = {}


@contextlib.contextmanager
def holding(folder: pathlib.Path) -> Iterator[None]:
    """Makes this process the only one that may write to `folder`, which is made if need be.

    Blocks of the same process may be nested. A stale lock is taken over; where only time can tell, that takes
    up to `LEASE_SECONDS`.

    Raises:
        InputError: another process holds it, or the folder cannot be written.
    """
    path = folder.absolute() / LOCK
    mine = _describe_this_process()
    is_new = not folder.exists()
    with disk.only_writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        nested = _take(path, mine)
    if nested:
        yield
        return
    ended = threading.Event()
    with signals.ending_with(lambda: _release(path, mine, is_new)):
        _held[path.parent] = mine
        threading.Thread(target=_beat, args=(path, mine, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            del _held[path.parent]


def check(path: pathlib.Path | epath.Path) -> None:
    """Checks, before something is written to `path`, that the lock of its folder is still there.

    Raises:
        InputError: the folder of the run was deleted or moved, or another process has taken it over.
    """
    if not (_held and isinstance(path, pathlib.Path)):
        return  # object stores are not locked
    path = path.absolute()
    for folder, mine in _held.items():
        if not path.is_relative_to(folder):
            continue
        try:
            found = _read(folder / LOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"--workdir {folder}: was deleted or moved while this run was writing to it"
                f" ({LOCK} is gone); start the run again"
            ) from None
        except OSError:
            continue  # not known, as on a network that is down
        if found != mine:
            raise InputError(
                f"--workdir {folder}: was taken over by {Holder.parse(found)}; this run ends"
            )


def _describe_this_process() -> str:
    description = {
        "host": socket.gethostname(),
        **dataclasses.asdict(owner.this_process()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "command": shlex.join(sys.argv),
        "job": os.environ.get("SLURM_JOB_ID"),
        "token": secrets.token_hex(8),
    }
    return json.dumps(description, indent=2, allow_nan=False) + "\n"


def _read(path: pathlib.Path) -> str:
    """What a lock says, damaged or not."""
    return path.read_bytes().decode(errors="replace")


class _Fields(TypedDict, total=False):
    """What readers need of a lock."""

    place: Required[str]
    pid: Required[Annotated[int, Meta(ge=1, le=2**31 - 1)]]
    start: Required[Count]
    host: str
    since: str
    command: str
    job: str | None


@dataclasses.dataclass(frozen=True)
class Holder:
    """What a lock says, as far as it can be read."""

    owner: owner.Owner | None
    fields: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str) -> "Holder":
        """What a lock with this text says; nothing if it is damaged."""
        try:
            fields = parse_json(text.encode(), LOCK, _Fields)
            return cls(owner.Owner(fields["place"], fields["pid"], fields["start"]), fields)
        except InputError:  # just being made, or damaged
            return cls(None, {})

    def is_gone(self) -> bool | None:
        """Whether the process has ended; None if that is not known."""
        return None if self.owner is None else self.owner.is_gone()

    def __str__(self) -> str:
        if self.owner is None:
            return "a process that is not known"
        job = f", job {self.fields['job']}" if self.fields.get("job") else ""
        return (
            f"process {self.owner.pid} on {self.fields.get('host')}{job}, since"
            f" {self.fields.get('since')}: {self.fields.get('command')}"
        )


def _take(path: pathlib.Path, mine: str) -> bool:
    """Returns when the lock holds `mine`, or True if this process has it already; else InputError."""
    first_touch = None
    while True:
        with contextlib.suppress(FileExistsError):
            _create(path, mine)
            return False
        try:
            found, touched = _read(path), path.stat().st_mtime_ns
        except FileNotFoundError:
            continue
        holder = Holder.parse(found)
        if holder.owner == owner.this_process():
            return True
        gone = holder.is_gone()
        if gone is None:
            age = (_now(path) - touched) / 1e9
            if age < LEASE_SECONDS and first_touch in (None, touched):
                if first_touch is None:
                    logging.info(
                        "%s: waiting up to %.0f s to see whether %s is still there",
                        *(path, LEASE_SECONDS - age, holder),
                    )
                first_touch = touched
                time.sleep(_POLL_SECONDS)
                continue
            gone = age >= LEASE_SECONDS
        if not gone:
            raise InputError(
                f"--workdir {path.parent}: is in use by {holder}. Wait for it, or use another --workdir"
            )
        logging.warning("%s: is taken over from %s, which is gone", path, holder)
        _replace(path, found, mine)
        time.sleep(_SETTLE_SECONDS)
        with contextlib.suppress(FileNotFoundError):
            if _read(path) == mine:
                return False


def _create(path: pathlib.Path, text: str) -> None:
    """Makes a file that must not exist."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
    except OSError:
        owner.discard(path)  # on a full disk
        raise


def _replace(path: pathlib.Path, old: str, new: str) -> None:
    """Puts a new file in the place of one that still says `old`."""
    temporary = owner.temporary_name(path)
    with signals.ending_with(lambda: owner.discard(temporary)):
        _create(temporary, new)
        with contextlib.suppress(FileNotFoundError):
            if _read(path) == old:
                temporary.replace(path)


def _now(path: pathlib.Path) -> int:
    """The time that the file system gives to what is written now, nanoseconds."""
    temporary = owner.temporary_name(path)
    with signals.ending_with(lambda: owner.discard(temporary)):
        _create(temporary, "")
        return temporary.stat().st_mtime_ns


def _beat(path: pathlib.Path, mine: str, ended: threading.Event) -> None:
    """Touches the lock as long as it is ours."""
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            if _read(path) == mine:
                os.utime(path)


def _release(path: pathlib.Path, mine: str, with_folder: bool) -> None:
    with contextlib.suppress(OSError):
        if _read(path) == mine:
            path.unlink()
            if with_folder:
                path.parent.rmdir()  # which fails, as it should, if the run has written anything
