"""The results schema: one tidy row per rate point, the same for every method.

Evaluators, baselines and plots share only this module: whoever writes `RatePoint`s appears in every figure.
"""

import csv
import dataclasses
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from diffc_jax.errors import InputError
from diffc_jax.evaluation.rate_point import COLUMNS, RatePoint
from diffc_jax.runtime.files import AnyPath, as_path, atomic_write

__all__ = [
    "COLUMNS",
    "PUBLISHED_PREFIX",
    "RATE_KINDS",
    "RatePoint",
    "columns_table",
    "finite",
    "read_rate_points",
    "read_table",
    "training_costs",
    "write_rate_points",
    "write_table",
]
RATE_KINDS = ("bound", "file")
_MOST_DECIBELS = 1000.0
_LONGEST_SHOWN = 100
# Of methods whose points come from others.
PUBLISHED_PREFIX = "published:"
_SECONDS_PER_HOUR = 3600.0


def columns_table() -> str:
    """The Markdown table of `COLUMNS` in docs/output_files.md, which scripts/update_docs.py writes there."""
    lines = ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for name, column in COLUMNS.items():
        kind = column.kind.__name__ + ("" if column.required else " or empty")
        joint = ": " if column.details.startswith("`") else ". "
        meaning = joint.join(filter(None, (column.meaning, column.details)))
        lines.append(f"| `{name}` | {kind} | {column.unit} | {meaning} |")
    return "\n".join(lines)


def finite(value: float | Float[np.ndarray, ""]) -> float | None:
    """None, an empty cell, for what is not a finite number."""
    return float(value) if math.isfinite(value) else None


def training_costs(n_parameters: int, spent: Mapping[str, Any]) -> dict[str, int | float]:
    """Columns `trained_parameters`, `images_seen` and `train_cpu_hours` of results, those that are known.

    Args:
        n_parameters: trained parameters; a model without any has cost nothing.
        spent: `images_seen`, `train_cpu_seconds` and `train_accelerator`, as in the card beside exported
            parameters. Hours of the CPUs beside an accelerator say nothing about a cost.
    """
    if not n_parameters:
        return {}
    seconds = None if spent.get("train_accelerator") else spent.get("train_cpu_seconds")
    costs = {
        "trained_parameters": n_parameters,
        "images_seen": spent.get("images_seen"),
        "train_cpu_hours": None if seconds is None else seconds / _SECONDS_PER_HOUR,
    }
    return {name: cost for name, cost in costs.items() if cost is not None}


def write_table(
    path: str | os.PathLike[str], fields: Iterable[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Writes a CSV file, whole or not at all; floats keep their full precision, None is empty."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, tuple(fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_rate_points(
    path: str | os.PathLike[str],
    points: Iterable[RatePoint],
    keep: Callable[[RatePoint], bool] | None = None,
) -> None:
    """Writes `rd.csv`, behind the rows of the file so far for which `keep` is true, if it is given."""
    if keep is not None and as_path(path).exists():
        points = [*filter(keep, read_rate_points(path)), *points]
    write_table(path, COLUMNS, (dataclasses.asdict(point) for point in points))


def read_rate_points(path: str | os.PathLike[str]) -> list[RatePoint]:
    """Reads `rd.csv`; columns that a newer version added at the end are ignored.

    Raises:
        InputError: missing file, missing column, or a cell of the wrong type (row and column named).
    """
    path = as_path(path)
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV file ({error})") from error
    return [_parse_row(path, number, row) for number, row in enumerate(rows, start=2)]


def read_table(
    path: str | os.PathLike[str],
    *,
    numbers: Sequence[str],
    integers: Sequence[str] = (),
    texts: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Yields columns of a CSV file with a header line, row by row: `numbers`, as floats, and the others.

    Raises:
        InputError: missing file, missing column, or a cell that is no number (line and column named).
    """
    path = as_path(path)
    try:
        with path.open("rb") as stream:
            reader = csv.DictReader(line.decode() for line in stream)
            wanted = (*numbers, *integers, *texts)
            missing = [name for name in wanted if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: has no column {missing[0]!r}")
            for row in reader:
                values: dict[str, Any] = {name: row[name] for name in texts}
                for names, kind in ((numbers, float), (integers, int)):
                    for name in names:
                        values[name] = _parse_cell(path, reader.line_num, name, row[name], kind)
                yield values
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV file ({error})") from error


def _parse_row(path: AnyPath, number: int, row: dict[str, str | None]) -> RatePoint:
    values: dict[str, Any] = {}
    for name, column in COLUMNS.items():
        text = row.get(name) or ""
        if text:
            values[name] = _parse_cell(path, number, name, text, column.kind)
            if column.unit == "dB" and _MOST_DECIBELS < abs(values[name]) < math.inf:
                raise InputError(f"{path}, line {number}: {name} is {values[name]} dB")
        elif column.required:
            raise InputError(f"{path}, line {number}: column {name!r} is missing or empty")
    if values["rate_kind"] not in RATE_KINDS:
        raise InputError(
            f"{path}, line {number}: rate_kind is {values['rate_kind']!r}, not one of {RATE_KINDS}"
        )
    if not math.isfinite(values["bpp"]) or values["bpp"] < 0:
        raise InputError(f"{path}, line {number}: bpp is {values['bpp']}, not a finite rate")
    return RatePoint(**values)


def _parse_cell(path: AnyPath, line: int, name: str, text: str | None, kind: type) -> Any:
    """A cell as a value of its type; integers have 64 bits, and no number is NaN."""
    try:
        value = kind(text or "")
        if kind is not str and (math.isnan(value) or (kind is int and abs(value) >= 2**63)):
            raise ValueError
    except (ValueError, OverflowError):
        shown = (text or "")[:_LONGEST_SHOWN]
        raise InputError(
            f"{path}, line {line}: column {name!r} is not a number: {shown!r}"
        ) from None
    return value
