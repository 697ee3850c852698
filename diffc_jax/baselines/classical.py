"""Classical codecs as baselines: rates of whole files with every byte counted."""

import functools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from diffc_jax.baselines.codecs import CODECS, Codec, Quality, select_codecs
from diffc_jax.baselines.method import Baseline, Coded, Images
from diffc_jax.errors import UsageError


class ClassicalBaseline(Baseline):
    """A codec of `CODECS` at one quality."""

    params = None

    def __init__(self, name: str, codec: Codec, quality: Quality, pool: Executor):
        """`name` is that of the codec in `CODECS`; images are encoded and decoded in parallel, by `pool`."""
        self.curve = name
        self.identity = {"method": codec.method, "model": codec.model, "level": float(quality)}
        self._codec, self._quality, self._pool = codec, quality, pool

    def made_by(self) -> dict[str, Any]:
        """See `Baseline`; another version of an encoder may write other files."""
        return {"codec": self._codec.version(), **self.identity, **self._codec.settings}

    def code(
        self, images: Images, indices: Int[np.ndarray, " b"], on_files: Callable[[int], None]
    ) -> Coded:
        """See `Baseline`."""
        encode = functools.partial(_encode, codec=self._codec, quality=self._quality)
        files, decoded = [], np.empty_like(images)
        for file in self._pool.map(encode, images, indices.tolist()):
            files.append(file)
            on_files(1)
        for row, image in enumerate(self._pool.map(self._codec.decode, files)):
            decoded[row] = image
        return Coded(np.array([(len(file), self._codec.payload(file)) for file in files]), decoded)


def classical_baselines(
    codecs: Sequence[str],
    pool: Executor,
    qualities: Mapping[str, Sequence[Quality]] | None = None,
) -> list[Baseline]:
    """Codecs one after the other, in order of rate.

    Args:
        codecs: names from `CODECS`, or methods.
        pool: what encodes and decodes.
        qualities: ladders that replace the default ones, by name from `CODECS`.

    Raises:
        UsageError: unknown codec, or a quality that its encoder does not take.
        InputError: an encoder that is not installed.
    """
    selected = select_codecs(codecs)
    ladders = _ladders(selected, qualities or {})
    return [
        ClassicalBaseline(name, codec, quality, pool)
        for name, codec in selected.items()
        for quality in ladders[name]
    ]


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
