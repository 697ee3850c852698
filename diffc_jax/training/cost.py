"""What a training run would cost: its step compiled for a mesh of simulated devices, and never run."""

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from diffc_jax.errors import UsageError
from diffc_jax.training import sharding
from diffc_jax.training.collectives import Collective, read_collectives
from diffc_jax.training.compilation import QUICKLY
from diffc_jax.training.state import count_parameters
from diffc_jax.training.trainee import Trainee

_SECONDS_PER_DAY = 86400.0
# Share of the peak arithmetic that convolutions of this kind reach in practice; for the slow estimate.
_USUAL_UTILISATION = 0.4
_STATE_PARTS = {
    "params": "parameters",
    "ema": "average of the parameters",
    "opt_state": "optimiser",
}


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """Datasheet numbers of one device.

    Attributes:
        flops: dense bfloat16 operations a second.
        memory: bytes.
        bandwidth: of the memory, bytes a second.
        link: bytes a second that it sends to its neighbours, in one direction.
        network: the same between nodes.
        node: devices of a node, within which `link` counts.
        kinds: what JAX calls the device.
    """

    flops: float
    memory: float
    bandwidth: float
    link: float
    network: float
    node: int
    kinds: tuple[str, ...]


# H100 SXM5 80 GB and A100 SXM4 80 GB: NVIDIA's datasheets (dense rates; NVLink 900 and 600 GB/s in both
# directions), eight to a DGX node with one adapter each of 400 and 200 Gbit/s. TPU v5e and v5p: Google
# Cloud's "system architecture" pages (links of 400 and 1200 GB/s in both directions; pods of 256, 8960).
ACCELERATORS = {
    "h100": Accelerator(989e12, 80e9, 3.35e12, 450e9, 50e9, 8, ("NVIDIA H100 80GB HBM3",)),
    "a100": Accelerator(312e12, 80e9, 2.039e12, 300e9, 25e9, 8, ("NVIDIA A100-SXM4-80GB",)),
    "tpu_v5e": Accelerator(*(197e12, 16e9, 819e9, 200e9, 200e9, 256), ("TPU v5 lite", "TPU v5e")),
    "tpu_v5p": Accelerator(459e12, 95e9, 2765e9, 600e9, 600e9, 8960, ("TPU v5", "TPU v5p")),
}


@dataclasses.dataclass(frozen=True)
class StepCost:
    """One update of all parameters; bytes are of each device.

    Attributes:
        mesh: sizes of its axes.
        batch_size: images of a step.
        parameters: number of trained scalars.
        flops: multiplications and additions of matrix products and convolutions of a whole step,
            including what rematerialisation computes again.
        state: bytes of the parameters, their average and the optimiser's state, by name.
        temporary: bytes of activations, gathered parameters, gradients and buffers at their peak.
        peak: all bytes that the compiler reserves.
        collectives: of a step.
        compile_seconds: how long the compiler took.
    """

    mesh: dict[str, int]
    batch_size: int
    parameters: int
    flops: float
    state: dict[str, int]
    temporary: int
    peak: int
    collectives: list[Collective]
    compile_seconds: float

    @property
    def devices(self) -> int:
        """Number of devices."""
        return math.prod(self.mesh.values())


def accelerator_of(device_kind: str) -> str | None:
    """Which of ACCELERATORS `jax.Device.device_kind` is; None for another device."""
    return next((name for name, one in ACCELERATORS.items() if device_kind in one.kinds), None)


