"""SIGTERM, with which cluster managers announce that they take the machine away.

A run saves a checkpoint at the end of a step and raises `errors.PreemptedError`; its exit code tells
launchers to run the same command again.
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from diffc_jax.runtime import sharding


@contextlib.contextmanager
def watching(mesh: Mesh) -> Iterator[Callable[[], bool]]:
    """Gives `requested()`, which says after a step whether the run has to save and leave.

    With several processes all have to ask after every step; all get the same answer, one step after
    SIGTERM reached any of them. Only the main thread can watch.
    """
    received = False

    def note(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        nonlocal received
        received = True

    def requested() -> bool:
        return received if jax.process_count() == 1 else agree(received)

    agree = _Agreement(mesh)
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield requested
    finally:
        signal.signal(signal.SIGTERM, before)


class _Agreement:
    """Whether any process said yes at the call before, the same answer in all processes.

    That one call of delay lets the devices work on a step while the answers to the last one travel.
    """

    def __init__(self, mesh: Mesh):
        self._sharding = sharding.split_batch(mesh)
        self._any = jax.jit(jnp.any, out_shardings=sharding.replicated(mesh))
        self._last: Array | None = None

    def __call__(self, vote: bool) -> bool:
        answer = self._last is not None and bool(self._last)
        votes = np.full(jax.local_device_count(), vote)
        self._last = self._any(jax.make_array_from_process_local_data(self._sharding, votes))
        return answer
