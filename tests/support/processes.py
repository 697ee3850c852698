"""How tests start programs."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def environment(**variables: str) -> dict[str, str]:
    """That of the tests, in which a program finds this tree and has one device; with `variables`."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


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
