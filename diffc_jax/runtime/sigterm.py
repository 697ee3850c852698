"""What SIGTERM does to a program, from its first moments on; nothing here takes time to import."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

# What a program that ends at once has still to do, the last first.
_pending: list[Callable[[], None]] = []


def leave_at_sigterm(exit_code: int | None = None) -> None:
    """Makes SIGTERM end the program at once, with no file half written and nothing left behind.

    Programs that promise an exit code call this before they import what takes seconds. Work that can end
    better has a handler of its own while it runs: training saves a checkpoint
    (`multihost.watching_for_sigterm`). Only the main thread can call this.

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
        name = os.path.basename(sys.argv[0])
        line = f"{name}: error: stopped by SIGTERM; run the same command again to go on\n"
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, line.encode())
        os._exit(exit_code)

    signal.signal(signal.SIGTERM, leave)


@contextlib.contextmanager
def ending_with(undo: Callable[[], None]) -> Iterator[None]:
    """Calls `undo` at the end of the block, however it ends: SIGTERM included, after `leave_at_sigterm`."""
    _pending.append(undo)
    try:
        yield
    finally:
        # A handler may have done it, and ended the program otherwise than expected.
        with contextlib.suppress(ValueError):
            _pending.remove(undo)
        undo()
