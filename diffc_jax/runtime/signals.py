"""What SIGTERM and Ctrl-C do to a program, from its first moments on; nothing here takes time to import."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], None]

_NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
# What a program that ends at once has still to do, the last first.
_pending: list[Callable[[], None]] = []


def name_of(signum: int) -> str:
    """SIGTERM or Ctrl-C."""
    return _NAMES[signal.Signals(signum)]


def leave_at_signals(exit_code: int | None = None) -> None:
    """Makes SIGTERM and Ctrl-C end the program at once, with no file half written and nothing left behind.

    Programs that promise an exit code call this before they import what takes seconds. Work that can end
    better has a handler of its own while it runs: training saves a checkpoint
    (`multihost.watching_for_signals`). Only the main thread can call this.

    Args:
        exit_code: of a program that goes on when its command is run again; None to die of the signal, as a
            program without a handler does.
    """

    def leave(signum: int, frame: FrameType | None) -> None:
        del frame
        while _pending:
            with contextlib.suppress(OSError):
                _pending.pop()()
        # Python may be writing at this moment.
        with contextlib.suppress(RuntimeError, OSError, ValueError):
            sys.stdout.flush()
        if exit_code is None:
            signal.signal(signum, signal.SIG_DFL)
            signal.raise_signal(signum)
            return
        tell(f"error: stopped by {name_of(signum)}; run the same command again to go on")
        os._exit(exit_code)

    _handle(leave)


def tell(line: str) -> None:
    """Writes a line on stderr, with the name of the program, as a handler may: Python may be writing, too."""
    text = f"{os.path.basename(sys.argv[0])}: {line}\n"
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, text.encode())


@contextlib.contextmanager
def handling(handler: Handler) -> Iterator[dict[int, Any]]:
    """Has SIGTERM and Ctrl-C call `handler` in the block; gives what they did before, and will again.

    Only the main thread can call this.
    """
    before = _handle(handler)
    try:
        yield before
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)


def _handle(handler: Handler) -> dict[int, Any]:
    """Sets handlers and returns those of before. Programs in the background ignore Ctrl-C, and go on to."""
    wanted = [one for one in _NAMES if signal.getsignal(one) != signal.SIG_IGN]
    return {int(one): signal.signal(one, handler) for one in wanted}


@contextlib.contextmanager
def ending_with(undo: Callable[[], None]) -> Iterator[None]:
    """Calls `undo` at the end of the block, however it ends: SIGTERM included, after `leave_at_signals`."""
    _pending.append(undo)
    try:
        yield
    finally:
        # A handler may have done it, and ended the program otherwise than expected.
        with contextlib.suppress(ValueError):
            _pending.remove(undo)
        undo()
