"""Several processes as one program: JAX's own runtime under Slurm or Open MPI, on TPU pods, in Kubernetes.

Every process runs the same command and sees its own devices; arrays and compiled programs span them all.
Process 0 is the one that writes.

With SIGTERM cluster managers announce that they take the machine away. A run saves a checkpoint at the end of
a step and raises `errors.PreemptedError`; its exit code tells launchers to run the same command again.
"""

import contextlib
import os
import pathlib
import signal
import sys
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import Array

from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime import lock, sharding, signals
from diffc_jax.runtime.files import AnyPath

# What a launcher may set, in every process, where JAX knows no way to find it out.
_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# Bytes of an error that process 0 tells the others.
_LONGEST_MESSAGE = 2000


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
    # SIGTERM is handled by `watching_for_signals`, which knows the step that a resumed run is at.
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


@contextlib.contextmanager
def owning(workdir: AnyPath) -> Iterator[None]:
    """Makes this program the only one that writes to the folder of a run (`runtime.lock`).

    Process 0 holds the lock for all processes of a job. Blocks may be nested. Object stores have no locks.

    Raises:
        InputError: another program holds it, in all processes; or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        refusal = None
        if is_primary() and isinstance(workdir, pathlib.Path):
            try:
                stack.enter_context(lock.holding(workdir))
            except InputError as error:
                refusal = error
        _raise_in_all(refusal)
        yield


def _raise_in_all(error: InputError | None) -> None:
    """Raises in every process what process 0 has met, if anything."""
    if jax.process_count() > 1:
        text = np.frombuffer(str(error or "").encode()[:_LONGEST_MESSAGE], np.uint8)
        padded = np.pad(text, (0, _LONGEST_MESSAGE - len(text)))
        said = np.asarray(multihost_utils.broadcast_one_to_all(padded), np.uint8).tobytes()
        message = said.rstrip(b"\0").decode(errors="ignore")
        error = InputError(message) if message else None
    if error is not None:
        raise error


def leave(exit_code: int) -> None:
    """Ends a process that failed; one of several does not wait for the others, which would wait for it."""
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)


@contextlib.contextmanager
def watching_for_signals(mesh: Mesh) -> Iterator[Callable[[], bool]]:
    """Gives `requested()`, which says after a step whether SIGTERM or Ctrl-C asks the run to save and leave.

    With several processes all have to ask after every step; all get the same answer, one step after the
    signal reached any of them. Ctrl-C a second time does what it did before. Only the main thread can watch.
    """
    received = False

    def note(signum: int, frame: object) -> None:
        del frame
        nonlocal received
        if signum == signal.SIGINT:
            if received:
                signal.signal(signum, before[signum])
                signal.raise_signal(signum)
            signals.tell("saving after this step; Ctrl-C again ends it at once")
        received = True

    def requested() -> bool:
        return received if jax.process_count() == 1 else agree(received)

    agree = _agreement(mesh)
    with signals.handling(note) as before:
        yield requested


def _agreement(mesh: Mesh) -> Callable[[bool], bool]:
    """Makes `agree(vote)`: whether any process said yes at the call before, the same answer in all.

    That one call of delay lets the devices work on a step while the answers to the last one travel.
    """
    any_of_all = jax.jit(jnp.any, out_shardings=sharding.replicated(mesh))
    last: Array | None = None

    def agree(vote: bool) -> bool:
        nonlocal last
        answer = last is not None and bool(last)
        last = any_of_all(sharding.put_batch(mesh, np.full(jax.local_device_count(), vote)))
        return answer

    return agree
