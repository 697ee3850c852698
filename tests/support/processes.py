"""How tests start programs."""

import os
import pathlib
import socket
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def environment(**variables: str) -> dict[str, str]:
    """That of the tests, in which a program finds this tree and has one device; with `variables`.

    What programs compile is not optimised.
    """
    own = {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return {**os.environ, **own, **variables}


def cache_variables(folder: pathlib.Path) -> dict[str, str]:
    """Variables for programs that share what they compile, however little it is."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def cluster(count: int) -> list[dict[str, str]]:
    """Variables by which `count` processes on this machine find each other, for each of them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
    return [common | {"JAX_PROCESS_ID": str(index)} for index in range(count)]


def run_program(script: str, *flags: object) -> subprocess.CompletedProcess[str]:
    """Runs a script of the repository, from its root, to its end, whatever that is."""
    return subprocess.run(
        [sys.executable, script, *map(str, flags)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
