"""The lossless last mile: 8-bit pixels, given an estimate of them that two machines know almost equally.

The estimate is rounded, and what is then missing goes through constriction's range coder with an
integer table: the mass that a Gaussian error leaves in each unit interval (the discretised likelihood of
Ho et al. 2020, averaged over the place of the estimate between two whole numbers). The
coder's tables depend on transmitted numbers only, so a payload can be read whatever the estimate; an
estimate that drifts between machines could only change an image where it is next to a rounding boundary.
Two things prevent that: all estimates are shifted by one of sixteen offsets, the one that keeps most of them
away from boundaries, and pixels that are still too near to one are sent as they are.

The average over that place costs something where the error is below a pixel. Bits for each value, whole
payloads of 64x64 tiles with Gaussian errors and a tolerance of 2^-10, beside the discretised likelihood that
knows the place (`tests/codec/test_residual.py` measures both):

    error (pixels)   0.25   0.35   0.5    0.7    1      1.4    2      2.8    4
    ideal            0.173  0.545  1.041  1.534  2.048  2.533  3.047  3.533  4.046
    payload          0.326  0.793  1.262  1.671  2.129  2.588  3.087  3.564  4.073

That is 4 % above ideal at an error of one pixel, 1 % from two pixels on, and little in absolute terms where
the error is so small that most values round to the truth. 0.02 of these bits are the pixels sent as they are,
four times as many at 2^-8; at an error of 0.17, where chains end, it is 0.032 against 0.035 bits altogether.
"""

import functools
import math
import zlib
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.special import ndtr

from diffc_jax.codec.framing import decode_varint, encode_varint
from diffc_jax.codec.stream import Residual
from diffc_jax.diffusion import process
from diffc_jax.errors import InputError
from diffc_jax.runtime.optional import require

# Drift of an estimate, in pixel units, that cannot change an image unless the encoder asks for another. One
# network at two batch sizes differed by up to 2.3e-3 at the end of a chain.
TOLERANCE = 2.0**-8

N_SCALES = 64
N_OFFSETS = 16

_OFFSET_UNIT = 2.0**-8
_TOTAL_BITS = 24
# Symbol 0 is a pixel sent as it is, symbol 256 + r a residual of r in -255..255.
_LITERAL, _ZERO, _N_SYMBOLS = 0, 256, 512


def scale(index: int) -> float:
    """Standard deviation of the error in pixel units, in sixths of octaves: 0.09 to 128 for 0 to 63."""
    return 2.0 ** ((index - 21) / 6)


def residual_of(
    pixels: UInt8[np.ndarray, "h w c"], z: Float[np.ndarray, "h w c"], snr: float
) -> Residual:
    """What makes latents the exact pixels, with their checksum."""
    payload, _ = encode_residual(pixels, pixel_estimate(z, snr))
    return Residual(payload, zlib.crc32(pixels.tobytes()))


def exact_pixels(
    residual: Residual, z: Float[np.ndarray, "h w c"], snr: float | np.floating
) -> UInt8[np.ndarray, "h w c"]:
    """The pixels that `residual_of` had.

    Raises:
        InputError: a damaged residual, or latents that are not the sender's.
    """
    pixels = decode_residual(residual.payload, pixel_estimate(z, snr))
    if zlib.crc32(pixels.tobytes()) != residual.crc:
        raise InputError("its pixels do not fit their checksum")
    return pixels


def encode_residual(
    pixels: UInt8[np.ndarray, "h w c"],
    estimate: Float[np.ndarray, "h w c"],
    tolerance: float = TOLERANCE,
) -> tuple[bytes, float]:
    """Codes what makes an estimate the exact pixels.

    Args:
        pixels: the truth.
        estimate: of the pixels in their units, not rounded. A bad one costs bits, nothing else; values that
            are not finite are allowed.
        tolerance: drift of the estimate that the payload must withstand, in pixel units. The number of
            values that are sent as they are is proportional to it: about one in 150 at the default.

    Returns:
        The payload, and the drift that it withstands: at least `tolerance`.
    """
    shifted = [_shift(estimate, i) for i in range(N_OFFSETS)]
    distances = [_distances_to_boundary(values) for values in shifted]
    offset_index = min(
        range(N_OFFSETS), key=lambda i: (np.count_nonzero(distances[i] < tolerance), i)
    )
    literal = distances[offset_index] < tolerance
    residuals = pixels.astype(np.int32) - _round(shifted[offset_index])
    symbols = np.where(literal, _LITERAL, _ZERO + residuals).ravel().astype(np.int32)
    literals = pixels[literal].tobytes()

    tables = np.stack([_table(i, len(literals), pixels.size) for i in range(N_SCALES)])
    counts = np.bincount(symbols, minlength=_N_SYMBOLS)
    scale_index = int(np.argmax(np.log2(tables) @ counts))
    coder = require("constriction").stream.queue.RangeEncoder()
    coder.encode(symbols, _entropy_model(tables[scale_index]))
    words = coder.get_compressed().astype(">u4").tobytes()

    head = bytes((scale_index, offset_index)) + encode_varint(len(literals))
    margin = np.min(distances[offset_index], where=~literal, initial=math.inf)
    return head + literals + words, float(margin)


