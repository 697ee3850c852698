"""Several processes as one program: JAX's own runtime under Slurm or Open MPI, on TPU pods, in Kubernetes.

Every process runs the same command and sees its own devices; arrays and compiled programs span them all.
Process 0 is the one that writes.
"""

import os
import sys

import jax

from diffc_jax.errors import UsageError

# What a launcher may set, in every process, where JAX knows no way to find it out.
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def start(mode: str) -> None:
    """Joins the other processes; to be called before anything asks for devices.

    Args:
        mode: "off" for a program of one process; "auto" to find the others through the variables
            JAX_COORDINATOR_ADDRESS (HOST:PORT of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID if they
            are set, or else through what Slurm, Open MPI, a TPU pod or Kubernetes says.

    Raises:
        UsageError: nothing says where the others are, or the variables cannot be used.
    """
    if mode == "off":
        return
    # SIGTERM is handled by `runtime.preemption`, which knows the step that a resumed run is at.
    jax.config.update("jax_enable_preemption_service", False)
    given = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    try:
        if len(given) == len(_VARIABLES):
            address, count, index = given.values()
            jax.distributed.initialize(
                address, int(count), int(index), cluster_detection_method="deactivate"
            )
        else:
            jax.distributed.initialize()
    except ValueError as error:
        raise UsageError(
            f"{error} No cluster was found (Slurm, Open MPI, TPU pod, Kubernetes);"
            f" set {', '.join(_VARIABLES)} in every process, or --distributed=off",
            field=f"--distributed={mode}",
        ) from error


def is_primary() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def leave(exit_code: int) -> None:
    """Ends a process that failed; one of several does not wait for the others, which would wait for it."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)
