"""Several processes that evaluate together: each works on images of its own, alone, on its own devices.

Their numbers meet in the `Store` in the common folder of the run. They need not keep step, so that the
codec, whose work depends on the image, is divided like everything else; and a process that is gone costs
the batch that it worked on.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Bool, Float

from diffc_jax import data
from diffc_jax.errors import DiffcError, PreemptedError
from diffc_jax.evaluation.store import Store
from diffc_jax.runtime import sharding, signals
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.multihost import is_primary

T = TypeVar("T")
_POLL_SECONDS = 0.5


class StoppedError(DiffcError):
    """No mistake. Unlike preempted training, each process of an evaluation leaves on its own."""

    exit_code = PreemptedError.exit_code


@contextlib.contextmanager
def leaving_at_signals(workdir: AnyPath) -> Iterator[None]:
    """Raises StoppedError where SIGTERM or Ctrl-C finds the block; only in the main thread.

    Finished images are on disk, and the same command goes on from there.
    """

    def leave(signum: int, frame: FrameType | None) -> None:
        del frame
        raise StoppedError(
            f"--workdir {workdir}: stopped by {signals.name_of(signum)}; finished images are kept, run the"
            " same command again to go on"
        )

    with signals.handling(leave):
        yield


def own_batch_size(batch_size: int, mesh: Mesh) -> int:
    """The images of a batch of all processes that one of them takes, a multiple of its devices."""
    return sharding.even_batch_size(-(-batch_size // jax.process_count()), mesh)


def own_images(done: Bool[np.ndarray, " n"], starts: Sequence[int] = ()) -> list[range]:
    """The images of this process, of those that are not done, as ranges that do not go through `starts`.

    What process 0 says is done counts, for others may see what one of them has done since.
    """
    agreed = np.asarray(multihost_utils.broadcast_one_to_all(done.astype(np.uint8)))
    own = np.array_split(np.flatnonzero(agreed == 0), jax.process_count())[jax.process_index()]
    begins = (np.diff(own) != 1) | np.isin(own[1:], starts)
    ranges = np.split(own, np.flatnonzero(begins) + 1)
    return [range(int(one[0]), int(one[-1]) + 1) for one in ranges if len(one)]


def wait_for(store: Store, count: int) -> None:
    """Waits until `count` images are saved; JAX ends processes that wait for a dead one."""
    while not store.done(count).all():
        time.sleep(_POLL_SECONDS)


def batches(
    source: data.ImageSource, ranges: Sequence[range], batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of `data.eval_batches` of ranges of images; none holds images of two ranges."""
    for one in ranges:
        yield from data.eval_batches(source, batch_size=batch_size, start=one.start, stop=one.stop)


def primary_first(make: Callable[[], T]) -> T:
    """Calls `make` in process 0 and then in the others, which find what it left on disk."""
    if is_primary():
        made = make()
        multihost_utils.sync_global_devices("primary_first")
        return made
    multihost_utils.sync_global_devices("primary_first")
    return make()


def rows_of_all(
    count: int, width: int, row: Callable[[int], Sequence[float]]
) -> Float[np.ndarray, "count width"]:
    """Rows 0 to count - 1, each computed by one process and known to all in the end."""
    rows = np.zeros((count, width))
    for number in range(jax.process_index(), count, jax.process_count()):
        rows[number] = row(number)
    # As bytes: JAX would round to 32 bits.
    gathered = multihost_utils.process_allgather(rows.view(np.uint8))
    of_all = np.asarray(gathered).reshape(jax.process_count(), count, -1).view(np.float64)
    return np.stack([of_all[number % len(of_all), number] for number in range(count)])
