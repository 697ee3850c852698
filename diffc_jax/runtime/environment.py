"""environment.json: what a run ran on."""

import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any, TypedDict

import jax

from diffc_jax.runtime.files import AnyPath, read_json, write_json

_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"),
    *("pillow", "imagecodecs", "av", "matplotlib", "constriction"),
)
# They decide how many threads JAX (NPROC; by default the available cores) and NumPy take, and with that the
# order of sums.
_THREAD_VARIABLES = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "XLA_FLAGS")

_FILE = "environment.json"


class _Environment(TypedDict, total=False):
    encoders: dict[str, str]


def write_environment(folder: AnyPath, encoders: Mapping[str, str] | None = None) -> None:
    """Writes environment.json: versions, devices, cores, settings of threads and the commit of the code.

    Outside git the commit is what the variable DIFFC_COMMIT says (container images set it), or None.

    Args:
        folder: where.
        encoders: versions of the libraries of codecs that made some of the results.
    """
    environment: dict[str, Any] = {
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _git_commit() or os.environ.get("DIFFC_COMMIT"),
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
        "cores": {"available": available_cores(), "total": os.cpu_count()},
        "threads": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
    }
    if encoders:
        environment["encoders"] = dict(encoders)
    write_json(folder / _FILE, environment)


def read_environment(folder: AnyPath) -> dict[str, Any]:
    """The content of environment.json; {} if there is no such file.

    Raises:
        InputError: it is damaged.
    """
    path = folder / _FILE
    return read_json(path, _Environment, "delete it and run again") if path.exists() else {}


def add_encoders(folder: AnyPath, encoders: Mapping[str, str]) -> None:
    """Replaces the versions of encoders in environment.json, and leaves the rest."""
    write_json(folder / _FILE, read_environment(folder) | {"encoders": dict(encoders)})


def accelerator() -> dict[str, str]:
    """The `accelerator` of JAX, such as "8 x NVIDIA H100 80GB HBM3"; empty on CPUs."""
    if jax.default_backend() == "cpu":
        return {}
    return {"accelerator": f"{jax.device_count()} x {jax.devices()[0].device_kind}"}


def available_cores() -> int | None:
    """Those that this process may use; None where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return None


def _version(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """None outside git, and where git is not installed, as in container images."""
    this = pathlib.Path(__file__)
    # An environment may lie in the checkout of something else.
    if _git("ls-files", "--error-unmatch", this.name) is None:
        return None
    return _git("describe", "--always", "--dirty")


def _git(*arguments: str) -> str | None:
    """What git prints about this file's folder; None if it fails, or prints nothing."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=pathlib.Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return (done.stdout.strip() or None) if done.returncode == 0 else None
