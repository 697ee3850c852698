"""Where arrays lie: one mesh with the axes `data` and `fsdp` for every number of devices and hosts.

The batch is split over all devices. Parameters, their averages and the optimiser's state are split over
`fsdp` and repeated along `data`: a step gathers the parameters and returns gradients to their parts.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from diffc_jax.errors import UsageError

_DATA, _FSDP = "data", "fsdp"
# Arrays of fewer elements are repeated, not split: to gather them would cost more than it saves.
SMALLEST_SPLIT = 4096
# For programs that run once or never: their machine code need not be good, and the compiler takes a half to a
# fifth of its time without optimising it.
QUICKLY: dict[str, Any] = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def make_mesh(data: int = -1, fsdp: int = 1) -> Mesh:
    """A mesh of all devices of all processes: `data` groups of `fsdp` devices that share parameters.

    One of them may be -1, for the rest.

    Raises:
        UsageError: the devices cannot be divided so; names config.mesh.data or config.mesh.fsdp.
    """
    count = jax.device_count()
    for field, size in (("mesh.data", data), ("mesh.fsdp", fsdp)):
        if size != -1 and count % size:
            divisors = ", ".join(str(n) for n in range(1, count + 1) if count % n == 0)
            raise UsageError(
                f"{size} does not divide the {count} devices; choose one of {divisors}, or -1"
                " for the rest",
                field=field,
            )
    data = count // fsdp if data == -1 else data
    fsdp = count // data if fsdp == -1 else fsdp
    if data * fsdp != count:
        raise UsageError(
            f"{data}, times mesh.fsdp = {fsdp}, is not the number of devices, {count}; set one"
            " of them to -1 for the rest",
            field="mesh.data",
        )
    return jax.make_mesh((data, fsdp), (_DATA, _FSDP), axis_types=(AxisType.Auto,) * 2)


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split_batch(mesh: Mesh, stacked: bool = False) -> NamedSharding:
    """The first axis split over all devices; of several batches stacked along a first axis the second."""
    return NamedSharding(mesh, PartitionSpec(*[None] * stacked, (_DATA, _FSDP)))


def split_parameters(mesh: Mesh, tree: PyTree) -> PyTree:
    """The sharding of each array of a tree of parameters, gradients or optimiser state.

    An array is split along the largest axis that the size of `fsdp` divides, the first of equals. It is
    repeated if there is none, or if it has fewer than SMALLEST_SPLIT elements.
    """
    size = mesh.shape[_FSDP]

    def sharding(leaf: Array | jax.ShapeDtypeStruct) -> NamedSharding:
        axes = [axis for axis, length in enumerate(leaf.shape) if length % size == 0]
        if size == 1 or not axes or leaf.size < SMALLEST_SPLIT:
            return replicated(mesh)
        largest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * largest, _FSDP))

    return jax.tree.map(sharding, tree)


def as_template(shapes: PyTree, shardings: PyTree) -> PyTree:
    """Shapes and types with a sharding each, as `compile_step` and checkpoints take them."""
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
        shapes,
        shardings,
    )


def bytes_of_each_device(tree: PyTree) -> int:
    """Bytes that each device holds of a tree of arrays or shapes with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def memory_of_each_device(mesh: Mesh) -> int | None:
    """Bytes that a device lets programs have; None where it does not say, as CPUs do not."""
    return (mesh.local_devices[0].memory_stats() or {}).get("bytes_limit")


def compile_step(
    step: Callable[..., tuple[PyTree, PyTree]], template: PyTree, mesh: Mesh, *inputs: NamedSharding
) -> jax.stages.Wrapped:
    """Compiles `step(state, *inputs) -> (state, metrics)` for a state like `template`, which is given up.

    Without the shardings of inputs these are one batch.
    """
    shardings = jax.tree.map(lambda leaf: leaf.sharding, template)
    return jax.jit(
        step,
        in_shardings=(shardings, *(inputs or (split_batch(mesh),))),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def run_once(function: Callable[..., PyTree], shardings: PyTree, *arguments: Any) -> PyTree:
    """Results of a function, laid out as `shardings` says; compiled `QUICKLY`."""
    return jax.jit(function, out_shardings=shardings).lower(*arguments).compile(QUICKLY)(*arguments)


def gather(mesh: Mesh, tree: PyTree) -> PyTree:
    """All parameters on every device; inside a compiled function, or as a copy outside."""
    return jax.lax.with_sharding_constraint(tree, replicated(mesh))


def scatter(mesh: Mesh, tree: PyTree) -> PyTree:
    """The opposite, for gradients: sums over the devices end where `split_parameters` wants them."""
    return jax.lax.with_sharding_constraint(tree, split_parameters(mesh, tree))


def put_batch(mesh: Mesh, batch: PyTree, stacked: bool = False) -> PyTree:
    """Puts this process's rows of a batch (see `process_rows`) on its devices, as global arrays."""
    sharding = split_batch(mesh, stacked)
    return jax.tree.map(
        lambda array: jax.make_array_from_process_local_data(sharding, array), batch
    )


def process_rows(mesh: Mesh, batch_size: int) -> list[int]:
    """Which rows of a global batch lie on the devices of this process, in the order of `put_batch`."""
    parts = split_batch(mesh).addressable_devices_indices_map((batch_size,)).values()
    return sorted(row for part in parts if part for row in range(batch_size)[part[0]])


def even_batch_size(batch_size: int, mesh: Mesh) -> int:
    """The next size that splits evenly, for batches that are filled up with images that do not count."""
    return -(-batch_size // mesh.size) * mesh.size


def check_batch_size(field: str, batch_size: int, mesh: Mesh, accumulation_steps: int = 1) -> None:
    """Checks that a global batch can be split evenly over devices and accumulated parts.

    Raises:
        UsageError: it cannot; names the field and the nearest size that can.
    """
    unit = mesh.size * accumulation_steps
    if batch_size % unit:
        nearest = max(1, round(batch_size / unit)) * unit
        several = accumulation_steps > 1
        times = f" times train.accumulation_steps = {accumulation_steps}" if several else ""
        raise UsageError(
            f"{batch_size} is not divisible by the {mesh.size} devices{times}; try {nearest}",
            field=field,
        )
