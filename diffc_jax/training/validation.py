"""One pass over held-out images, shared by all processes."""

from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.runtime import sharding

Batch = dict[str, np.ndarray]


def validation_batches(source: data.ImageSource, config: ConfigDict, mesh: Mesh) -> Iterator[Batch]:
    """The first config.train.eval_images of a source (all if that is 0), as `per_image` wants them."""
    return data.eval_batches(
        source,
        batch_size=sharding.even_batch_size(config.eval.batch_size, mesh) // jax.process_count(),
        stop=min(config.train.eval_images or len(source), len(source)),
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )


def per_image(
    measure: Callable[[dict[str, Array]], dict[str, np.ndarray]],
    batches: Iterable[Batch],
    mesh: Mesh,
) -> dict[str, np.ndarray]:
    """Values of every image, in the order of their indices, the same in all processes.

    Args:
        measure: takes a batch of all processes, on their devices, to values of its images.
        batches: of "image", "index" and "mask" (False for padding), of the images of this process.
        mesh: the devices.
    """
    values: dict[str, list[np.ndarray]] = {}
    indices = []
    for batch in batches:
        placed = sharding.put_batch(mesh, batch)
        mask, index = jax.device_get(sharding.gather(mesh, (placed["mask"], placed["index"])))
        indices.append(index[mask])
        for name, value in measure(placed).items():
            values.setdefault(name, []).append(value[mask])
    order = np.argsort(np.concatenate(indices))
    return {name: np.concatenate(parts)[order] for name, parts in values.items()}
