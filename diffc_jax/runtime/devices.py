"""Whether JAX has the devices that it was asked to use, said in one line at the start."""

import os
import re
from collections.abc import Mapping

import jax

from diffc_jax.errors import InputError


def check_platform() -> None:
    """Raises InputError if JAX cannot use what JAX_PLATFORMS names."""
    if (error := missing_platform()) is not None:
        raise error


def missing_platform() -> InputError | None:
    """The error that JAX cannot use what JAX_PLATFORMS names; None if it has devices."""
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:  # an AssertionError without a text for cuda
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = " ".join(str(error).split()) or "it finds no such device"
        return InputError(
            f"JAX_PLATFORMS={asked}: JAX cannot start ({reason}); use JAX_PLATFORMS=cpu, or see"
            " docs/accelerators.md for the packages that a device needs"
        )
    return None


def host_cpu() -> jax.Device:
    """A CPU of this process, for what has to be equal on every machine.

    Raises:
        InputError: JAX_PLATFORMS leaves CPUs out.
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise InputError(
            f"JAX_PLATFORMS={asked}: the tables of HiFiC's files are computed on CPUs; use"
            f" JAX_PLATFORMS={asked},cpu"
        ) from error


def check_devices(expected: int | None, environment: Mapping[str, str] = os.environ) -> None:
    """Compares the devices and processes that JAX sees with those that were asked for.

    Args:
        expected: number of devices of all processes together; None to compare with what Slurm says.
        environment: variables of the system.

    Raises:
        InputError: the numbers differ.
    """
    seen = f"JAX sees {jax.device_count()} ({jax.default_backend()}) in {_count_processes()}"
    if expected is not None:
        if jax.device_count() != expected:
            raise InputError(f"--expect_devices={expected}: {seen}")
        return
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
    if tasks != jax.process_count() and tasks > 1:
        raise InputError(
            f"Slurm started {tasks} tasks, and JAX has {_count_processes()}; use --distributed=auto so"
            " that they work together, or srun --ntasks=1"
        )
    _check_gpus(environment, seen)


def _check_gpus(environment: Mapping[str, str], seen: str) -> None:
    """Compares the GPUs of this node with those that Slurm gave it, unless JAX was told to use others."""
    asked = int(environment.get("SLURM_GPUS_ON_NODE", 0))
    platforms = environment.get("JAX_PLATFORMS", "")
    if not asked or (platforms and not re.search("cuda|gpu|rocm", platforms)):
        return
    here = jax.local_device_count() if jax.default_backend() == "gpu" else 0
    # A process that is alone may have been given some of the GPUs on purpose.
    if jax.process_count() > 1:
        here *= _tasks_of_this_node(environment)
    elif here:
        return
    if here != asked:
        raise InputError(
            f"SLURM_GPUS_ON_NODE={asked}: JAX uses {here} of these GPUs ({seen}); set --expect_devices to"
            " the number of all devices if that is meant, or JAX_PLATFORMS=cpu"
        )


def _tasks_of_this_node(environment: Mapping[str, str]) -> int:
    """From Slurm's list of the tasks of each node of the step, as 8(x3),4."""
    listed: list[int] = []
    for count, times in re.findall(
        r"(\d+)(?:\(x(\d+)\))?", environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
    ):
        listed += [int(count)] * int(times or 1)
    return listed[min(int(environment.get("SLURM_NODEID", 0)), len(listed) - 1)]


def _count_processes() -> str:
    count = jax.process_count()
    return f"{count} process{'es' if count > 1 else ''}"
