"""`report.html`: the results of an evaluation as one file to read, drawn from result files only.

The file needs no network: style, script, numbers and images are inside it. Without JavaScript the
summary and the tables remain.
"""

import collections
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.path import Path as Outline

from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.result_files import (
    BASELINE_RECONSTRUCTIONS,
    CODEC_RECONSTRUCTIONS,
    PER_IMAGE,
    RECONSTRUCTIONS,
)
from diffc_jax.evaluation.results import RatePoint
from diffc_jax.plotting import report_sections as sections
from diffc_jax.plotting import report_tables, style
from diffc_jax.plotting.html_page import (
    data_uri,
    embedded_json,
    make_page,
    on_dark,
    read_part,
)
from diffc_jax.plotting.inputs import check_same_pixels, labels_of, point_rows, read_inputs
from diffc_jax.plotting.measures import (
    MEASURES,
    SET_MEASURES,
    check_same_images,
    describe_measure,
    has_measure,
    set_basis,
)
from diffc_jax.plotting.reconstructions import (
    DecodedImages,
    Label,
    Reconstructions,
    collect_reconstructions,
)
from diffc_jax.runtime.files import atomic_write
from diffc_jax.runtime.images import tile

_SCRIPTS = ("common.js", "curves.js", "reconstructions.js", "table.js", "start.js")


def make_report(
    inputs: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    measure_default: str = "psnr",
    allow_mixed_data: bool = False,
    more_points: Sequence[RatePoint] = (),
) -> pathlib.Path:
    """Writes one self-contained HTML file: curves, reconstructions, tables, config and environment.

    Returns its path.

    Args:
        inputs: workdirs with `eval/rd.csv`, or paths of such files, which give curves only. Anything
            else that a workdir lacks is left out, and the page says so.
        output: the file; an older one is replaced.
        measure_default: the y axis to begin with, a key of `MEASURES`.
        allow_mixed_data: shows results of different images together; the legend names the data.
        more_points: shown beside those of the inputs, such as published ones.

    Raises:
        UsageError: no inputs, an unknown measure, or points of different images.
        InputError: missing or broken results, reconstructions of different images, nothing to draw, or a
            folder that cannot be written.
    """
    if measure_default not in MEASURES:
        raise UsageError(
            f"{measure_default!r} is not one of {', '.join(MEASURES)}", field="measure_default"
        )
    read = read_inputs(inputs)
    points = [point for one in read for point in one.points]
    points += more_points
    if not allow_mixed_data:
        check_same_images(points)
        check_same_pixels(inputs)
    measures = _measures(points)
    if measure_default not in {measure["column"] for measure in measures}:
        raise InputError(
            f"nothing to draw: none of the {len(points)} rate points has {measure_default}"
        )
    series = style.series_of(points)
    folders = [path for path in map(pathlib.Path, inputs) if path.is_dir()]
    runs = [sections.read_run(folder) for folder in dict.fromkeys(folders)]
    reconstructions, without = _collect_reconstructions(runs, labels_of(read), allow_mixed_data)
    data = {
        "points": [
            {name: _finite_or_text(value) for name, value in row.items()}
            for row in point_rows(points)
        ],
        "series": _series_data(points, series),
        "markers": {
            marker: _svg_path(marker) for marker in (*(line.line["marker"] for line in series), "^")
        },
        "measures": measures,
        "default_measure": [m["column"] for m in measures].index(measure_default),
        "reconstructions": [_reconstructions_data(found, series) for found in reconstructions],
    }
    page = make_page(
        "report.html",
        {
            "generator": "diffc_jax report",
            "style": read_part("report.css"),
            "script": "\n".join(map(read_part, _SCRIPTS)),
            "data": embedded_json(data),
            "title": sections.title(points),
            "summary": sections.summary(points, runs, series),
            "no_reconstructions": sections.notes(without),
            "points_table": report_tables.points_table(series),
            "runs": sections.runs_section(runs),
            "settings": sections.settings(runs),
            "commands": sections.commands(points, runs),
        },
    )
    path = pathlib.Path(output)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _finite_or_text(value: Any) -> Any:
    """JSON has no infinity: such numbers become what JavaScript's Number() reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _measures(points: Sequence[RatePoint]) -> list[dict[str, Any]]:
    """The y axes that the points allow; distances that never compare have one each."""
    axes: dict[tuple[str, str], list[int]] = {}
    for name in MEASURES:
        for index, point in enumerate(points):
            if has_measure(point, name):
                basis = set_basis(point, name) if name in SET_MEASURES else ""
                axes.setdefault((name, basis), []).append(index)
    found = []
    for (column, basis), indices in axes.items():
        measure = describe_measure(column, [points[index] for index in indices])
        images = f", {report_tables.count(points[indices[0]].n_images, 'image')}" if basis else ""
        found.append(
            {
                "column": column,
                "title": measure.title,
                "name": measure.title + images,
                "axis": " ".join(measure.axis.split()) + images,
                "stderr": measure.stderr,
                "log": measure.scale == "log",
                "least_span": measure.least_span,
                "points": indices,
            }
        )
    return found


def _series_data(
    points: Sequence[RatePoint], series: Sequence[style.Series]
) -> list[dict[str, Any]]:
    position = {point: index for index, point in enumerate(points)}
    return [
        {
            "group": line.group,
            "label": line.label,
            "points": [position[point] for point in line.points],
            "line": _svg_line(line.line),
        }
        for line in series
    ]


def _svg_line(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What the keyword arguments of a matplotlib line mean, lengths in points."""
    line = Line2D([], [], **arguments)
    linestyle, width = arguments["linestyle"], line.get_linewidth()
    # Matplotlib's dashes are in units of the line width.
    dashes = [] if isinstance(linestyle, str) else [length * width for length in linestyle[1]]
    color = to_hex(line.get_color())
    return {
        "color": color,
        "dark_color": on_dark(color),
        "width": width,
        "dashes": dashes,
        "marker": arguments["marker"],
        "marker_size": line.get_markersize(),
        "edge_width": line.get_markeredgewidth(),
        "hollow": to_hex(line.get_markerfacecolor()) != color,
        "alpha": 1.0 if line.get_alpha() is None else line.get_alpha(),
        "zorder": line.get_zorder(),
    }


