"""Files of runs as tests read them."""

import csv
import json
import pathlib
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np


def table(path: pathlib.Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def assert_same_cells(
    found: Sequence[Mapping[str, str]],
    expected: Sequence[Mapping[str, str]],
    rtol: float,
    left_out: Set[str] = frozenset(),
) -> None:
    """Rows of CSV files with the same cells, but for columns that are left out and rounding."""
    assert len(found) == len(expected)
    for row, want in zip(found, expected, strict=True):
        assert row.keys() == want.keys()
        for name in want.keys() - left_out:
            if row[name] != want[name]:
                cells = float(row[name]), float(want[name])
                np.testing.assert_allclose(*cells, rtol=rtol, err_msg=name)


def arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The content of an npz file."""
    with np.load(path) as content:
        return {name: content[name] for name in content.files}


def logged(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without one that is being written; none if there is no such file."""
    path = workdir / "metrics.jsonl"
    whole = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in whole]
