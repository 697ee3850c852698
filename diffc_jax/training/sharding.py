"""One mesh for every number of devices: the batch is split over it, parameters are replicated."""

from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array

from diffc_jax.errors import UsageError

_DATA_AXIS = "data"


def make_mesh() -> Mesh:
    """A mesh of all devices along one axis."""
    return jax.make_mesh((jax.device_count(),), (_DATA_AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh) -> NamedSharding:
    """The first axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec(_DATA_AXIS))


def put_batch(mesh: Mesh, batch: Mapping[str, np.ndarray]) -> dict[str, Array]:
    """Puts this process's part of a batch on its devices, as parts of the global arrays."""
    sharding = split_batch(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, array)
        for name, array in batch.items()
    }


def check_batch_size(field: str, batch_size: int, mesh: Mesh) -> None:
    """Checks that a global batch can be split evenly.

    Raises:
        UsageError: it cannot; names the field and the nearest sizes that can.
    """
    if batch_size % mesh.size:
        nearest = max(1, round(batch_size / mesh.size)) * mesh.size
        raise UsageError(
            f"{field}: {batch_size} is not divisible by the {mesh.size} devices; try {nearest}"
        )
