"""The file of a classical codec that is nearest to a size, and not larger."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from diffc_jax.baselines.codecs import Codec
from diffc_jax.metrics.psnr import mse, psnr_from_mse


class CodedPicture(NamedTuple):
    """A file of a picture, and its PSNR in dB."""

    data: bytes
    psnr: float


class Ladder:
    """The files that a codec makes of one picture, at all whole qualities; each is made when it is needed."""

    def __init__(self, codec: Codec, image: UInt8[np.ndarray, "h w 3"]):
        self._codec, self._image = codec, image
        low, high = codec.quality_range
        rising = codec.qualities[0] < codec.qualities[-1]
        qualities = range(int(np.ceil(low)), int(high) + 1)
        self._qualities = qualities if rising else qualities[::-1]
        self._files: dict[int, bytes] = {}
        self._coded: dict[int, CodedPicture] = {}

    def at_most(self, n_bytes: int) -> CodedPicture:
        """The largest file found of at most `n_bytes`; if there is none, the smallest file."""
        low, high = 0, len(self._qualities)
        while low < high:  # sizes rise with the quality, but for a few bytes here and there
            middle = (low + high) // 2
            fits = len(self._file(middle)) <= n_bytes
            low, high = (middle + 1, high) if fits else (low, middle)
        sizes = {place: len(data) for place, data in self._files.items()}
        fitting = {place: size for place, size in sizes.items() if size <= n_bytes}
        if fitting:
            return self._decoded(max(fitting, key=fitting.__getitem__))
        return self._decoded(min(sizes, key=sizes.__getitem__))

    def _file(self, place: int) -> bytes:
        if place not in self._files:
            self._files[place] = self._codec.encode(self._image, self._qualities[place])
        return self._files[place]

    def _decoded(self, place: int) -> CodedPicture:
        if place not in self._coded:
            data = self._files[place]
            error = mse(self._image[np.newaxis], self._codec.decode(data)[np.newaxis])
            self._coded[place] = CodedPicture(data, float(psnr_from_mse(error)[0]))
        return self._coded[place]