def simulate_devices(count: int) -> None:
    """Makes JAX see `count` CPU devices; to be called before anything asks for devices."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)


def measure_step(trainee: Trainee) -> StepCost:
    """Compiles the last step of a run for all devices without data or memory for it.

    Raises:
        UsageError: a batch that cannot be divided, or a model without trained parameters.
    """
    config, mesh, train = trainee.config, trainee.mesh, trainee.config.train
    sharding.check_batch_size("train.batch_size", train.batch_size, mesh, train.accumulation_steps)
    state = trainee.state_template()
    if not trainee.count_trained():
        raise UsageError(
            f"model.name: {config.model.name} has no steps of training, so --cost has none"
        )
    pixels = jax.ShapeDtypeStruct((train.batch_size, *[config.data.image_size] * 2, 3), jnp.uint8)
    num_steps = 1000  # the program depends on the stage of the training, not on its length
    traced = trainee.train_steps(num_steps)(num_steps).trace(state, pixels)
    begin = time.monotonic()
    compiled = traced.lower().compile(QUICKLY)
    seconds = time.monotonic() - begin
    memory = compiled.memory_analysis()
    return StepCost(
        mesh=dict(mesh.shape),
        batch_size=train.batch_size,
        parameters=count_parameters(state.params),
        flops=count_flops(traced.jaxpr.jaxpr),
        state={
            name: _bytes(getattr(state, field))
            for field, name in _STATE_PARTS.items()
            if hasattr(state, field)
        },
        temporary=memory.temp_size_in_bytes,
        peak=planned_bytes(memory),
        collectives=read_collectives(compiled.as_text(), mesh.size),
        compile_seconds=seconds,
    )


def report_cost(cost: StepCost, num_steps: int = 0, accelerator: str = "") -> str:
    """The cost as text.

    Args:
        cost: of a step.
        num_steps: of the run; 0 if it is not known.
        accelerator: one of ACCELERATORS for an estimate of time, or empty.
    """
    mesh = " x ".join(f"{name} {size}" for name, size in cost.mesh.items())
    lines = [
        f"mesh                      {mesh} = {cost.devices} devices (simulated), batch {cost.batch_size}",
        f"trained parameters        {cost.parameters:,}",
        f"arithmetic                {_tera(cost.flops)} a step,"
        f" {_tera(cost.flops / cost.batch_size)} an image",
        "bytes of each device",
        *(f"  {name:<24}{_mega(size)}" for name, size in cost.state.items()),
        f"  {'temporary':<24}{_mega(cost.temporary)}  (activations, gradients, gathered parameters)",
        f"  {'peak':<24}{_mega(cost.peak)}  (the compiler's memory analysis, for CPU)",
        "collectives of a step, by kind and number of devices that take part",
        *(
            f"  {f'{c.kind} of {c.group}':<24}{c.count:>6} times,{_mega(c.size)} arrays,{_mega(c.sent)} sent"
            " by each device"
            for c in cost.collectives
        ),
        f"compiled in {cost.compile_seconds:.0f} s",
    ]
    if accelerator:
        lines += _estimate(cost, num_steps, accelerator)
    return "\n".join(lines)


def _estimate(cost: StepCost, num_steps: int, name: str) -> Iterator[str]:
    device = ACCELERATORS[name]
    arithmetic = cost.flops / cost.devices / device.flops
    memory = 2 * cost.peak / device.bandwidth
    link = device.link if cost.devices <= device.node else device.network
    network = sum(c.sent for c in cost.collectives) / link
    fast = max(arithmetic, memory, network)
    slow = max(arithmetic / _USUAL_UTILISATION, memory) + network
    fits = "fits" if cost.peak <= device.memory else "DOES NOT FIT"
    yield f"estimate for {cost.devices} x {name}, from datasheets, not measured"
    yield f"  {fits} in {device.memory / 1e9:.0f} GB"
    yield f"  arithmetic at peak      {1e3 * arithmetic:9.1f} ms"
    yield f"  memory                  {1e3 * memory:9.1f} ms  (every byte written and read once)"
    yield f"  network                 {1e3 * network:9.1f} ms  (all groups at the slowest link)"
    yield (
        f"  step                    {1e3 * fast:9.1f} ms if all three overlap, {1e3 * slow:.1f} ms one after"
        f" the other at {100 * _USUAL_UTILISATION:.0f} % of the peak"
    )
    if num_steps:
        days = [num_steps * seconds / _SECONDS_PER_DAY for seconds in (fast, slow)]
        yield f"  {num_steps:,} steps: {days[0]:.1f} to {days[1]:.1f} days"


def _bytes(tree: PyTree) -> int:
    """Bytes that each device holds of a tree of shapes with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def planned_bytes(memory: Any) -> int:
    """All bytes that a compiler reserves for a program, from `memory_analysis()` of the compiled one."""
    # Results lie where donated arguments lay.
    arguments = memory.argument_size_in_bytes - memory.alias_size_in_bytes
    return int(arguments + memory.output_size_in_bytes + memory.temp_size_in_bytes)


def count_flops(jaxpr: Any) -> float:
    """Multiplications and additions of matrix products and convolutions; loops count with their length."""
    total = 0.0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        if name == "dot_general":
            left = equation.invars[0].aval
            contracted = math.prod(left.shape[i] for i in parameters["dimension_numbers"][0][0])
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * contracted
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            outputs = kernel.shape[parameters["dimension_numbers"].rhs_spec[0]]
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * kernel.size / outputs
        else:
            inner = sum(
                count_flops(part) for value in parameters.values() for part in _jaxprs(value)
            )
            total += inner * parameters.get("length", 1) if name == "scan" else inner
    return total


def _jaxprs(value: Any) -> Iterator[Any]:
    for part in value if isinstance(value, tuple | list) else (value,):
        part = getattr(part, "jaxpr", part)
        if hasattr(part, "eqns"):
            yield part


def _mega(size: int | float) -> str:
    return f"{size / 1e6:12,.2f} MB"


def _tera(flops: float) -> str:
    return f"{flops / 1e12:.4g} TFLOP"
