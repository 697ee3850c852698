"""Figures of reconstructed images with their rates: a grid of columns, and strips at rising rates."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffc_jax.errors import InputError
from diffc_jax.evaluation.rate_point import DIFFC_CODEC
from diffc_jax.evaluation.result_files import CODEC_RECONSTRUCTIONS, GRID, RECONSTRUCTIONS
from diffc_jax.plotting import layout, style
from diffc_jax.plotting.reconstructions import (
    DecodedImages,
    Reconstructions,
    load_files,
    load_sweep,
)
from diffc_jax.runtime.files import AnyPath, atomic_write

_DPI = 200
_CELL_PIXELS = 192
_GAP, _GROUP_GAP, _MARGIN = 10, 26, 16
_NUMBERS, _HEADING, _ROW_LABEL = 34, 40, 40
_PSNR_RED = "#C00000"
_FRAME_GREY = 217
_DASH = "\N{EN DASH}"
_SHOWN_BPP = (0.05, 5.0)
_EXCESS = 1.1
_SHOWN_LEVELS = 4


@dataclasses.dataclass(frozen=True)
class Cell:
    """One place of a table of images.

    Attributes:
        image: None draws a dash in an empty frame.
        bpp: bits per pixel, written below; None writes nothing.
        psnr: in dB, written beside the rate; infinite where the image is exact.
    """

    image: UInt8[np.ndarray, "h w 3"] | None
    bpp: float | None = None
    psnr: float | None = None


@dataclasses.dataclass(frozen=True)
class GridColumn:
    """One column of a reconstruction grid.

    Attributes:
        group: heading shared by neighbouring columns, such as the decoder.
        images: the reconstructions.
        bpp: bits per pixel of each image.
        psnr: PSNR of each image in dB; infinite where it is exact.
    """

    group: str
    images: UInt8[np.ndarray, "n h w 3"]
    bpp: Float[np.ndarray, " n"]
    psnr: Float[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class Strips:
    """The cells of one figure.

    Attributes:
        index: position of each image in its split.
        originals: the image at the end of each first row.
        labels: what the rows of an image show: the decoder, then codecs at matched rates.
        cells: `cells[image][row][column]`, rates rising from left to right.
        same_levels: labels of rows below the first that show its noise levels, not its rates.
    """

    index: tuple[int, ...]
    originals: tuple[Any, ...]
    labels: tuple[str, ...]
    cells: tuple[tuple[tuple[Cell, ...], ...], ...]
    same_levels: tuple[str, ...] = ()


def draw_evaluation_grid(folder: AnyPath) -> None:
    """Draws W/eval/reconstructions.png: images that an evaluation has kept, if any, at four of its levels.

    Raises:
        InputError: a broken file.
    """
    if not (folder / RECONSTRUCTIONS).is_file():
        return
    sweep = load_sweep(folder)
    series = [(style.decoder_label(one.decoder or ""), one) for one in sweep.series]
    if (folder / CODEC_RECONSTRUCTIONS).is_file():
        files = load_files(folder / CODEC_RECONSTRUCTIONS)
        series += [(style.files_label(one.decoder or ""), one) for one in files.series]
    n_levels = len(sweep.series[0].levels)
    shown = np.unique(np.linspace(0, n_levels - 1, _SHOWN_LEVELS).round().astype(int))
    columns = [
        GridColumn(group, one.images[:, level], one.bpp[:, level], one.psnr[:, level])
        for group, one in series
        for level in shown
    ]
    with atomic_write(folder / GRID) as temporary:
        reconstruction_grid(sweep.originals, columns).savefig(temporary)


def reconstruction_grid(
    originals: UInt8[np.ndarray, "n h w 3"], columns: Sequence[GridColumn]
) -> Figure:
    """Draws originals, a row for each, beside reconstructions of all of them, a column for each entry.

    Raises:
        InputError: no originals, or a column whose shapes do not fit them (the column is named).
    """
    _check_columns(originals, columns)
    return image_table(
        [
            [
                Cell(original),
                *(Cell(c.images[row], float(c.bpp[row]), float(c.psnr[row])) for c in columns),
            ]
            for row, original in enumerate(originals)
        ],
        originals.shape[1:3],
        headings=["original", *(column.group for column in columns)],
    )


def make_strips(
    reconstructions: Reconstructions,
    shown: DecodedImages,
    codecs: Sequence[DecodedImages] = (),
    *,
    max_images: int = 3,
    columns: int = 6,
) -> Strips:
    """Chooses what a figure of strips shows.

    Args:
        reconstructions: the images.
        shown: the decoder of the first row of every image; its noise levels make the columns, those
            whose mean rate is within 0.05..5 bits per pixel and of these some at even distances.
        codecs: one more row each; in a column, the codec's highest rate that is at most 1.1 times that of
            the first row, and an empty cell where the codec has none. The codec of DiffC has the noise
            levels of the first row instead.
        max_images: so many images, the first ones.
        columns: so many rates at most.
    """
    levels = _levels(shown, columns).tolist()
    cells = []
    for image in range(min(max_images, len(reconstructions.index))):
        first = tuple(_cell(shown, image, level) for level in levels)
        below = (tuple(_below(shown, codec, image, level) for level in levels) for codec in codecs)
        cells.append((first, *below))
    return Strips(
        index=tuple(reconstructions.index[: len(cells)].tolist()),
        originals=tuple(reconstructions.originals[: len(cells)]),
        labels=tuple(map(_label, (shown, *codecs))),
        cells=tuple(cells),
        same_levels=tuple(_label(codec) for codec in codecs if _is_own(codec)),
    )


def plot_strips(strips: Strips) -> Figure:
    """Draws strips, rate (black) and PSNR (red) under each image, the original at the right end."""
    table: list[list[Cell | None]] = []
    for original, rows in zip(strips.originals, strips.cells, strict=True):
        ends = [Cell(original), *[None] * (len(rows) - 1)]
        table += [[*row, end] for row, end in zip(rows, ends, strict=True)]
    captions = ["Rates and PSNRs are those of each image."]
    captions += [f"{strips.labels[0]}: upper bound C + log2(C + 1) + 5 bits."]
    own = [label for label in strips.labels[1:] if label in strips.same_levels]
    others = [label for label in strips.labels[1:] if label not in strips.same_levels]
    if own:
        captions.append(f"{', '.join(own)}: file bytes at about the same noise.")
    if others:
        captions.append(
            f"{', '.join(others)}: file bytes, the highest rate that is at most {_EXCESS:g} times that of "
            f"{strips.labels[0]}; a dash where no file is that small."
        )
    n_columns = len(strips.cells[0][0])
    return image_table(
        table,
        strips.originals[0].shape[:2],
        headings=[*["reconstructions at rising rates"] * n_columns, "original"],
        row_labels=strips.labels * len(strips.cells),
        rows_in_group=len(strips.labels),
        caption=" ".join(captions),
    )


def strips_rows(strips: Strips) -> list[dict[str, Any]]:
    """The numbers under the images, one row of a table for each."""
    return [
        {"index": index, "method": label, "column": column, "bpp": cell.bpp, "psnr": cell.psnr}
        for index, rows in zip(strips.index, strips.cells, strict=True)
        for label, row in zip(strips.labels, rows, strict=True)
        for column, cell in enumerate(row)
    ]


def image_table(
    cells: Sequence[Sequence[Cell | None]],
    shape: tuple[int, int],
    *,
    headings: Sequence[str],
    row_labels: Sequence[str] = (),
    rows_in_group: int = 1,
    caption: str = "",
) -> Figure:
    """Draws a table of images, with their rate (black) and PSNR (red) below.

    Every image pixel becomes a square of pixels of the saved figure, and cells are about 192 pixels wide.

    Args:
        cells: the rows, each with as many cells; None leaves a place blank.
        shape: height and width of every image.
        headings: of the columns; neighbours with the same one share it.
        row_labels: written upwards, left of the rows; or none.
        rows_in_group: so many rows stand closer together.
        caption: small print below the table.
    """
    height, width = shape
    scale = max(1, round(_CELL_PIXELS / width))
    cell_width, cell_height = scale * width, scale * height
    lefts = [
        _MARGIN + (_ROW_LABEL if row_labels else 0) + index * (cell_width + _GAP)
        for index in range(len(headings))
    ]
    row_gap = _GROUP_GAP - _GAP if rows_in_group > 1 else 0
    tops = [
        _MARGIN + _HEADING + row * (cell_height + _NUMBERS + _GAP) + row // rows_in_group * row_gap
        for row in range(len(cells))
    ]
    canvas_width = lefts[-1] + cell_width + _MARGIN
    lines = layout.wrap_caption(caption, canvas_width / _DPI)
    below = round(_DPI * layout.caption_height(lines)) if lines else 0
    canvas_height = tops[-1] + cell_height + _NUMBERS + _MARGIN + below
    canvas = np.full((canvas_height, canvas_width, 3), 255, np.uint8)

    with matplotlib.rc_context(dict(style.RC)):
        figure = Figure(figsize=(canvas_width / _DPI, canvas_height / _DPI), dpi=_DPI)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        centred: dict[str, Any] = {"horizontalalignment": "center"}
        for upper, row in zip(tops, cells, strict=True):
            for left, cell in zip(lefts, row, strict=True):
                if cell is None:
                    continue
                # One pixel of frame, which sets white images off from the page.
                canvas[upper - 1 : upper + cell_height + 1, left - 1 : left + cell_width + 1] = (
                    _FRAME_GREY
                )
                place = np.s_[upper : upper + cell_height, left : left + cell_width]
                if cell.image is None:
                    canvas[place] = 255
                    middle = (left + cell_width / 2, upper + cell_height / 2)
                    axes.text(*middle, _DASH, fontsize=11, color=style.CAPTION_GREY, **centred)
                else:
                    canvas[place] = cell.image.repeat(scale, axis=0).repeat(scale, axis=1)
                _write_numbers(axes, cell, left, left + cell_width, upper + cell_height + 6)
        axes.imshow(canvas, interpolation="none", extent=(0, canvas_width, canvas_height, 0))
        axes.set_axis_off()
        for text, run in itertools.groupby(
            zip(headings, lefts, strict=True), key=lambda item: item[0]
        ):
            starts = [left for _, left in run]
            first, last = starts[0], starts[-1] + cell_width
            axes.plot([first, last], [_MARGIN + 30] * 2, color="0.3", linewidth=0.7)
            axes.text(
                (first + last) / 2, _MARGIN + 22, text, fontsize=8, fontweight="bold", **centred
            )
        for label, upper in zip(row_labels, tops, strict=False):
            axes.text(
                _MARGIN + 8,
                upper + cell_height / 2,
                label,
                fontsize=8,
                fontweight="bold",
                rotation=90,
                verticalalignment="center",
                **centred,
            )
        if lines:
            layout.draw_caption(figure, lines)
    return figure


def _write_numbers(
    axes: Axes, cell: Cell, left: int | float, right: int | float, y: int | float
) -> None:
    below: dict[str, Any] = {"fontsize": 6.5, "verticalalignment": "top"}
    if cell.bpp is not None:
        axes.text(left, y, f"{cell.bpp:#.3g} bpp", **below)
    if cell.psnr is not None:
        psnr = f"{cell.psnr:.1f} dB" if math.isfinite(cell.psnr) else "exact"
        axes.text(right, y, psnr, color=_PSNR_RED, horizontalalignment="right", **below)


def _check_columns(originals: UInt8[np.ndarray, "n h w 3"], columns: Sequence[GridColumn]) -> None:
    if not len(originals):
        raise InputError("originals: a reconstruction grid needs at least one image")
    for column in columns:
        shapes = (column.images.shape, column.bpp.shape, column.psnr.shape)
        if shapes != (originals.shape, originals.shape[:1], originals.shape[:1]):
            raise InputError(
                f"column {column.group!r}: images, bpp and psnr have shapes {shapes}, but the originals "
                f"have {originals.shape}"
            )


def _levels(shown: DecodedImages, columns: int) -> Int[np.ndarray, " columns"]:
    rates = shown.bpp.mean(axis=0)
    order = np.argsort(rates)
    inside = order[(rates[order] >= _SHOWN_BPP[0]) & (rates[order] <= _SHOWN_BPP[1])]
    candidates = inside if len(inside) else order
    chosen = np.linspace(0, len(candidates) - 1, min(columns, len(candidates))).round().astype(int)
    return candidates[np.unique(chosen)]


def _cell(decoded: DecodedImages, image: int, level: int) -> Cell:
    return Cell(
        decoded.images[image, level],
        float(decoded.bpp[image, level]),
        float(decoded.psnr[image, level]),
    )


def _is_own(codec: DecodedImages) -> bool:
    return codec.method == DIFFC_CODEC


def _below(shown: DecodedImages, codec: DecodedImages, image: int, level: int) -> Cell:
    if _is_own(codec):
        return _cell(codec, image, int(np.abs(codec.levels - shown.levels[level]).argmin()))
    fits = codec.bpp[image] <= _EXCESS * float(shown.bpp[image, level])
    rates = np.where(fits, codec.bpp[image], -np.inf)
    return _cell(codec, image, int(rates.argmax())) if fits.any() else Cell(None)


def _label(decoded: DecodedImages) -> str:
    if decoded.decoder is not None and _is_own(decoded):
        return style.files_label(decoded.decoder)
    if decoded.decoder is not None:
        return style.decoder_label(decoded.decoder).split(" (")[0]
    return style.codec_label(decoded.method, decoded.model)
