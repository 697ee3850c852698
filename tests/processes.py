"""What programs that tests start find in their environment."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parents[1]


def environment(**variables: str) -> dict[str, str]:
    """That of the tests, in which a program finds this tree and has one device; with `variables`."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}
