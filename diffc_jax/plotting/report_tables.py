"""Tables of the report as HTML: cells, small tables, and the table of all rate points."""

import html
from collections.abc import Sequence
from typing import Any

from diffc_jax.evaluation.results import COLUMNS
from diffc_jax.plotting import style

# In the order in which they are read; method and decoder are in the name of the line.
POINT_COLUMNS = (
    *("model", "rate_kind", "level", "gamma"),
    *("bpp", "bpp_stderr", "bpp_kl", "bpp_headerless"),
    *("psnr", "psnr_mean", "psnr_mean_stderr", "mse"),
    *("fid", "fid_stderr", "kid", "kid_stderr", "fid_features", "fid_reference"),
    *("fid_originals", "fid_originals_stderr", "kid_originals", "kid_originals_stderr"),
    *("fid_minus_mean", "fid_minus_mean_stderr", "kid_minus_mean", "kid_minus_mean_stderr"),
    *("auc", "auc_stderr", "precision", "precision_stderr", "recall", "recall_stderr"),
    *("density", "density_stderr", "coverage", "coverage_stderr"),
    *("lpips", "lpips_stderr", "lpips_vgg", "lpips_vgg_stderr", "ms_ssim", "ms_ssim_stderr"),
    *("n_images", "n_steps", "n_rate_steps"),
    *("seed", "dataset", "split", "checkpoint"),
    *("bpp_estimate", "trained_parameters", "images_seen", "train_cpu_hours"),
)


def points_table(series: Sequence[style.Series]) -> str:
    """All rate points; columns that no point fills are left out."""
    rows = [(line, point) for line in series for point in line.points]
    shown = [name for name in POINT_COLUMNS if any(getattr(p, name) is not None for _, p in rows)]
    head = heading("method", "line in the figure", [])
    for name in shown:
        column, unit = COLUMNS[name], COLUMNS[name].unit
        explanation = f"{column.meaning}, {unit}" if unit else column.meaning
        head += heading(column.heading, explanation, [getattr(p, name) for _, p in rows])
    body = []
    for line, point in rows:
        cells = f'<th scope="row" title="{text(line.group)}">{text(line.label)}</th>'
        cells += "".join(cell(getattr(point, name)) for name in shown)
        body.append(f"<tr>{cells}</tr>")
    return (
        f'<table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )


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
        exact, shown = text(repr(value)), f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
        return f'<td class="number" title="{exact}" data-value="{exact}">{shown}</td>'
    return f"<td>{text(value)}</td>"


def text(value: Any) -> str:
    """A value with what HTML would read as marks escaped."""
    return html.escape(str(value))


def count(number: int, thing: str) -> str:
    """A number and what it counts: 1 image, 1,000 images."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _alignment(column: Sequence[Any]) -> str:
    return ' class="number"' if any(isinstance(value, int | float) for value in column) else ""
