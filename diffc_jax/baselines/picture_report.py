"""`compress.py --report`: pictures from beginnings of their files, beside other codecs at equal size."""

import contextlib
import dataclasses
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging
from jaxtyping import UInt8

from diffc_jax.baselines.codecs import for_grey, select_codecs
from diffc_jax.baselines.equal_size import Ladder
from diffc_jax.codec.codec import Codec
from diffc_jax.codec.container import parse
from diffc_jax.codec.files import read_image
from diffc_jax.codec.loading import load_codec
from diffc_jax.codec.paths import pair_files
from diffc_jax.config.sources import MOST_PIXELS
from diffc_jax.data.files import is_image_name
from diffc_jax.diffusion.decoders import DECODERS
from diffc_jax.errors import InputError, UsageError
from diffc_jax.metrics.psnr import mse, psnr_from_mse
from diffc_jax.plotting import style
from diffc_jax.plotting.html_page import data_uri, file_uri
from diffc_jax.plotting.picture_page import (
    Method,
    Picture,
    Version,
    is_picture_page,
    write_picture_page,
)
from diffc_jax.runtime.disk import check_writable
from diffc_jax.runtime.files import as_json, local_path
from diffc_jax.runtime.progress import Progress

_DECODER = "flow"
_OUR_COLOR = DECODERS[_DECODER].color
# Sizes at which a picture is shown.
_SIZES = 6
# What WebP can hold.
_LONGEST_SIDE = 16_383
# Of all pictures together: a page of more than some 300 MB is too much for browsers.
_MOST_PIXELS_SHOWN = 25_000_000
# Original and decoded pictures, lossless, as text (photographs of scikit-image).
_PAGE_BYTES_A_PIXEL = 10


class _Rival(NamedTuple):
    """A codec to compare with: names for `select_codecs`, type of its files, and colour on the page."""

    codecs: tuple[str, ...]
    mime: str
    color: str


_RIVALS: Mapping[str, _Rival] = {
    "JPEG": _Rival(("jpeg",), "image/jpeg", style.CODECS["jpeg", "4:4:4"][1]),
    "WebP": _Rival(("webp",), "image/webp", style.CODECS["webp", None][1]),
    "AVIF": _Rival(("avif",), "image/avif", style.CODECS["avif", None][1]),
}


@dataclasses.dataclass(frozen=True)
class PictureReport:
    """A page that can be written once the pictures are coded.

    Attributes:
        path: of the page.
        pairs: pictures with the `.diffc` files that they become.
        n_pixels: of all pictures together.
        max_pixels: of one picture, as for `read_image`.
    """

    path: pathlib.Path
    pairs: Sequence[tuple[pathlib.Path, pathlib.Path]]
    n_pixels: int
    max_pixels: int

    @property
    def description(self) -> str:
        """What would be done, in one line."""
        n = len(self.pairs)
        return (
            f"{self.path}: {'1 picture' if n == 1 else f'{n} pictures'} at up to {_SIZES} sizes each, beside "
            f"{', '.join(_RIVALS)}; about {max(_PAGE_BYTES_A_PIXEL * self.n_pixels / 1e6, 0.1):.1f} MB"
        )

    def write(self, model: str | os.PathLike[str] | None, batch_size: int) -> None:
        """Decodes the files at rising sizes, encodes the pictures with the other codecs and writes the page.

        Raises:
            InputError: a file cannot be read or written.
        """
        codec = load_codec(model, batch_size)
        files = [made.read_bytes() for _, made in self.pairs]
        sizes = [rising_sizes(data) for data in files]
        n_versions = (1 + len(_RIVALS)) * sum(map(len, sizes))
        advance = Progress("report", n_versions, "versions").advance
        pictures = []
        for (source, _), data, some in zip(self.pairs, files, sizes, strict=True):
            image = read_image(source, max_pixels=self.max_pixels)
            methods, without = _methods(codec, image, data, some, advance)
            pictures.append(Picture(as_json(source.name), image, some, methods, without))
        write_picture_page(self.path, pictures, _settings(codec))
        logging.info("%s: %.1f MB", self.path, self.path.stat().st_size / 1e6)


