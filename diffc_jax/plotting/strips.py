"""Progressive reconstructions, as in the paper's first figure: one image a row, rates across."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from diffc_jax.plotting import style
from diffc_jax.plotting.grids import Cell, picture_table
from diffc_jax.plotting.reconstructions import Pictures, Reconstructions

_SHOWN_BPP = (0.05, 5.0)
_EXCESS = 1.1


@dataclasses.dataclass(frozen=True)
class Strips:
    """The cells of one figure.

    Attributes:
        index: position of each image in its split.
        originals: the picture at the end of each image's first row.
        labels: what the rows of an image show: the decoder, then codecs at matched rates.
        cells: `cells[image][row][column]`, rates rising from left to right.
        same_levels: labels of rows below the first that show its noise levels, not its rates.
    """

    index: tuple[int, ...]
    originals: tuple[Any, ...]
    labels: tuple[str, ...]
    cells: tuple[tuple[tuple[Cell, ...], ...], ...]
    same_levels: tuple[str, ...] = ()


def make_strips(
    reconstructions: Reconstructions,
    shown: Pictures,
    codecs: Sequence[Pictures] = (),
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
    images = range(min(max_images, len(reconstructions.index)))
    cells = []
    for image in images:
        first = tuple(_cell(shown, image, level) for level in levels)
        below = (tuple(_below(shown, codec, image, level) for level in levels) for codec in codecs)
        cells.append((first, *below))
    return Strips(
        index=tuple(int(reconstructions.index[image]) for image in images),
        originals=tuple(reconstructions.originals[image] for image in images),
        labels=tuple(map(_label, (shown, *codecs))),
        cells=tuple(cells),
        same_levels=tuple(_label(codec) for codec in codecs if _is_own(codec)),
    )


def plot_strips(strips: Strips) -> Figure:
    """Draws strips, rate (black) and PSNR (red) under each picture, the original at the right end."""
    table: list[list[Cell | None]] = []
    for original, rows in zip(strips.originals, strips.cells, strict=True):
        ends = [Cell(original), *[None] * (len(rows) - 1)]
        table += [[*row, end] for row, end in zip(rows, ends, strict=True)]
    captions = ["Rates and PSNRs are those of each picture."]
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
    return picture_table(
        table,
        strips.originals[0].shape[:2],
        headings=[*["reconstructions at rising rates"] * n_columns, "original"],
        row_labels=strips.labels * len(strips.cells),
        rows_in_group=len(strips.labels),
        caption=" ".join(captions),
    )


def strips_rows(strips: Strips) -> list[dict[str, Any]]:
    """The numbers under the pictures, one row of a table per picture."""
    return [
        {"index": index, "method": label, "column": column, "bpp": cell.bpp, "psnr": cell.psnr}
        for index, rows in zip(strips.index, strips.cells, strict=True)
        for label, row in zip(strips.labels, rows, strict=True)
        for column, cell in enumerate(row)
    ]


def _levels(shown: Pictures, columns: int) -> Int[np.ndarray, " columns"]:
    rates = shown.bpp.mean(axis=0)
    order = np.argsort(rates)
    inside = order[(rates[order] >= _SHOWN_BPP[0]) & (rates[order] <= _SHOWN_BPP[1])]
    candidates = inside if len(inside) else order
    chosen = np.linspace(0, len(candidates) - 1, min(columns, len(candidates))).round().astype(int)
    return candidates[np.unique(chosen)]


def _cell(pictures: Pictures, image: int, level: int) -> Cell:
    return Cell(
        pictures.images[image, level],
        float(pictures.bpp[image, level]),
        float(pictures.psnr[image, level]),
    )


def _is_own(codec: Pictures) -> bool:
    return codec.method == style.DIFFC_CODEC


def _below(shown: Pictures, codec: Pictures, image: int, level: int) -> Cell:
    if _is_own(codec):
        return _cell(codec, image, int(np.abs(codec.levels - shown.levels[level]).argmin()))
    return _matched(codec, image, float(shown.bpp[image, level]))


def _matched(codec: Pictures, image: int, bpp: float) -> Cell:
    rates = np.where(codec.bpp[image] <= _EXCESS * bpp, codec.bpp[image], -np.inf)
    level = int(rates.argmax())
    return _cell(codec, image, level) if np.isfinite(rates[level]) else Cell(None)


def _label(pictures: Pictures) -> str:
    if pictures.decoder is not None and _is_own(pictures):
        return style.files_label(pictures.decoder)
    if pictures.decoder is not None:
        return style.decoder_label(pictures.decoder).split(" (")[0]
    return style.codec_label(pictures.method, pictures.model)
