"""Several processes that share an evaluation: each works on images of its own, alone, on its own devices.

What they find meets in `Parts` under the common folder of the run. They need not keep step, so the codec,
whose work depends on the image, is shared like everything else; and a process that is gone costs the batch
that it worked on.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Bool, Float, PyTree

from diffc_jax import data
from diffc_jax.evaluation.progress_files import Parts
from diffc_jax.runtime import sharding
from diffc_jax.training.experiment import Experiment
from diffc_jax.training.state import TrainState

T = TypeVar("T")

_POLL_SECONDS = 0.5


def own_share(experiment: Experiment, state: TrainState) -> tuple[Experiment, TrainState]:
    """What a process evaluates with: its devices as a mesh, whole parameters, its share of the batch size.

    One process alone keeps the mesh of the config.
    """
    if jax.process_count() == 1:
        return experiment, state
    config = experiment.config.copy_and_resolve_references()
    config.eval.batch_size = -(-config.eval.batch_size // jax.process_count())
    mesh = Mesh(np.reshape(jax.local_devices(), (-1, 1)), experiment.mesh.axis_names)

    def whole(tree: PyTree) -> PyTree:
        gathered = jax.jit(functools.partial(sharding.gather, experiment.mesh))(tree)
        here = jax.tree.map(lambda leaf: leaf.addressable_data(0), gathered)
        return jax.device_put(here, sharding.replicated(mesh))

    return (
        dataclasses.replace(experiment, config=config, mesh=mesh),
        dataclasses.replace(state, ema=whole(state.ema), fixed=whole(state.fixed)),
    )


def own_images(done: Bool[np.ndarray, " n"], starts: Sequence[int] = ()) -> list[range]:
    """The images of this process, of those that are not done, as runs of neighbours.

    Args:
        done: which images have results; the word of process 0 counts, for others may see what one of them
            has done since.
        starts: images that a run may begin with but not go through.
    """
    agreed = np.asarray(multihost_utils.broadcast_one_to_all(done.astype(np.uint8)))
    own = np.array_split(np.flatnonzero(agreed == 0), jax.process_count())[jax.process_index()]
    begins = (np.diff(own) != 1) | np.isin(own[1:], starts)
    runs = np.split(own, np.flatnonzero(begins) + 1)
    return [range(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]


def batches(
    source: data.ImageSource, runs: Sequence[range], batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of `data.eval_batches` of some runs of images; none holds images of two runs."""
    for run in runs:
        yield from data.eval_batches(source, batch_size=batch_size, start=run.start, stop=run.stop)


def wait_for_all(parts: Parts, count: int) -> None:
    """Returns when images 0 to count - 1 all have results; JAX ends processes that wait for a dead one."""
    while not parts.done(count).all():
        time.sleep(_POLL_SECONDS)


def primary_first(make: Callable[[], T]) -> T:
    """Calls `make` in process 0 and then in the others, which find what it left on disk."""
    if jax.process_index() == 0:
        made = make()
        multihost_utils.sync_global_devices("primary_first")
        return made
    multihost_utils.sync_global_devices("primary_first")
    return make()


def share_rows(
    count: int, width: int, row: Callable[[int], Sequence[float]]
) -> Float[np.ndarray, "count width"]:
    """Rows 0 to count - 1, each computed by one process and known to all in the end."""
    rows = np.zeros((count, width))
    own = range(jax.process_index(), count, jax.process_count())
    for number in own:
        rows[number] = row(number)
    # As bytes: JAX would round to 32 bits.
    of_all = multihost_utils.process_allgather(rows.view(np.uint8))
    of_all = np.asarray(of_all).reshape(jax.process_count(), count, -1).view(np.float64)
    return np.stack([of_all[number % len(of_all), number] for number in range(count)])