def plan_report(
    path: str, inputs: Sequence[str], output: str, *, max_pixels: int = MOST_PIXELS
) -> PictureReport:
    """Checks, before anything is coded, what a report needs.

    Args:
        path: of the page, which ends in .html; an older page of this kind is replaced.
        inputs: as for `compress`, and so are the others.
        output: where the coded files go.
        max_pixels: of one picture.

    Raises:
        UsageError: a name that does not fit, or pictures that are too large for a page.
        InputError: a picture cannot be read, or the page cannot be written.
    """
    page = local_path(path)
    if page.suffix.lower() != ".html":
        raise UsageError("the name must end in .html", field=f"--report {path}")
    check_writable(page)
    if page.exists() and not is_picture_page(page):
        raise InputError(
            f"--report {path}: exists and is no such report; choose another name or delete it"
        )
    pairs = pair_files(inputs, output, ".diffc", is_image_name)
    n_pixels = 0
    for source, _ in pairs:
        height, width, _ = read_image(source, max_pixels=max_pixels).shape
        if max(width, height) > _LONGEST_SIDE:
            raise UsageError(
                f"shows pictures of up to {_LONGEST_SIDE} pixels on a side, and {source} has "
                f"{width}x{height}; scale it down",
                field="--report",
            )
        n_pixels += height * width
    if n_pixels > _MOST_PIXELS_SHOWN:
        raise UsageError(
            f"shows up to {_MOST_PIXELS_SHOWN} pixels in all, and the pictures have {n_pixels}; take "
            "fewer or smaller ones",
            field="--report",
        )
    return PictureReport(page, pairs, n_pixels, max_pixels)


def rising_sizes(data: bytes) -> list[int]:
    """Bytes of up to six beginnings of a stream that decode, from the shortest to all of it."""
    stream = parse(data)
    ends = [cut.n_bytes for cut in stream.cuts if cut.n_bytes >= stream.least.n_bytes]
    wanted = np.geomspace(ends[0], ends[-1], _SIZES).round()
    return sorted({max(end for end in ends if end <= most) for most in wanted})


def _methods(
    codec: Codec,
    image: UInt8[np.ndarray, "h w c"],
    data: bytes,
    sizes: Sequence[int],
    advance: Callable[[], None],
) -> tuple[list[Method], list[str]]:
    """Our method and the others, and why one is missing; `advance` is called after each version."""
    versions = []
    for n_bytes in sizes:
        versions.append(_decode(codec, image, data, n_bytes))
        advance()
    methods, without = [Method(style.files_label(_DECODER), _OUR_COLOR, versions)], []
    rgb = np.repeat(image, 3 // image.shape[2], axis=2)
    for label, rival in _RIVALS.items():
        try:
            codecs = select_codecs(rival.codecs)
        except InputError as error:
            without.append(str(error).partition(", or leave")[0])
            logging.warning("the report is without %s: %s", label, without[-1])
            continue
        if image.shape[2] == 1:
            codecs = {name: for_grey(codec) for name, codec in codecs.items()}
        ladders = {codec.model: Ladder(codec, rgb) for codec in codecs.values()}
        versions = []
        for size in sizes:
            versions.append(_best(ladders, size, rival.mime))
            advance()
        methods.append(Method(label, rival.color, versions))
    return methods, without


def _decode(codec: Codec, image: UInt8[np.ndarray, "h w c"], data: bytes, n_bytes: int) -> Version:
    height, width, channels = image.shape
    # Half a byte more, so that rounding does not leave a packet out.
    bpp = (8 * n_bytes + 4) / (height * width)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decoded = codec.decode(data, _DECODER, bpp=bpp, max_pixels=height * width)
    for warning in caught:
        logging.warning("report: %s", warning.message)
    decibels = float(psnr_from_mse(mse(image[np.newaxis], decoded[np.newaxis]))[0])
    return Version(data_uri(decoded[:, :, 0] if channels == 1 else decoded), n_bytes, decibels)


def _best(ladders: Mapping[str | None, Ladder], size: int, mime: str) -> Version:
    """The best file that is not larger, among the variants of a codec, or else the smallest."""
    files = [(ladder.at_most(size), variant) for variant, ladder in ladders.items()]
    fitting = [file for file in files if len(file[0].data) <= size]
    coded, variant = (
        max(fitting, key=lambda file: file[0].psnr)
        if fitting
        else min(files, key=lambda file: len(file[0].data))
    )
    label = variant if variant and len(ladders) > 1 else ""
    return Version(file_uri(coded.data, mime), len(coded.data), coded.psnr, label)


def _settings(model: Codec) -> dict[str, str]:
    """How each method was run, by its name."""
    ours = style.files_label(_DECODER)
    fingerprint = model.programs.fingerprint.hex()
    texts = {ours: f"beginnings of the .diffc file, decoder {_DECODER}, model {fingerprint}"}
    for label, rival in _RIVALS.items():
        with contextlib.suppress(InputError):
            codecs = select_codecs(rival.codecs)
            versions = ", ".join(dict.fromkeys(codec.version() for codec in codecs.values()))
            better = " and ".join(codec.model or "" for codec in codecs.values())
            variants = f"; the better of {better}" if len(codecs) > 1 else ""
            texts[label] = f"{versions}, with the settings of baselines.py{variants}"
    return texts
