"""From result files to figure files: PNG, PDF and the CSV each figure was drawn from."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from diffc_jax import results
from diffc_jax.errors import InputError, UsageError
from diffc_jax.files import replacing
from diffc_jax.plotting.rate_distortion import SCALES, plot_rate_psnr
from diffc_jax.plotting.style import RC

# Without dates and program versions the same results give the same bytes.
_METADATA: Mapping[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save_figure(
    figure: Figure, stem: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]]
) -> list[pathlib.Path]:
    """Writes `stem`.png, `stem`.pdf and `stem`.csv, each whole or not at all.

    Args:
        figure: saved at its own resolution.
        stem: path without a suffix; a dot in the name is kept.
        rows: the table behind the figure, all with the same keys, at least one.

    Returns:
        The files written.

    Raises:
        InputError: the folder cannot be written.
    """
    base = pathlib.Path(stem)
    # One layout for both files; it takes longer than drawing.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    paths = {kind: base.with_name(f"{base.name}.{kind}") for kind in ("png", "pdf", "csv")}
    for kind, metadata in _METADATA.items():
        with replacing(paths[kind]) as temporary, matplotlib.rc_context(dict(RC)):
            figure.savefig(temporary, format=kind, dpi="figure", metadata=metadata)
    results.write_table(paths["csv"], rows[0].keys(), map(dict, rows))
    return list(paths.values())


def collect_rate_points(inputs: Sequence[str | os.PathLike[str]]) -> list[results.RatePoint]:
    """Reads `eval/rd.csv` of every workdir, or the CSV files named; equal rows count once.

    Raises:
        UsageError: no inputs.
        InputError: an input without results; the message names the commands that make them.
    """
    if not inputs:
        raise UsageError("inputs: empty; name at least one workdir or rd.csv file")
    points: dict[results.RatePoint, None] = {}
    for source in map(pathlib.Path, inputs):
        path = source / "eval" / "rd.csv" if source.suffix != ".csv" or source.is_dir() else source
        if not path.is_file():
            raise InputError(f"{path}: does not exist; {_how_to_make(source)}")
        found = results.read_rate_points(path)
        if not found:
            raise InputError(f"{path}: has no rows; {_how_to_make(source)}")
        points |= dict.fromkeys(found)
    return list(points)


def make_figures(
    inputs: Sequence[str | os.PathLike[str]],
    output_dir: str | os.PathLike[str],
    *,
    measure: str = "psnr",
    bpp_range: tuple[int | float, int | float] | None = None,
    show_ideal: bool = False,
    allow_mixed_data: bool = False,
) -> list[pathlib.Path]:
    """Draws the rate-PSNR figures of all inputs together, on a log and on a linear rate axis.

    Files of the same names in `output_dir` are replaced; others are left alone.

    Args:
        inputs: workdirs with `eval/rd.csv`, or paths of such files.
        output_dir: where `rate_psnr_log` and `rate_psnr_linear` go, as PNG, PDF and CSV.
        measure: see `plot_rate_psnr`, as for the other arguments.
        bpp_range: limits of both rate axes; None chooses for each.
        show_ideal: draws the ideal rates too.
        allow_mixed_data: draws points of different images together.

    Returns:
        The files written.

    Raises:
        UsageError: no inputs, or what `plot_rate_psnr` refuses.
        InputError: missing or broken results, or an output folder that cannot be written.
    """
    points = collect_rate_points(inputs)
    rows = [dataclasses.asdict(point) for point in points]
    # All figures are drawn before the first is written: a refused argument leaves no half of a set.
    drawn = {
        scale: plot_rate_psnr(
            points,
            measure=measure,
            scale=scale,
            bpp_range=bpp_range,
            show_ideal=show_ideal,
            allow_mixed_data=allow_mixed_data,
        )
        for scale in SCALES
    }
    written: list[pathlib.Path] = []
    for scale, figure in drawn.items():
        written += save_figure(figure, pathlib.Path(output_dir) / f"rate_{measure}_{scale}", rows)
    return written


def _how_to_make(source: pathlib.Path) -> str:
    workdir = source.parent.parent if source.suffix == ".csv" else source
    return (
        f"make it with: python experiments/evaluate.py --config=CONFIG --workdir={workdir} "
        "(or experiments/baselines.py with the same flags)"
    )
