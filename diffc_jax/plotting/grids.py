"""Pictures of reconstructions with their rates."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from diffc_jax.errors import InputError
from diffc_jax.plotting import style

_DPI = 200
_CELL_PIXELS = 192
_GAP, _MARGIN = 10, 16
_CAPTION, _TITLE, _GROUP = 34, 32, 40
_PSNR_RED = "#C00000"


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


def reconstruction_grid(
    originals: UInt8[np.ndarray, "n h w 3"],
    columns: Sequence[GridColumn],
    *,
    scale: int | None = None,
) -> Figure:
    """Draws originals beside reconstructions, with their rate (black) and PSNR (red) below.

    Every image pixel becomes a square of `scale` x `scale` pixels of the saved picture.

    Args:
        originals: one row each.
        columns: reconstructions of all the originals, from left to right.
        scale: magnification; None makes cells about 192 pixels wide.

    Raises:
        InputError: no originals, or a column whose shapes do not fit them (the column is named).
    """
    _check_columns(originals, columns)
    n, height, width, _ = originals.shape
    scale = scale or max(1, round(_CELL_PIXELS / width))
    cell_width, cell_height = scale * width, scale * height
    top = _MARGIN + _GROUP + (_TITLE if any(column.title for column in columns) else 0)
    step_x, step_y = cell_width + _GAP, cell_height + _CAPTION + _GAP
    canvas_width = 2 * _MARGIN + (len(columns) + 1) * step_x - _GAP
    canvas_height = top + n * step_y + _MARGIN - _GAP
    canvas = np.full((canvas_height, canvas_width, 3), 255, np.uint8)
    lefts = [_MARGIN + index * step_x for index in range(len(columns) + 1)]
    tops = [top + row * step_y for row in range(n)]
    for left, images in zip(lefts, [originals, *(c.images for c in columns)], strict=True):
        for upper, image in zip(tops, images, strict=True):
            canvas[upper : upper + cell_height, left : left + cell_width] = _enlarged(image, scale)

    with matplotlib.rc_context(dict(style.RC)):
        figure = Figure(figsize=(canvas_width / _DPI, canvas_height / _DPI), dpi=_DPI)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.imshow(canvas, interpolation="none", extent=(0, canvas_width, canvas_height, 0))
        axes.set_axis_off()
        below: dict[str, Any] = {"fontsize": 6.5, "verticalalignment": "top"}
        for column, left in zip(columns, lefts[1:], strict=True):
            right = left + cell_width
            for row, upper in enumerate(tops):
                y = upper + cell_height + 6
                axes.text(left, y, f"{column.bpp[row]:#.3g} bpp", **below)
                axes.text(
                    right,
                    y,
                    _decibels(float(column.psnr[row])),
                    color=_PSNR_RED,
                    horizontalalignment="right",
                    **below,
                )
            if column.title:
                axes.text(
                    (left + right) / 2,
                    top - 9,
                    column.title,
                    fontsize=7,
                    horizontalalignment="center",
                )
        headings = [("original", lefts[0], lefts[0])]
        for group, run in itertools.groupby(
            zip(columns, lefts[1:], strict=True), key=lambda item: item[0].group
        ):
            starts = [left for _, left in run]
            headings.append((group, starts[0], starts[-1]))
        for text, first, last in headings:
            axes.plot([first, last + cell_width], [_MARGIN + 30] * 2, color="0.3", linewidth=0.7)
            axes.text(
                (first + last + cell_width) / 2,
                _MARGIN + 22,
                text,
                fontsize=8,
                fontweight="bold",
                horizontalalignment="center",
            )
    return figure


def grid_rows(columns: Sequence[GridColumn]) -> list[dict[str, Any]]:
    """The numbers under the pictures of a grid, one row of a table per cell."""
    return [
        {
            "image": index,
            "group": column.group,
            "title": column.title,
            "bpp": float(column.bpp[index]),
            "psnr": float(column.psnr[index]),
        }
        for index in range(len(columns[0].bpp) if columns else 0)
        for column in columns
    ]


def _enlarged(image: UInt8[np.ndarray, "h w 3"], scale: int) -> UInt8[np.ndarray, "H W 3"]:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def _decibels(psnr: float) -> str:
    return f"{psnr:.1f} dB" if math.isfinite(psnr) else "exact"


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
