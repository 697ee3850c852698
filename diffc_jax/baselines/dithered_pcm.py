"""Dithered PCM (Roberts, "Picture coding using pseudo-random noise", 1962), the earliest ancestor.

Sender and receiver share uniform noise u in [0, 1). The sender transmits k = floor(x / step + u) for
every sample x, the receiver shows (k - u + 1/2) step: x plus noise that is uniform, of width `step`
and independent of x. This is the uniform counterpart of sending x plus Gaussian noise.

The code is Roberts's: fixed length. With L levels the step is 255 / (L - 1), no sample overloads the
quantiser, and all samples of an image are the digits of one number in base L, so that the rate is
log2 L bits a sample but for rounding to whole bytes. It cannot go below one bit a sample, 3 bits per
pixel. (An entropy coder helps little there: at L = 2 the noise keeps the bits nearly random.)
"""

import functools
import struct

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from diffc_jax import rng

_SEED, _STREAM = 0, "dithered_pcm"
_HEADER = struct.Struct(">HHBI")  # height, width, levels - 1, index of the noise


def encode(image: UInt8[np.ndarray, "h w 3"], levels: int | float, index: int = 0) -> bytes:
    """Quantises to `levels` values, 2 to 256, with the noise of image number `index`."""
    levels = int(levels)
    noise = _noise(index, image.shape)
    digits = np.floor(image / _step(levels) + noise).astype(int).ravel()
    header = _HEADER.pack(*image.shape[:2], levels - 1, index)
    return header + _join(digits.tolist(), levels).to_bytes(_code_bytes(digits.size, levels), "big")


def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The image of a file that `encode` wrote; nothing else is needed."""
    height, width, highest, index = _HEADER.unpack_from(data)
    shape, levels = (height, width, 3), highest + 1
    number = int.from_bytes(data[_HEADER.size :], "big")
    digits = np.array(_split(number, levels, height * width * 3)).reshape(shape)
    values = (digits - _noise(index, shape) + 0.5) * _step(levels)
    return np.rint(values).clip(0, 255).astype(np.uint8)


def payload(data: bytes) -> int:
    """Bytes of the code. Left out: size, levels and the index of the noise, 9 bytes."""
    return len(data) - _HEADER.size


def _step(levels: int) -> float:
    return 255 / (levels - 1)


def _noise(index: int, shape: tuple[int, ...]) -> Float[np.ndarray, "h w 3"]:
    return np.asarray(_uniform(np.uint32(index), shape), np.float64)


@functools.partial(jax.jit, static_argnums=1)
def _uniform(index: Array, shape: tuple[int, ...]) -> Float[Array, "h w 3"]:
    (key,) = rng.per_index(rng.stream(_SEED, _STREAM), index[None])
    return jax.random.uniform(key, shape)


def _code_bytes(digits: int, base: int) -> int:
    return ((base**digits - 1).bit_length() + 7) // 8


def _join(digits: list[int], base: int) -> int:
    """The number with these digits, least significant first; halves join to keep products few."""
    while len(digits) > 1:
        digits += [0] * (len(digits) % 2)
        digits = [low + base * high for low, high in zip(digits[::2], digits[1::2], strict=True)]
        base *= base
    return digits[0]


def _split(number: int, base: int, count: int) -> list[int]:
    """The `count` least significant digits: the inverse of `_join`."""
    bases = [base]
    while 2 ** len(bases) < count:
        bases.append(bases[-1] ** 2)
    parts = [number]
    for divisor in reversed(bases):
        parts = [digit for part in parts for digit in reversed(divmod(part, divisor))]
    return parts[:count]
