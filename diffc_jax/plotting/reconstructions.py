"""The reconstructed images that an evaluation leaves behind, with the rate and PSNR of each."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from diffc_jax.errors import InputError
from diffc_jax.evaluation.result_files import (
    BASELINE_RECONSTRUCTIONS,
    CODEC_RECONSTRUCTIONS,
    PER_IMAGE,
    RECONSTRUCTIONS,
)
from diffc_jax.evaluation.results import read_table
from diffc_jax.runtime.array_files import ArrayFile, open_arrays
from diffc_jax.runtime.files import AnyPath, as_path

_SHARED = ("index", "original", "gammas")
# label(workdir, method, model): what tells these results from those of other workdirs.
Label = Callable[[AnyPath, str, str | None], str | None]
_GAMMA_TOLERANCE = 1e-4  # float32 in one file, float64 in the other


@dataclasses.dataclass(frozen=True)
class DecodedImages:
    """What one decoder or codec made of a few images, at several rates.

    Attributes:
        method: as in `results.RatePoint`: diffc, diffc_codec, jpeg, ...
        model: denoiser, or variant of the codec.
        decoder: decoder of DiffC; None for other codecs.
        levels: gamma (negative log signal-to-noise ratio) of DiffC, quality setting of a codec.
        images: reconstructions.
        bpp: achievable rate of each image, bits per pixel.
        psnr: PSNR of each image in dB; infinite where it is exact.
        run: what tells it from the same method in other workdirs, if it is in others too.
    """

    method: str
    model: str | None
    decoder: str | None
    levels: Float[np.ndarray, " q"]
    images: UInt8[np.ndarray, "n q h w 3"]
    bpp: Float[np.ndarray, "n q"]
    psnr: Float[np.ndarray, "n q"]
    run: str | None = None


@dataclasses.dataclass(frozen=True)
class Reconstructions:
    """The same images after several methods.

    Attributes:
        index: position of each image in its split.
        originals: the images.
        series: one for each method, model and decoder.
    """

    index: Int[np.ndarray, " n"]
    originals: UInt8[np.ndarray, "n h w 3"]
    series: tuple[DecodedImages, ...]


def collect_reconstructions(
    workdirs: Iterable[str | os.PathLike[str]], label: Label = lambda *_: None
) -> list[Reconstructions]:
    """Reads the images in `eval/` of every workdir; those without any are skipped.

    `label(workdir, method, model)` gives `DecodedImages.run`.

    Returns:
        One `Reconstructions` for each set of images: what shows the same images (same index, same
        pixels) is joined and cut down to the images in common.

    Raises:
        InputError: a broken file.
    """
    found: list[Reconstructions] = []
    for workdir in map(as_path, workdirs):
        folder = workdir / "eval"
        own = [load_sweep(folder)] if (folder / RECONSTRUCTIONS).is_file() else []
        paths = (folder / name for name in (CODEC_RECONSTRUCTIONS, BASELINE_RECONSTRUCTIONS))
        own += [load_files(path) for path in paths if path.is_file()]
        found += [_labelled(one, functools.partial(label, workdir)) for one in own]
    joined: list[Reconstructions] = []
    for new in found:
        for position, old in enumerate(joined):
            common = _common(old, new)
            if len(common):
                joined[position] = Reconstructions(
                    common,
                    old.originals[_positions(old.index, common)],
                    _only(old, common) + _only(new, common),
                )
                break
        else:
            joined.append(new)
    return joined


def _labelled(
    found: Reconstructions, label: Callable[[str, str | None], str | None]
) -> Reconstructions:
    series = (dataclasses.replace(s, run=label(s.method, s.model)) for s in found.series)
    return dataclasses.replace(found, series=tuple(series))


def load_sweep(folder: str | os.PathLike[str]) -> Reconstructions:
    """Reads `reconstructions.npz` of the sweep and its numbers in `per_image.csv`, both in W/eval.

    Raises:
        InputError: a missing or broken file, or images without rows in the table.
    """
    folder = as_path(folder)
    with open_arrays(folder / RECONSTRUCTIONS) as arrays:
        index, originals = _images(arrays)
        gammas = _levels(arrays, "gammas", np.floating)
        decoders = [name for name in arrays.names if name not in _SHARED]
        if not decoders:
            raise arrays.refuse("holds no reconstructions")
        shape = (len(index), len(gammas), *originals.shape[1:])
        images = {name: arrays.read(name, shape, np.uint8) for name in decoders}
    model, bits, psnr = _numbers_of_sweep(folder / PER_IMAGE, index, gammas, decoders)
    n_pixels = originals.shape[1] * originals.shape[2]
    return Reconstructions(
        index,
        originals,
        tuple(
            DecodedImages(
                "diffc", model, name, gammas, images[name], bits[name] / n_pixels, psnr[name]
            )
            for name in decoders
        ),
    )


def load_files(path: str | os.PathLike[str]) -> Reconstructions:
    """Reads `reconstructions_codec.npz` or `reconstructions_baselines.npz`.

    Raises:
        InputError: a missing or broken file.
    """
    with open_arrays(as_path(path)) as arrays:
        index, originals = _images(arrays)
        names = dict.fromkeys(one.rpartition("/")[0] for one in arrays.names if one not in _SHARED)
        if not names:
            raise arrays.refuse("holds no reconstructions")
        series = tuple(
            _read_series(arrays, name, (len(index), *originals.shape[1:])) for name in names
        )
    return Reconstructions(index, originals, series)


def _read_series(arrays: ArrayFile, name: str, originals: tuple[int, ...]) -> DecodedImages:
    """One codec's images in a file; `originals` is the shape of what they are of."""
    levels, decoder = _levels(arrays, f"{name}/level", np.number), f"{name}/decoder"
    shape = (originals[0], len(levels))
    return DecodedImages(
        method=_text(arrays, f"{name}/method"),
        model=_text(arrays, f"{name}/model") or None,
        decoder=_text(arrays, decoder) if decoder in arrays.names else None,
        levels=levels,
        images=arrays.read(f"{name}/images", (*shape, *originals[1:]), np.uint8),
        bpp=arrays.read(f"{name}/bpp", shape, np.floating).astype(np.float64),
        psnr=arrays.read(f"{name}/psnr", shape, np.floating).astype(np.float64),
    )


