"""Searches the settings of the classical codecs for the highest PSNR at equal rate of whole files.

    python benchmarks/codec_settings.py --codecs=jpeg,jpeg2000 --output=settings.csv

Each alternative changes one setting, or a few that belong together, of those in
diffc_jax/baselines/codecs.py. Its curve is compared with theirs on training crops of the built-in
photographs, so that nothing is chosen on an evaluated image. A BD-PSNR above 0 means a better setting; less
than 0.05 dB counts as a tie, and the simpler setting stays. Most options of AVIF are compared at speed 6,
which takes a thirtieth of the time.

Curves go through the qualities of the default ladder and those halfway between them; points that another one
beats at no more bits are left out. PSNR is that of the mean squared error of all crops. BD-PSNR and BD-rate
(diffc_jax/plotting/bd_rate.py) are those at 0.1 to 5 bpp and at all PSNR that both curves reach.
"""

import csv
import dataclasses
import itertools
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from absl import flags
from jaxtyping import UInt8
from shared import photographs

from diffc_jax import cli
from diffc_jax.baselines.codecs import Codec, Quality, select_codecs
from diffc_jax.metrics import psnr
from diffc_jax.plotting.bd_rate import Curve, bjontegaard_delta
from diffc_jax.runtime.files import atomic_write

Changes = Mapping[str, Any]

_SIDE = 64
_LIMITS = 0.1, 5.0  # bits per pixel
_RATES = 0.5, 1.0, 2.0, 3.0, 5.0
_COLUMNS = (
    *("codec", "setting", "reference", "bd_psnr_db", "bd_rate_percent"),
    *(f"gain_db_at_{rate:g}_bpp" for rate in _RATES),
    *("header_bytes", "milliseconds", "n_images", "version"),
)

