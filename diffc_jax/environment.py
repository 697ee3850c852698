"""environment.json: what a run ran on."""

import pathlib
import subprocess
import sys
from importlib import metadata
from typing import Any

import jax

from diffc_jax.files import AnyPath, write_json

_PACKAGES = (
    *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"),
    *("pillow", "matplotlib", "constriction"),
)


def write_environment(folder: AnyPath) -> None:
    """Writes environment.json: versions, devices and the commit of the code (None outside git)."""
    describe = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    environment: dict[str, Any] = {
        "python": sys.version.split()[0],
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "commit": describe.stdout.strip() or None,
        "device": jax.devices()[0].device_kind,
        "num_devices": jax.device_count(),
        "num_processes": jax.process_count(),
    }
    write_json(folder / "environment.json", environment)