def _svg_path(marker: str) -> dict[str, Any]:
    """Outline of a matplotlib marker of size 1, y downwards, and whether it has an inside."""
    shape = MarkerStyle(marker)
    commands = {
        Outline.MOVETO: "M",
        Outline.LINETO: "L",
        Outline.CURVE3: "Q",
        Outline.CURVE4: "C",
        Outline.CLOSEPOLY: "Z",
    }
    outline = shape.get_path().transformed(shape.get_transform())
    words: list[str] = []
    for values, code in outline.iter_segments(curves=True, simplify=False):
        words.append(commands[code])
        if code != Outline.CLOSEPOLY:
            # Matplotlib's y axis points up.
            words += [f"{v:.4g}" for v in (np.reshape(values, (-1, 2)) * [1, -1]).ravel()]
    return {"path": " ".join(words), "filled": shape.is_filled()}


def _collect_reconstructions(
    runs: Sequence[sections.Run], label: Label, allow_mixed_data: bool
) -> tuple[list[Reconstructions], list[str]]:
    """The reconstructions of all runs, and for each run without any the reason."""
    missing, complete = [], []
    for run in runs:
        found = [
            name
            for name in (RECONSTRUCTIONS, CODEC_RECONSTRUCTIONS, BASELINE_RECONSTRUCTIONS)
            if (run.path / "eval" / name).is_file()
        ]
        if not found:
            missing.append(
                f"{run.name}: no reconstructions (eval/{RECONSTRUCTIONS} or eval/{BASELINE_RECONSTRUCTIONS})."
            )
        elif RECONSTRUCTIONS in found and not (run.path / "eval" / PER_IMAGE).is_file():
            missing.append(f"{run.name}: no rates for its reconstructions (eval/{PER_IMAGE}).")
        else:
            complete.append(run.path)
    if not runs:
        missing.append(sections.NO_RUNS)
    reconstructions = collect_reconstructions(complete, label)
    if len(reconstructions) > 1 and not allow_mixed_data:
        sets = "; ".join(
            f"{found.originals.shape[2]}x{found.originals.shape[1]} pixels, "
            f"index {', '.join(map(str, found.index))}"
            for found in reconstructions
        )
        raise InputError(
            f"reconstructions: the inputs show different images: {sets}; evaluate all of them on the "
            "same images, or set allow_mixed_data"
        )
    return reconstructions, missing


def _reconstructions_data(found: Reconstructions, series: Sequence[style.Series]) -> dict[str, Any]:
    lines: dict[_Key, style.Series] = {}
    for line in series:
        lines.setdefault(_key(line.points[0]), line)
    order = {key: position for position, key in enumerate(lines)}
    shown = sorted(found.series, key=lambda decoded: order.get(_key(decoded), len(order)))
    seen: collections.Counter[_Key] = collections.Counter()
    described = []
    for decoded in shown:
        key = _key(decoded)
        seen[key] += 1
        described.append(_one_series_data(decoded, lines.get(key), seen[key]))
    return {
        "height": found.originals.shape[1],
        "width": found.originals.shape[2],
        "index": found.index.tolist(),
        "originals": [data_uri(image) for image in found.originals],
        "series": described,
    }


# Method, model, decoder, and what tells the run from others that have the same.
_Key = tuple[str, str | None, str | None, str | None]


def _key(item: DecodedImages | RatePoint) -> _Key:
    if isinstance(item, DecodedImages):
        run = item.run
    else:
        run = (item.settings or item.run) if isinstance(item, style.RunPoint) else None
    return item.method, item.model, item.decoder, run


def _one_series_data(
    decoded: DecodedImages, line: style.Series | None, occurrence: int
) -> dict[str, Any]:
    """Decoded images of one method; a later run of the same method gets a number."""
    looks = _svg_line(line.line) if line else {"color": "#888888", "dark_color": "#888888"}
    number = f", {decoded.run}" if decoded.run else ""
    number += f" ({occurrence})" if occurrence > 1 else ""
    name = " ".join(filter(None, (decoded.method, decoded.model)))
    is_bound = decoded.method == "diffc"
    if decoded.decoder:
        label = (style.decoder_label if is_bound else style.files_label)(decoded.decoder)
    else:
        label = line.label if line else name
    columns = math.ceil(math.sqrt(len(decoded.levels)))
    return {
        "label": label + number,
        "model": f"{decoded.model or name}{number}" if decoded.decoder else None,
        "rate": "upper bound" if is_bound else "file",
        "color": looks["color"],
        "dark_color": looks["dark_color"],
        "bpp": decoded.bpp.tolist(),
        "psnr": [[_finite_or_text(value) for value in row] for row in decoded.psnr.tolist()],
        "columns": columns,
        "sprites": [data_uri(_sprite(images, columns)) for images in decoded.images],
    }


def _sprite(images: UInt8[np.ndarray, "q h w 3"], columns: int) -> UInt8[np.ndarray, "H W 3"]:
    """All images in one, row by row; the last row is filled up with black."""
    blank = np.zeros((-len(images) % columns, *images.shape[1:]), np.uint8)
    return tile(np.concatenate([images, blank]), columns)
