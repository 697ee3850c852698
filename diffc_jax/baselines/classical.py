"""Measures codecs on images: rates of whole files with every byte counted, and distortions."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Shaped, UInt8

from diffc_jax.baselines.codecs import CODECS, Codec, Quality, select_codecs
from diffc_jax.baselines.encoded import EncodedFiles
from diffc_jax.baselines.points import CodecPoint
from diffc_jax.errors import InputError, UsageError
from diffc_jax.metrics import psnr
from diffc_jax.runtime.progress import Progress


def evaluate_codecs(
    images: Shaped[np.ndarray, "..."],
    dataset: str,
    split: str | None,
    *,
    codecs: Sequence[str] = tuple(CODECS),
    qualities: Mapping[str, Sequence[Quality]] | None = None,
    max_workers: int | None = None,
    kept: EncodedFiles | None = None,
) -> Iterator[CodecPoint]:
    """Encodes and decodes every image at every quality.

    Args:
        images: uint8 RGB, (n, h, w, 3).
        dataset: copied into the results.
        split: copied likewise.
        codecs: names from `CODECS`, or methods.
        qualities: ladders that replace the default ones, by name from `CODECS`.
        max_workers: threads; None is the choice of `ThreadPoolExecutor`.
        kept: where files that were made of these images before are, and where new ones go.

    Yields:
        Codecs one after the other, in order of rate.

    Raises:
        UsageError: unknown codec, or a quality that its encoder does not take.
        InputError: images of another type or shape, or an encoder that is not installed.
    """
    if images.dtype != np.uint8:
        raise InputError(f"images: dtype is {images.dtype}; codecs take uint8 RGB")
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise InputError(
            f"images: shape is {images.shape}; codecs take RGB as (n, height, width, 3)"
        )
    selected = select_codecs(codecs)
    ladders = _ladders(selected, qualities or {})
    source = {"dataset": dataset, "split": split}
    return _evaluate(images, selected, ladders, source, max_workers, kept)


def _evaluate(
    images: UInt8[np.ndarray, "n h w 3"],
    selected: Mapping[str, Codec],
    ladders: Mapping[str, Sequence[Quality]],
    source: Mapping[str, str | None],
    max_workers: int | None,
    kept: EncodedFiles | None,
) -> Iterator[CodecPoint]:
    steps = [
        (name, codec, quality) for name, codec in selected.items() for quality in ladders[name]
    ]
    n_kept = sum(kept.has(*step) for step in steps) if kept else 0
    progress = Progress("codecs", len(images) * len(steps), "files", done=len(images) * n_kept)
    with ThreadPoolExecutor(max_workers) as pool:
        for name, codec, quality in steps:
            files = kept.read(name, codec, quality) if kept else None
            if files is None:
                encode = functools.partial(_encode, codec=codec, quality=quality)
                files = []
                for data in pool.map(encode, images, range(len(images))):
                    files.append(data)
                    progress.advance()
                if kept:
                    kept.write(name, codec, quality, files)
            decoded = np.empty_like(images)
            for i, image in enumerate(pool.map(codec.decode, files)):
                decoded[i] = image
            sizes = [(len(data), codec.payload(data)) for data in files]
            identity = {"method": codec.method, "model": codec.model, "level": float(quality)}
            yield CodecPoint(
                name,
                {**identity, **source},
                range(len(images)),
                np.array(sizes, np.float64),
                psnr.mse(images, decoded),
                decoded,
            )


def _ladders(
    selected: Mapping[str, Codec], qualities: Mapping[str, Sequence[Quality]]
) -> dict[str, Sequence[Quality]]:
    for name, ladder in qualities.items():
        if name not in CODECS:
            raise UsageError(
                f"unknown codec {name!r}, not one of {', '.join(CODECS)}", field="qualities"
            )
        codec = CODECS[name]
        low, high = codec.quality_range
        if not ladder:
            raise UsageError(f"empty; the default is {codec.qualities}", field=f"qualities.{name}")
        for quality in ladder:
            whole = not codec.whole_qualities or float(quality).is_integer()
            if not (low <= quality <= high and whole):
                kind = "whole numbers" if codec.whole_qualities else "numbers"
                raise UsageError(
                    f"{quality} is not valid; "
                    f"use {kind} from {low:g} to {high:g} ({codec.quality_unit})",
                    field=f"qualities.{name}",
                )
    return {name: qualities.get(name, codec.qualities) for name, codec in selected.items()}


def _encode(
    image: UInt8[np.ndarray, "h w 3"], index: int, *, codec: Codec, quality: Quality
) -> bytes:
    return codec.encode(image, quality, index)