def decode_residual(
    payload: bytes, estimate: Float[np.ndarray, "h w c"]
) -> UInt8[np.ndarray, "h w c"]:
    """The pixels, from the encoder's estimate or one within the payload's margin of it.

    With any other estimate the pixels come out wrong; the CRC-32 in the container is there to notice.

    Raises:
        InputError: the payload is not one that `encode_residual` makes for this number of pixels.
    """
    damaged = InputError("the lossless residual is damaged")
    try:
        n_literals, start = decode_varint(payload, 2)
    except (EOFError, ValueError):
        raise damaged from None
    scale_index, offset_index = payload[:2]
    end = start + n_literals
    if (
        scale_index >= N_SCALES
        or offset_index >= N_OFFSETS
        or n_literals > estimate.size
        or end > len(payload)
        or (len(payload) - end) % 4
    ):
        raise damaged
    words = np.frombuffer(payload[end:], ">u4")
    coder = require("constriction").stream.queue.RangeDecoder(words.astype(np.uint32))
    model = _entropy_model(_table(scale_index, n_literals, estimate.size))
    try:
        symbols = coder.decode(model, estimate.size).reshape(estimate.shape)
    except AssertionError:  # What constriction raises for impossible words.
        raise damaged from None
    literal = symbols == _LITERAL
    if np.count_nonzero(literal) != n_literals or not coder.maybe_exhausted():
        raise damaged
    pixels = np.clip(_round(_shift(estimate, offset_index)) + symbols - _ZERO, 0, 255)
    pixels[literal] = np.frombuffer(payload[start:end], np.uint8)
    return pixels.astype(np.uint8)


def pixel_estimate(
    z: Float[np.ndarray, "h w c"], snr: float | np.floating
) -> Float[np.ndarray, "h w c"]:
    """Latents over alpha in units of pixel values, not rounded."""
    x = z.astype(np.float64) * np.sqrt((1 + snr) / snr)
    return (x + 1) * (process.LEVELS / 2) - 0.5


def _shift(estimate: Float[np.ndarray, "h w c"], index: int) -> Float[np.ndarray, "h w c"]:
    return estimate.astype(np.float64) + (index - N_OFFSETS // 2) * _OFFSET_UNIT


def _round(estimate: Float[np.ndarray, "h w c"]) -> Int[np.ndarray, "h w c"]:
    """To 0..255, halves up; what is not a number counts as 0."""
    return np.clip(np.floor(np.nan_to_num(estimate) + 0.5), 0, 255).astype(np.int32)


def _distances_to_boundary(estimate: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """From 0.5, 1.5, ... or 254.5, whichever is nearest; 0 for what is not a number."""
    boundary = np.clip(np.floor(estimate), 0, 254) + 0.5
    return np.nan_to_num(np.abs(estimate - boundary), nan=0, posinf=math.inf)


@functools.cache
def _masses() -> Int[np.ndarray, "64 511"]:
    """Mass of a Gaussian around each of -255..255 for each scale, in units of 2^-24, rounded down."""
    scales = np.array([scale(i) for i in range(N_SCALES)])[:, np.newaxis]
    distance = np.abs(np.arange(-255, 256))
    mass = ndtr((0.5 - distance) / scales) - ndtr((-0.5 - distance) / scales)
    mass /= mass.sum(axis=1, keepdims=True)
    return np.floor(np.ldexp(mass, _TOTAL_BITS)).astype(np.int64)


def _table(scale_index: int, n_literals: int, n_values: int) -> Int[np.ndarray, " 512"]:
    """Frequencies of the symbols: at least 1 each, 2^24 together; what rounding leaves goes to r = 0."""
    available = (1 << _TOTAL_BITS) - _N_SYMBOLS
    of_literals = available * n_literals // n_values
    of_residuals = (available - of_literals) * _masses()[scale_index] >> _TOTAL_BITS
    table = 1 + np.concatenate([[of_literals], of_residuals])
    table[_ZERO] += (1 << _TOTAL_BITS) - table.sum()
    return table


def _entropy_model(table: Int[np.ndarray, " 512"]) -> Any:
    """With exactly these frequencies: constriction adds 1 to each and scales the rest, here by 1."""
    model = require("constriction").stream.model
    return model.Categorical((table - 1).astype(np.float64), perfect=False)
