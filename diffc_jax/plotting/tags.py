"""HTML of the report: text, cells and tables."""

import html
from collections.abc import Sequence
from typing import Any


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table with a heading for each column; the first column names its row."""
    columns = zip(*rows, strict=True)
    head = "".join(
        f'<th scope="col"{_alignment(column)}>{text(name)}</th>'
        for name, column in zip(names, columns, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>{"".join(map(cell, row[1:]))}</tr>' for row in rows
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def heading(name: str, explanation: str, column: Sequence[Any]) -> str:
    """The head of a column that can be sorted by; numbers in it are aligned."""
    return (
        f'<th scope="col"{_alignment(column)} title="{text(explanation)}">'
        f'<button type="button">{text(name)}</button></th>'
    )


def cell(value: Any) -> str:
    """A cell; numbers are shortened, with all their digits in the title."""
    if value is None:
        return "<td></td>"
    if isinstance(value, int | float):
        exact = text(repr(value))
        return f'<td class="number" title="{exact}" data-value="{exact}">{value:.5g}</td>'
    return f"<td>{text(value)}</td>"


def text(value: Any) -> str:
    """A value with what HTML would read as marks escaped."""
    return html.escape(str(value))


def count(number: int, thing: str) -> str:
    """A number and what it counts: 1 image, 1,000 images."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _alignment(column: Sequence[Any]) -> str:
    return ' class="number"' if any(isinstance(value, int | float) for value in column) else ""