_CODECS = flags.DEFINE_list(
    "codecs",
    ["jpeg", "webp", "jpeg2000", "avif", "jpegxl", "hevc"],
    "Codecs, separated by commas.",
)
_IMAGES = flags.DEFINE_integer("images", 16, "Training crops of 64x64 pixels.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "CSV file for the rows of the table.")


class Search(NamedTuple):
    """Alternatives to a codec's settings, all with the changes of `reference`."""

    codec: str
    alternatives: Mapping[str, Changes]
    reference: Changes = types.MappingProxyType({})


def one_at_a_time(settings: Mapping[str, Sequence[Any]]) -> dict[str, Changes]:
    """Alternatives that differ in one setting each, by their names."""
    return {
        f"{name}={value}": {name: value} for name, values in settings.items() for value in values
    }


def table(first: float, last: float) -> list[int]:
    """Quantiser steps of JPEG that rise linearly with frequency."""
    return [round(first + (last - first) * (i + j) / 14) for i, j in np.ndindex(8, 8)]


SEARCHES = (
    Search(
        "jpeg",
        {
            "tables for the eye": {"qtables": None},
            "tables for the eye, progressive": {"qtables": None, "progressive": True},
            "tables for the eye, fixed Huffman codes": {"qtables": None, "optimize": False},
            "two tables, chroma in double steps": {"qtables": (table(12, 20), table(24, 40))},
            "one table of equal steps": {"qtables": (table(16, 16),)},
            "one table from 10 to 22": {"qtables": (table(10, 22),)},
            "one table from 8 to 24": {"qtables": (table(8, 24),)},
        }
        | one_at_a_time({"progressive": [True], "optimize": [False], "smooth": [5, 10]}),
    ),
    Search(
        "webp",
        {
            f"Pillow, method={method}": {"preset": "none", "compression_level": method}
            for method in range(7)
        }
        | one_at_a_time({"preset": ["picture", "photo", "drawing", "text"]}),
    ),
    Search(
        "jpeg2000",
        one_at_a_time(
            {
                "num_resolutions": [1, 2, 3, 5, 6, 7],
                "codeblock_size": [(8, 8), (16, 16), (32, 32), (16, 64)],
                "precinct_size": [(64, 64)],
                "progression": ["RLCP", "RPCL", "PCRL", "CPRL"],
                "irreversible": [False],
                "mct": [0],
            }
        ),
    ),
    Search("avif", one_at_a_time({"speed": [1, 2, 3, 4, 6], "tune-content": ["screen"]})),
    Search(
        "avif",
        one_at_a_time(
            {
                "subsampling": ["4:2:0", "4:2:2"],
                "tune": ["ssim", "iq"],
                "sharpness": [3],
                "enable-qm": [1],
                "enable-chroma-deltaq": [1],
                "enable-palette": [0],
                "enable-cfl-intra": [0],
                "enable-intra-edge-filter": [0],
                "deltaq-mode": [0, 3],
                "aq-mode": [0, 1],
                "quant-b-adapt": [1],
                "disable-trellis-quant": [1, 2],
                "loopfilter-control": [0],
                "cdf-update-mode": [0],
            }
        ),
        {"speed": 6},
    ),
    Search(
        "jpegxl",
        one_at_a_time({"effort": [1, 2, 3, 4, 5, 6, 8, 9, 10], "decodingspeed": [1, 2, 3, 4]}),
    ),
    Search(
        "hevc",
        one_at_a_time(
            {
                "preset": ["ultrafast", "medium", "slower", "veryslow", "placebo"],
                "matrix": ["bt709", "smpte170m"],
                "aq_mode": [1, 2],
                "psy_rd": [2],
                "psy_rdoq": [1],
                "rd": [5, 6],
                "rdoq_level": [0, 1],
                "tskip": [1],
                "sao": [0],
                "deblock": ["-1,-1", "1,1"],
                "ctu": [16, 32],
                "tu_intra_depth": [4],
                "signhide": [0],
                "strong_intra_smoothing": [0],
                "scaling_list": ["default"],
                "cbqpoffs": [-2, -1, 1, 2],
                "crqpoffs": [-2, -1, 1, 2],
            }
        ),
    ),
)


class Measured(NamedTuple):
    """A codec's curve, range of its headers in bytes, and mean time of a file."""

    curve: Curve
    headers: str
    milliseconds: float


def ladder(codec: Codec) -> list[Quality]:
    """The codec's qualities and those halfway between them, in whole numbers if it takes no others."""
    steps: list[Quality] = [codec.qualities[0]]
    for low, high in itertools.pairwise(codec.qualities):
        middle = (low + high) / 2
        steps += [int(middle) if codec.whole_qualities else middle, high]
    return list(dict.fromkeys(steps))


def measure(name: str, codec: Codec, images: UInt8[np.ndarray, "n h w 3"]) -> Measured:
    """Rates and PSNR of all images together, at every quality of `ladder`."""
    headers, points, seconds = set[int](), [], 0.0
    with ThreadPoolExecutor() as pool:
        for quality in ladder(codec):
            begin = time.perf_counter()
            files = list(pool.map(lambda image: codec.encode(image, quality), images))  # noqa: B023
            seconds += time.perf_counter() - begin
            headers |= {len(file) - codec.payload(file) for file in files}
            errors = psnr.mse(images, np.stack([codec.decode(file) for file in files]))
            bpp = 8 * sum(map(len, files)) / (len(files) * _SIDE**2)
            points.append((float(np.log(bpp)), psnr.psnr(errors)))
    rising: list[tuple[float, float]] = []
    for rate, decibels in sorted(points):
        if not rising or (rate > rising[-1][0] and decibels > rising[-1][1]):
            rising.append((rate, decibels))
    rates, values = np.array(rising).T
    count = len(points) * len(images)
    spread = "-".join(str(size) for size in sorted({min(headers), max(headers)}))
    return Measured(Curve(name, rates, values), spread, 1000 * seconds / count)


def gain_at(first: Curve, second: Curve, bpp: float) -> float | None:
    """First less second in dB at a rate; None where one of them has no points."""
    at = np.log(bpp)
    if not max(first.x[0], second.x[0]) <= at <= min(first.x[-1], second.x[-1]):
        return None
    return float(np.interp(at, first.x, first.y) - np.interp(at, second.x, second.y))


def rows(
    search: Search, name: str, codec: Codec, images: UInt8[np.ndarray, "n h w 3"]
) -> Iterator[dict[str, Any]]:
    """The row of the reference, whose gains are 0, and one for each alternative."""

    def changed(changes: Changes) -> Measured:
        settings = {**codec.settings, **search.reference, **changes}
        return measure(name, dataclasses.replace(codec, settings=settings), images)

    changes = ", ".join(f"{key}={value}" for key, value in search.reference.items())
    reference = f"in use, {changes}" if changes else "in use"
    base = changed({})
    for setting, alternative in {reference: {}, **search.alternatives}.items():
        found = changed(alternative) if alternative else base
        equal_rate = bjontegaard_delta(found.curve, base.curve, tuple(np.log(_LIMITS)))
        equal_psnr = bjontegaard_delta(found.curve.inverse, base.curve.inverse)
        gains = [gain_at(found.curve, base.curve, rate) for rate in _RATES]
        numbers = equal_rate.mean, 100 * np.expm1(equal_psnr.mean), *gains
        rounded = [None if value is None else round(float(value), 3) for value in numbers]
        found_of = found.headers, round(found.milliseconds, 1), len(images), codec.version()
        values = name, setting, reference, *rounded, *found_of
        yield dict(zip(_COLUMNS, values, strict=True))


def line(row: Mapping[str, Any]) -> str:
    """A row of the printed table."""
    gains = "".join(
        f"{'-' if gain is None else f'{gain:+.2f}':>7}"
        for gain in (row[f"gain_db_at_{rate:g}_bpp"] for rate in _RATES)
    )
    return (
        f"{row['codec']:9} {row['setting']:40} {row['bd_psnr_db']:+8.3f} "
        f"{row['bd_rate_percent']:+8.1f} {gains} {row['header_bytes']:>8} {row['milliseconds']:8.1f}"
    )


def main() -> None:
    selected = select_codecs(_CODECS.value)
    images = photographs("train", _SIDE, _IMAGES.value)
    at = "".join(f"{f'{rate:g} bpp':>7}" for rate in _RATES)
    print(f"{len(images)} training crops; gains over the settings in use\n")
    print(f"{'codec':9} {'setting':40} {'BD, dB':>8} {'BD, %':>8} {at} {'header':>8} {'ms':>8}")
    table = []
    for name, codec in selected.items():
        for search in SEARCHES:
            if search.codec in (name, codec.method):
                for row in rows(search, name, codec, images):
                    print(line(row), flush=True)
                    table.append(row)
    if _OUTPUT.value:
        with atomic_write(_OUTPUT.value) as path, path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)


if __name__ == "__main__":
    cli.run(main)
