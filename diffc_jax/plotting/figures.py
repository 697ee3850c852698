"""From result files to figure files: PNG, PDF and the CSV each figure was drawn from."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from diffc_jax.evaluation import results
from diffc_jax.evaluation.rate_point import DIFFC_CODEC
from diffc_jax.evaluation.result_files import BASELINE_SPECTRA, RATE_CURVE, SPECTRA
from diffc_jax.plotting import style
from diffc_jax.plotting.grids import make_strips, plot_strips, strips_rows
from diffc_jax.plotting.inputs import (
    Input,
    check_output,
    check_same_pixels,
    collect_rate_points,
    labels_of,
    point_rows,
    read_inputs,
)
from diffc_jax.plotting.measures import (
    SCALES,
    check_same_images,
    data_name,
    drop_other_distances,
    measures_in,
)
from diffc_jax.plotting.rate_distortion import plot_rates
from diffc_jax.plotting.rates import (
    bounds_rows,
    coding_cost_rows,
    load_rate_curve,
    plot_bounds,
    plot_coding_cost,
)
from diffc_jax.plotting.reconstructions import DecodedImages, collect_reconstructions
from diffc_jax.plotting.spectra import Spectrum, key_of, load_spectra, plot_spectra, spectra_rows
from diffc_jax.runtime.files import atomic_write

# Figures with the tables behind them, by the names of their files.
_Drawn = dict[str, tuple[Figure, Sequence[Mapping[str, Any]]]]

# Without dates and program versions the same results give the same bytes.
_METADATA: Mapping[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save_figure(
    figure: Figure, stem: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]
) -> list[pathlib.Path]:
    """Writes `stem`.png, `stem`.pdf and `stem`.csv, each whole or not at all, and returns their paths.

    Args:
        figure: saved at its own resolution.
        stem: path without a suffix; a dot in the name is kept.
        rows: the table behind the figure, all with the same keys, at least one.

    Raises:
        InputError: the folder cannot be written.
    """
    base = pathlib.Path(stem)
    if figure.get_layout_engine() is not None:
        # One layout for both files; it takes longer than drawing.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    paths = {kind: base.with_name(f"{base.name}.{kind}") for kind in ("png", "pdf", "csv")}
    for kind, metadata in _METADATA.items():
        with atomic_write(paths[kind]) as temporary, matplotlib.rc_context(dict(style.RC)):
            figure.savefig(temporary, format=kind, dpi="figure", metadata=metadata)
    results.write_table(paths["csv"], rows[0].keys(), map(dict, rows))
    return list(paths.values())


def make_figures(
    inputs: Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    *,
    measures: Sequence[str] | None = None,
    y_scale: str | None = None,
    bpp_range: tuple[int | float, int | float] | None = None,
    show_ideal: bool = False,
    allow_mixed_data: bool = False,
    more_points: Sequence[results.RatePoint] = (),
) -> list[pathlib.Path]:
    """Draws everything that the inputs have data for; docs/output_files.md lists the figures.

    Files of the same names in `output_dir` are replaced; others are left alone. Returns the files written.

    Args:
        inputs: workdirs, or paths of `rd.csv` files (which have no images and no rate curve).
        output_dir: where PNG, PDF and CSV go.
        measures: keys of `MEASURES`; None draws `USUAL_MEASURES`, precision and recall where the inputs
            have them, and then leaves out those distances of `more_points` that do not compare.
        y_scale: see `plot_rates`, as for the other arguments.
        bpp_range: limits of the rate axes; None chooses for each.
        show_ideal: draws the ideal rates too.
        allow_mixed_data: draws points of different images together.
        more_points: drawn beside those of the inputs, such as published ones.

    Raises:
        UsageError: no inputs, what `plot_rates` refuses, or the folder of an input's results.
        InputError: missing or broken results, or an output folder that cannot be written.
    """
    check_output(inputs, pathlib.Path(output_dir))
    found = read_inputs(inputs)
    own = [point for one in found for point in one.points]
    if not allow_mixed_data:
        check_same_images([*own, *more_points])
        check_same_pixels(inputs)
    overlaps = measures is None and any(point.precision is not None for point in own)
    if measures is None:
        measures = measures_in(own)
        more_points = drop_other_distances(more_points, own)
    panels: dict[str, tuple[str, ...]] = {f"rate_{name}": (name,) for name in measures}
    if {"fid", "psnr"} <= set(measures):
        panels["rate_paper"] = ("fid", "psnr")
    if overlaps:
        panels["rate_precision_recall"] = ("precision", "recall")
    points = list(dict.fromkeys((*own, *more_points)))
    rows = point_rows(points)
    # All figures are drawn before the first is written: a refused argument leaves no half of a set.
    drawn: _Drawn = {}
    for name, shown in panels.items():
        for scale in SCALES:
            figure = plot_rates(
                points,
                measures=shown,
                scale=scale,
                y_scale=y_scale,
                bpp_range=bpp_range,
                show_ideal=show_ideal,
                allow_mixed_data=allow_mixed_data,
            )
            drawn[f"{name}_{scale}"] = (figure, rows)
    workdirs = [one for one in found if not one.is_table]
    drawn |= _rate_figures(workdirs)
    drawn |= _strip_figures(workdirs)
    drawn |= _spectra_figure(workdirs)
    written: list[pathlib.Path] = []
    for name, (figure, table) in drawn.items():
        written += save_figure(figure, pathlib.Path(output_dir) / name, table)
    return written


def _rate_figures(inputs: Sequence[Input]) -> _Drawn:
    """`rate_bounds_MODEL` of every sweep and `coding_cost` of all together."""
    found = [one for one in inputs if (one.path / "eval" / RATE_CURVE).is_file()]
    # Of every input alone, where none of its points is a copy.
    sweeps = [[p for p in collect_rate_points([one.path]) if p.method == "diffc"] for one in found]
    models = [
        (points and points[0].model) or one.name for one, points in zip(found, sweeps, strict=True)
    ]
    names = _distinct(models)
    labels = _distinct(
        [
            ", ".join(filter(None, (model, one.label("diffc", model))))
            for one, model in zip(found, models, strict=True)
        ]
    )
    curves, data = [], []
    drawn: _Drawn = {}
    for one, points, name, label in zip(found, sweeps, names, labels, strict=True):
        curve = load_rate_curve(one.path / "eval" / RATE_CURVE, label)
        curves.append(curve)
        data.append("; ".join(dict.fromkeys(map(data_name, points))) or "images not stated")
        drawn[f"rate_bounds_{name}"] = (plot_bounds(curve, data[-1]), bounds_rows(curve))
    if curves:
        figure = plot_coding_cost(curves, "; ".join(dict.fromkeys(data)))
        drawn["coding_cost"] = (figure, coding_cost_rows(curves))
    return drawn


def _spectra_figure(inputs: Sequence[Input]) -> _Drawn:
    """`spectra` of all inputs that have any together."""
    spectra: dict[results.RatePoint, Spectrum] = {}
    for one in inputs:
        for name in (SPECTRA, BASELINE_SPECTRA):
            if (path := one.path / "eval" / name).is_file():
                found = load_spectra(path)
                spectra |= {p: found[key_of(p)] for p in one.points if key_of(p) in found}
    points = list(spectra)
    return (
        {"spectra": (plot_spectra(points, spectra), spectra_rows(points, spectra))}
        if points
        else {}
    )


def _strip_figures(inputs: Sequence[Input]) -> _Drawn:
    """`strips_MODEL` of every model of a run: DiffC-F (or the first decoder), its files and JPEG below."""
    chosen = []
    for reconstructions in collect_reconstructions([one.path for one in inputs], labels_of(inputs)):
        jpeg = [s for s in reconstructions.series if s.method == "jpeg"][:1]
        by_model: dict[tuple[str | None, str | None], list[DecodedImages]] = {}
        for series in reconstructions.series:
            if series.method == "diffc":
                by_model.setdefault((series.model, series.run), []).append(series)
        for (model, run), decoders in by_model.items():
            flow = next((s for s in decoders if s.decoder == "flow"), decoders[0])
            own = (DIFFC_CODEC, model, flow.decoder, run)
            files = [
                s for s in reconstructions.series if (s.method, s.model, s.decoder, s.run) == own
            ]
            strips = make_strips(reconstructions, flow, [*files[:1], *jpeg])
            chosen.append((str(model), strips))
    names = _distinct([model for model, _ in chosen])
    return {
        f"strips_{name}": (plot_strips(strips), strips_rows(strips))
        for name, (_, strips) in zip(names, chosen, strict=True)
    }


def _distinct(names: Sequence[str]) -> list[str]:
    """The names as parts of those of files, with _2, _3, ... after repeated ones."""
    distinct: list[str] = []
    for name in names:
        whole, number = name.replace("/", "_"), 1
        found = whole
        while found in distinct:
            number += 1
            found = f"{whole}_{number}"
        distinct.append(found)
    return distinct
