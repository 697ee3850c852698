"""SIGTERM ends an evaluation at once; finished images are on disk; the same command goes on from there."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from diffc_jax.errors import DiffcError, PreemptedError
from diffc_jax.runtime.files import AnyPath


class StoppedError(DiffcError):
    """No mistake. Unlike preempted training, processes of an evaluation leave each for itself."""

    exit_code = PreemptedError.exit_code


@contextlib.contextmanager
def leaving_at_sigterm(workdir: AnyPath) -> Iterator[None]:
    """Raises StoppedError where SIGTERM finds the block; only in the main thread."""

    def leave(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        raise StoppedError(
            f"--workdir {workdir}: stopped by SIGTERM; finished images are kept, run the same command"
            " again to go on"
        )

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
