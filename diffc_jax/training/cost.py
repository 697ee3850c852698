"""What a training run would cost: its step compiled for a mesh of simulated devices, and never run."""

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from diffc_jax.errors import UsageError
from diffc_jax.models.convolution import only_xla
from diffc_jax.runtime import sharding
from diffc_jax.runtime.accelerators import ACCELERATORS
from diffc_jax.runtime.collectives import Collective, read_collectives
from diffc_jax.training.state import count_parameters
from diffc_jax.training.task import Task

_SECONDS_PER_DAY = 86400.0
# Fraction of the peak arithmetic that convolutions of this kind reach in practice; for the slow estimate.
_USUAL_UTILISATION = 0.4
_STATE_PARTS = {
    "params": "parameters",
    "ema": "average of the parameters",
    "second_ema": "second average",
    "opt_state": "optimiser",
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


def measure_step(task: Task) -> StepCost:
    """Compiles the last step of a run for all devices without data or memory for it.

    Raises:
        UsageError: a batch that cannot be divided, or a model without trained parameters.
    """
    config, mesh, train = task.config, task.mesh, task.config.train
    sharding.check_batch_size("train.batch_size", train.batch_size, mesh, train.accumulation_steps)
    state = task.state_template()
    if not task.count_trained():
        raise UsageError(
            f"{config.model.name} has no steps of training, so --cost has none", field="model.name"
        )
    pixels = jax.ShapeDtypeStruct((train.batch_size, *[config.data.image_size] * 2, 3), jnp.uint8)
    num_steps = 1000  # the program depends on the stage of the training, not on its length
    compiled_step = sharding.compile_step(task.train_steps(num_steps)(num_steps), state, mesh)
    with only_xla():  # what it costs on an accelerator, also where one CPU is asked
        traced = compiled_step.trace(state, pixels)
    begin = time.monotonic()
    compiled = traced.lower().compile(sharding.QUICKLY)
    seconds = time.monotonic() - begin
    memory = compiled.memory_analysis()
    return StepCost(
        mesh=dict(mesh.shape),
        batch_size=train.batch_size,
        parameters=count_parameters(state.params),
        flops=count_flops(traced.jaxpr.jaxpr),
        state={
            name: sharding.bytes_of_each_device(getattr(state, field))
            for field, name in _STATE_PARTS.items()
            if hasattr(state, field)
        },
        temporary=memory.temp_size_in_bytes,
        peak=planned_bytes(memory),
        collectives=read_collectives(compiled.as_text(), mesh.size),
        compile_seconds=seconds,
    )


def report_cost(cost: StepCost, num_steps: int = 0, accelerator: str = "") -> str:
    """The cost as text, with an estimate of time on one of ACCELERATORS if it is named.

    `num_steps` is that of the run; 0 if it is not known.
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
