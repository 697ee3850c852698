"""A page on pictures: each decoded from rising beginnings of its file, beside other codecs at those sizes.

Like `report.html` the page is one file that needs no network; without JavaScript its tables remain.
"""

import dataclasses
import html
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from diffc_jax.plotting.html_page import (
    data_uri,
    embedded_json,
    make_page,
    on_dark,
    read_part,
)
from diffc_jax.plotting.report_tables import count
from diffc_jax.runtime.files import atomic_write

_SCRIPTS = ("common.js", "pictures.js")
# In the head of the page, from which `is_picture_page` knows it.
_GENERATOR = "diffc_jax pictures"
_HEAD_BYTES = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class Version:
    """What one file, or the beginning of one, decodes to.

    Attributes:
        uri: the picture, as a data URI.
        n_bytes: of the file.
        psnr: in dB, infinite where the pixels are exact.
        label: variant of the codec, if it has several.
    """

    uri: str
    n_bytes: int
    psnr: float
    label: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """A method with one version for each size.

    Attributes:
        name: as the page has it.
        color: of its label.
        versions: in order of the sizes. One of more bytes than its size is the smallest that the codec makes.
    """

    name: str
    color: str
    versions: Sequence[Version]


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A picture with what several methods make of it.

    Attributes:
        name: of its file.
        original: its pixels, grey with one channel.
        sizes: rising, in bytes.
        methods: the first is ours, whose versions have exactly these sizes.
        without: codecs that are left out, each with the reason.
    """

    name: str
    original: UInt8[np.ndarray, "h w c"]
    sizes: Sequence[int]
    methods: Sequence[Method]
    without: Sequence[str] = ()

    @property
    def n_pixels(self) -> int:
        """Width times height."""
        return self.original.shape[0] * self.original.shape[1]


def write_picture_page(
    path: str | os.PathLike[str], pictures: Sequence[Picture], settings: Mapping[str, str]
) -> None:
    """Writes the page of one picture or several, whole or not at all.

    Args:
        path: the file; an older one is replaced.
        pictures: what to show.
        settings: how each method was run, by its name.

    Raises:
        InputError: the file cannot be written.
    """
    page = make_page(
        "pictures.html",
        {
            "generator": _GENERATOR,
            "style": read_part("report.css") + read_part("pictures.css"),
            "script": "\n".join(map(read_part, _SCRIPTS)),
            "data": embedded_json({"pictures": [_data(picture) for picture in pictures]}),
            "title": html.escape(_title(pictures)),
            "summary": _summary(pictures),
            "tables": "\n".join(map(_table, pictures)),
            "settings": _settings(pictures, settings),
        },
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def is_picture_page(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a page that `write_picture_page` has written."""
    with open(path, "rb") as stream:
        return f'content="{_GENERATOR}"'.encode() in stream.read(_HEAD_BYTES)


def _data(picture: Picture) -> dict[str, Any]:
    height, width, _ = picture.original.shape
    images: dict[str, int] = {}
    return {
        "name": picture.name,
        "width": width,
        "height": height,
        "original": data_uri(_squeezed(picture.original)),
        "sizes": list(picture.sizes),
        "methods": [
            {
                "name": method.name,
                "color": method.color,
                "dark_color": on_dark(method.color),
                "versions": [
                    {
                        # Several sizes may have the same file.
                        "image": images.setdefault(version.uri, len(images)),
                        "bytes": version.n_bytes,
                        "psnr": version.psnr if math.isfinite(version.psnr) else None,
                        "label": version.label,
                    }
                    for version in method.versions
                ],
            }
            for method in picture.methods
        ],
        "images": list(images),
    }


def _squeezed(pixels: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w *c"]:
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels


def _title(pictures: Sequence[Picture]) -> str:
    if len(pictures) > 1:
        return f"{count(len(pictures), 'picture')} at rising sizes"
    return f"{pictures[0].name} at rising sizes"


def _summary(pictures: Sequence[Picture]) -> str:
    """What was coded; the first paragraph of the page."""
    sentences = []
    for picture in pictures:
        height, width, channels = picture.original.shape
        last = picture.methods[0].versions[-1]
        sentences.append(
            f"{html.escape(picture.name)}: {width}x{height}{', grey' if channels == 1 else ''}, "
            f"{count(last.n_bytes, 'byte')} ({_bpp(last.n_bytes, picture)} bpp), {_decibels(last.psnr)}."
        )
    return f"<p>{'<br>'.join(sentences)}</p>"


def _table(picture: Picture) -> str:
    """All numbers of a picture."""
    heads = "".join(
        f'<th scope="col">{html.escape(method.name)}</th>' for method in picture.methods
    )
    rows = []
    for position, size in enumerate(picture.sizes):
        cells = "".join(
            f"<td>{_cell(method.versions[position], size)}</td>" for method in picture.methods
        )
        rows.append(f'<tr><th scope="row">{size:,}</th><td>{_bpp(size, picture)}</td>{cells}</tr>')
    name = html.escape(picture.name, quote=True)
    return (
        f'<h3>{name}</h3>\n<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>'
        f'<thead><tr><th scope="col">bytes</th><th scope="col">bpp</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _cell(version: Version, size: int) -> str:
    if version.n_bytes == size:
        return _decibels(version.psnr)
    beyond = " (its smallest)" if version.n_bytes > size else ""
    return f"{_decibels(version.psnr)} at {version.n_bytes:,}{beyond}"


def _settings(pictures: Sequence[Picture], settings: Mapping[str, str]) -> str:
    lines = [
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>"
        for name, text in settings.items()
    ]
    without = dict.fromkeys(html.escape(text) for one in pictures for text in one.without)
    missing = "".join(f"<li>{text}</li>" for text in without)
    return f"<dl>{''.join(lines)}</dl>" + (f'<ul class="missing">{missing}</ul>' if missing else "")


def _bpp(n_bytes: int, picture: Picture) -> str:
    return f"{8 * n_bytes / picture.n_pixels:.3f}"


def _decibels(psnr: float) -> str:
    return f"{psnr:.2f} dB" if math.isfinite(psnr) else "exact"
