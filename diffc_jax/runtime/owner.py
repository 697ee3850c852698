"""Which process made a file, so that what a dead one left behind is told from what a living one uses."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import secrets
import socket
import time

_PROC = pathlib.Path("/proc")
# Elsewhere signal 0, which asks whether a process is there, is Ctrl-C.
_CAN_ASK = os.name == "posix"
# What begins the middle part of temporary names, after the name of the file that they are for.
_MARK = "diffc-"
_TEMPORARY = re.compile(
    rf"\..*\.{_MARK}([0-9a-f]{{8}})-(\d+)-(\d+)-[0-9a-f]{{8}}(\..*)?", re.DOTALL
)
_LONGEST_NAME_KEPT = 40
# A temporary file of a machine that cannot be asked is left alone for so long.
_SECONDS_UNTOUCHED = 86400.0


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        place: eight hexadecimal digits; processes with the same ones can see each other. They stand for the
            host, its boot and the namespace of process numbers, which containers have of their own.
        pid: its number.
        start: when it started, in clock ticks after the boot; 0 where the system does not say.
    """

    place: str
    pid: int
    start: int

    def is_gone(self) -> bool | None:
        """Whether the process has ended; None if that cannot be seen from here."""
        if not _CAN_ASK or self.place != _place():
            return None
        start = _start(self.pid)
        return start is None or (0 < start != self.start > 0)


def this_process() -> Owner:
    """The process that asks."""
    return Owner(_place(), os.getpid(), _start(os.getpid()) or 0)


def temporary_name(path: pathlib.Path) -> pathlib.Path:
    """A new name beside `path` with its suffix, hidden, that tells `remove_leftovers` the process."""
    owner = this_process()
    middle = f"{_MARK}{owner.place}-{owner.pid}-{owner.start}-{secrets.token_hex(4)}"
    return path.with_name(f".{path.stem[:_LONGEST_NAME_KEPT]}.{middle}{path.suffix}")


def discard(temporary: pathlib.Path) -> None:
    """Removes a temporary file, if it is there and can be removed."""
    with contextlib.suppress(OSError):
        temporary.unlink()


@functools.cache
def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes temporary files of processes that are gone; looks into a folder once in the life of a process.

    Files of other machines and containers count as left behind when nobody has written to them for a day.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if (match := _TEMPORARY.fullmatch(entry.name)) is None:
                continue
            # Another process may remove it at the same time, or it may not be ours to remove.
            with contextlib.suppress(OSError):
                gone = Owner(match[1], int(match[2]), int(match[3])).is_gone()
                if gone is None:
                    gone = time.time() - entry.stat().st_mtime > _SECONDS_UNTOUCHED
                if gone:
                    os.unlink(entry)


@functools.cache
def _place() -> str:
    boot = _PROC / "sys" / "kernel" / "random" / "boot_id"
    namespace = _PROC / "self" / "ns" / "pid"
    parts = [
        socket.gethostname(),
        boot.read_text().strip() if boot.exists() else "",
        os.readlink(namespace) if namespace.is_symlink() else "",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _start(pid: int) -> int | None:
    """When a process of this machine started, as in `Owner`; None if there is none."""
    if not _CAN_ASK:
        return 0
    try:
        os.kill(pid, 0)  # sends nothing
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # of another user
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    # After the name of the program, which may hold anything: the state, then numbers.
    state, *numbers = stat.rpartition(")")[2].split()
    return None if state in "ZX" else int(numbers[18])
