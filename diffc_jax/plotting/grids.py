"""Pictures of reconstructions with their rates."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diffc_jax.errors import InputError
from diffc_jax.plotting import layout, style

_DPI = 200
_CELL_PIXELS = 192
_GAP, _GROUP_GAP, _MARGIN = 10, 26, 16
_NUMBERS, _TITLE, _HEADING, _ROW_LABEL = 34, 32, 40, 40
_PSNR_RED = "#C00000"
_FRAME_GREY = 217
_DASH = "\N{EN DASH}"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One place of a table of pictures.

    Attributes:
        image: the picture; None draws a dash in an empty frame.
        bpp: bits per pixel, written below; None writes nothing.
        psnr: in dB, written beside the rate; infinite where the picture is exact.
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
        title: heading of this column alone, such as its noise level.
    """

    group: str
    images: UInt8[np.ndarray, "n h w 3"]
    bpp: Float[np.ndarray, " n"]
    psnr: Float[np.ndarray, " n"]
    title: str = ""


def picture_table(
    cells: Sequence[Sequence[Cell | None]],
    shape: tuple[int, int],
    *,
    headings: Sequence[str],
    titles: Sequence[str] = (),
    row_labels: Sequence[str] = (),
    rows_in_group: int = 1,
    scale: int | None = None,
    caption: str = "",
) -> Figure:
    """Draws a table of pictures, with their rate (black) and PSNR (red) below.

    Every image pixel becomes a square of `scale` x `scale` pixels of the saved picture.

    Args:
        cells: the rows, each with as many cells; None leaves a place blank.
        shape: height and width of every image.
        headings: of the columns; neighbours with the same one share it.
        titles: smaller headings of the columns, or none.
        row_labels: written upwards, left of the rows; or none.
        rows_in_group: so many rows stand closer together.
        scale: magnification; None makes cells about 192 pixels wide.
        caption: small print below the table.
    """
    height, width = shape
    scale = scale or max(1, round(_CELL_PIXELS / width))
    cell_width, cell_height = scale * width, scale * height
    top = _MARGIN + _HEADING + (_TITLE if any(titles) else 0)
    lefts = [
        _MARGIN + (_ROW_LABEL if row_labels else 0) + index * (cell_width + _GAP)
        for index in range(len(headings))
    ]
    row_gap = _GROUP_GAP - _GAP if rows_in_group > 1 else 0
    tops = [
        top + row * (cell_height + _NUMBERS + _GAP) + row // rows_in_group * row_gap
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
                # One pixel of frame, so that white pictures do not melt into the paper.
                canvas[upper - 1 : upper + cell_height + 1, left - 1 : left + cell_width + 1] = (
                    _FRAME_GREY
                )
                place = np.s_[upper : upper + cell_height, left : left + cell_width]
                if cell.image is None:
                    canvas[place] = 255
                    middle = (left + cell_width / 2, upper + cell_height / 2)
                    axes.text(*middle, _DASH, fontsize=11, color=style.CAPTION_GREY, **centred)
                else:
                    canvas[place] = _enlarged(cell.image, scale)
                _write_numbers(axes, cell, left, left + cell_width, upper + cell_height + 6)
        axes.imshow(canvas, interpolation="none", extent=(0, canvas_width, canvas_height, 0))
        axes.set_axis_off()
        for title, left in zip(titles, lefts, strict=False):
            if title:
                axes.text(left + cell_width / 2, top - 9, title, fontsize=7, **centred)
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


def reconstruction_grid(
    originals: UInt8[np.ndarray, "n h w 3"],
    columns: Sequence[GridColumn],
    *,
    scale: int | None = None,
) -> Figure:
    """Draws originals beside reconstructions, with their rate (black) and PSNR (red) below.

    Args:
        originals: one row each.
        columns: reconstructions of all the originals, from left to right.
        scale: see `picture_table`.

    Raises:
        InputError: no originals, or a column whose shapes do not fit them (the column is named).
    """
    _check_columns(originals, columns)
    return picture_table(
        [
            [
                Cell(original),
                *(Cell(c.images[row], float(c.bpp[row]), float(c.psnr[row])) for c in columns),
            ]
            for row, original in enumerate(originals)
        ],
        originals.shape[1:3],
        headings=["original", *(column.group for column in columns)],
        titles=["", *(column.title for column in columns)],
        scale=scale,
    )


def _write_numbers(
    axes: Axes, cell: Cell, left: int | float, right: int | float, y: int | float
) -> None:
    below: dict[str, Any] = {"fontsize": 6.5, "verticalalignment": "top"}
    if cell.bpp is not None:
        axes.text(left, y, f"{cell.bpp:#.3g} bpp", **below)
    if cell.psnr is not None:
        psnr = f"{cell.psnr:.1f} dB" if math.isfinite(cell.psnr) else "exact"
        axes.text(right, y, psnr, color=_PSNR_RED, horizontalalignment="right", **below)


def _enlarged(image: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "H W 3"]:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def _check_columns(originals: UInt8[np.ndarray, "n h w 3"], columns: Sequence[GridColumn]) -> None:
    if not len(originals):
        raise InputError("originals: a reconstruction grid needs at least one image")
    for column in columns:
        shapes = (column.images.shape, column.bpp.shape, column.psnr.shape)
        if shapes != (originals.shape, originals.shape[:1], originals.shape[:1]):
            raise InputError(
                f"column {f'{column.group} {column.title}'.strip()!r}: images, bpp and psnr have "
                f"shapes {shapes}, but the originals have {originals.shape}"
            )