def _numbers_of_sweep(
    path: AnyPath,
    index: Int[np.ndarray, " n"],
    gammas: Float[np.ndarray, " q"],
    decoders: Sequence[str],
) -> tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(model, bits and PSNR of each image); the latter two are (n, q) by decoder."""
    bits = {name: np.full((len(index), len(gammas)), np.nan) for name in decoders}
    psnr = {name: array.copy() for name, array in bits.items()}
    rows = {int(i): row for row, i in enumerate(index)}
    model = ""
    for line in read_table(
        path,
        numbers=("gamma", "bits_bound", "psnr"),
        integers=("index",),
        texts=("model", "decoder"),
    ):
        row = rows.get(line["index"])
        if row is None or line["decoder"] not in bits:
            continue
        level = int(np.abs(gammas - line["gamma"]).argmin())
        if abs(gammas[level] - line["gamma"]) < _GAMMA_TOLERANCE:
            model = line["model"]
            bits[line["decoder"]][row, level] = line["bits_bound"]
            psnr[line["decoder"]][row, level] = line["psnr"]
    for name in decoders:
        for row, level in np.argwhere(np.isnan(bits[name]) | np.isnan(psnr[name])):
            raise InputError(
                f"{path}: has no row for image {index[row]}, decoder {name!r}, "
                f"gamma {gammas[level]:g}, which {RECONSTRUCTIONS} shows"
            )
    return model, bits, psnr


def _images(arrays: ArrayFile) -> tuple[Int[np.ndarray, " n"], UInt8[np.ndarray, "n h w 3"]]:
    index = arrays.read("index", (None,), np.integer)
    originals = arrays.read("original", (len(index), None, None, 3), np.uint8)
    if not len(index) or len(np.unique(index)) < len(index):
        raise arrays.refuse(f"index is {index.tolist()[:10]}, not at least one image, each once")
    if not originals.size:
        raise arrays.refuse("'original' has no pixels")
    return index, originals


def _levels(arrays: ArrayFile, name: str, kind: Any) -> Float[np.ndarray, " q"]:
    levels = arrays.read(name, (None,), kind)
    if not len(levels) or np.iscomplexobj(levels) or not np.isfinite(levels).all():
        raise arrays.refuse(f"{name!r} holds no finite numbers, at least one")
    return levels.astype(np.float64)


def _text(arrays: ArrayFile, name: str) -> str:
    return str(arrays.read(name, (), np.str_))


def _common(a: Reconstructions, b: Reconstructions) -> Int[np.ndarray, " n"]:
    """Indices of the images that both show; none if the pixels of one differ."""
    common = a.index[np.isin(a.index, b.index)]
    same = a.originals.shape[1:] == b.originals.shape[1:] and np.array_equal(
        a.originals[_positions(a.index, common)], b.originals[_positions(b.index, common)]
    )
    return common if same else common[:0]


def _positions(
    index: Int[np.ndarray, " n"], wanted: Int[np.ndarray, " m"]
) -> Int[np.ndarray, " m"]:
    rows = {int(i): row for row, i in enumerate(index)}
    return np.array([rows[int(i)] for i in wanted], np.intp)


def _only(
    reconstructions: Reconstructions, common: Int[np.ndarray, " m"]
) -> tuple[DecodedImages, ...]:
    rows = _positions(reconstructions.index, common)
    return tuple(
        dataclasses.replace(
            decoded,
            images=decoded.images[rows],
            bpp=decoded.bpp[rows],
            psnr=decoded.psnr[rows],
        )
        for decoded in reconstructions.series
    )
