"""Reads the tables of an evaluation, all but rd.csv (`results.read_rate_points`)."""

import csv
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from diffc_jax.errors import InputError


def read_table(
    path: str | os.PathLike[str], *, numbers: Sequence[str], texts: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Yields the rows of a CSV file one by one; columns not asked for are left out.

    Args:
        path: with a header line.
        numbers: columns to return as floats.
        texts: columns to return as they are.

    Raises:
        InputError: missing file, missing column, or a cell that is no number (line and column named).
    """
    path = pathlib.Path(path)
    try:
        with path.open(newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in (*numbers, *texts) if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: has no column {missing[0]!r}")
            for row in reader:
                values: dict[str, Any] = {name: row[name] for name in texts}
                for name in numbers:
                    values[name] = _number(path, reader.line_num, name, row[name])
                yield values
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV file ({error})") from error


def _number(path: pathlib.Path, line: int, name: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise InputError(
            f"{path}, line {line}: column {name!r} is not a number: {text or ''!r}"
        ) from None
