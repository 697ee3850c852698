"""environment.json: what a run ran on."""

import os
import pathlib
import subprocess
import sys
from importlib import metadata
from typing import Any

import jax

from diffc_jax.runtime.files import AnyPath, write_json

_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"),
    *("pillow", "matplotlib", "constriction"),
)


def write_environment(folder: AnyPath) -> None:
    """Writes environment.json: versions, devices and the commit of the code.

    Outside git the commit is what the variable DIFFC_COMMIT says (container images set it), or None.
    """
    environment: dict[str, Any] = {
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _git_commit() or os.environ.get("DIFFC_COMMIT"),
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
    }
    write_json(folder / "environment.json", environment)


def _version(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """None outside git, and where git is not installed, as in container images."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=pathlib.Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return described.stdout.strip() or None
