"""Entropy models of quantised latents, and the range coder that writes them as bytes.

The hyper-latent has a learned density for each channel, the latent Gaussians whose means and scales follow
from it. Either gives the mass of the unit interval around a value, so that one formula serves values with
uniform noise (a differentiable stand-in for rounding, Ballé et al. 2017) and rounded ones; the bits of a
value are -log2 of its mass. `LatentCoder` writes the symbols of one image as a file:

    byte     content
    0        format, 0xF1
    1..      height, then width in pixels, LEB128 (one byte each below 128)
    next     CRC-8 of the bytes before it and of all symbols, hyper-latent first, as little-endian int32
    rest     range coder, big-endian, without the zeros at its end

The header takes 4 bytes at 64x64. The range coder holds the hyper symbols channel by channel, then the
latent's symbols sorted by the index of their scale, each from an integer table; a symbol outside its table is
written as an escape, and the escaped values follow in the same order.

A reader has to know the tables of the hyper-latent and, once it has read that, the scale indices of the
latent: both come from networks. A machine that rounds them differently would read something else; the
checksum is there to notice, and `Hific.scale_indices` to make it unlikely.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

from diffc_jax.baselines.hific.config import LARGEST_SCALE
from diffc_jax.codec.framing import crc8, decode_varint, encode_varint
from diffc_jax.errors import InputError
from diffc_jax.runtime.optional import require

Symbols = Int[np.ndarray, "h w c"]

# Scales of the Gaussians that bytes are written with, spaced logarithmically; also bounds for training.
NUM_SCALES, SMALLEST_SCALE = 64, 0.11
# Hyper symbols from -HYPER_LARGEST to HYPER_LARGEST have a probability of their own.
HYPER_LARGEST = 255

_LEAST_MASS = 1e-9
_LOG_RANGE = math.log(LARGEST_SCALE / SMALLEST_SCALE)
_FORMAT = 0xF1
_TOTAL_BITS = 24
_TAIL_DEVIATIONS = 6.0
_LARGEST_SIDE = 1 << 14
_LARGEST_SYMBOL = (1 << 24) - 1
_ESCAPE_LENGTHS = (2 * _LARGEST_SYMBOL).bit_length()
_WORD, _WORD_BITS = np.dtype(">u4"), 32
_DAMAGED = (
    "is damaged, was written by another model, or on a machine whose networks round differently"
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def lower_bound(x: Float[Array, "*n"], bound: float) -> Float[Array, "*n"]:
    """The larger of `x` and `bound`, with a gradient that still lifts values below the bound."""
    return jnp.maximum(x, bound)


def _lower_bound_forward(x: Array, bound: float) -> tuple[Array, Bool[Array, "*n"]]:
    return jnp.maximum(x, bound), x >= bound


def _lower_bound_backward(_: float, inside: Array, gradient: Array) -> tuple[Array]:
    # A descent step moves against the gradient: a negative one lifts x.
    return (jnp.where(inside | (gradient < 0), gradient, 0.0),)


lower_bound.defvjp(_lower_bound_forward, _lower_bound_backward)


def bits(masses: Float[Array, "b *n"]) -> Float[Array, " b"]:  # noqa: F821
    """Bits of the values of each image, given their masses; a value never costs more than 30."""
    costs = -jnp.log2(lower_bound(masses, _LEAST_MASS))
    return costs.reshape(len(masses), -1).sum(axis=1)


def add_noise(x: Float[Array, "*n"], key: Key[Array, ""]) -> Float[Array, "*n"]:
    """`x` with uniform noise of the width of a quantisation step."""
    return x + jax.random.uniform(key, x.shape, x.dtype, -0.5, 0.5)


def straight_through_round(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The nearest whole number, with the gradient of the identity."""
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def gaussian_mass(distances: Float[Array, "*n"], scales: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Mass that a Gaussian has within half a unit of values.

    Args:
        distances: of the values from the mean.
        scales: standard deviations; they count as `SMALLEST_SCALE` where they are below it.
    """
    scales = lower_bound(scales, SMALLEST_SCALE)
    # In the lower tail differences keep their precision.
    distances = jnp.abs(distances)
    return ndtr((0.5 - distances) / scales) - ndtr((-0.5 - distances) / scales)


def table_scales() -> Float[np.ndarray, " 64"]:
    """The scales that bytes are written with."""
    return np.geomspace(SMALLEST_SCALE, LARGEST_SCALE, NUM_SCALES)


def scale_indices(scales: Float[Array, "*n"]) -> UInt8[Array, "*n"]:
    """Indices of the nearest of `table_scales`, in ratio."""
    octaves = jnp.log(jnp.clip(scales, SMALLEST_SCALE, LARGEST_SCALE) / SMALLEST_SCALE)
    return jnp.round(octaves * ((NUM_SCALES - 1) / _LOG_RANGE)).astype(jnp.uint8)


class _Table:
    """Frequencies of -largest to largest and of an escape, as an entropy model of constriction.

    Args:
        masses: probabilities of -largest to largest; what they leave is the escape's.
    """

    def __init__(self, masses: Float[np.ndarray, " n"]):
        self.largest = len(masses) // 2
        probabilities = np.append(masses, max(0.0, 1.0 - masses.sum()))
        free = (1 << _TOTAL_BITS) - len(probabilities)
        rest = np.floor(probabilities / probabilities.sum() * free).astype(np.int64)
        rest[np.argmax(rest)] += free - rest.sum()
        # With these numbers constriction adds 1 to each and scales by exactly 1.
        categorical = require("constriction").stream.model.Categorical
        self.model = categorical(rest.astype(np.float64), perfect=False)


# A table, and where the symbols are that it codes.
_Run = tuple[_Table, Int[np.ndarray, " n"]]


@functools.cache
def _uniform(size: int) -> Any:
    """The entropy model of numbers below `size` with equal probabilities."""
    return require("constriction").stream.model.Uniform(size)


@functools.cache
def _gaussian_table(index: int) -> _Table:
    scale = table_scales()[index]
    largest = math.ceil(_TAIL_DEVIATIONS * scale)
    distances = np.abs(np.arange(-largest, largest + 1))
    return _Table(
        scipy.special.ndtr((0.5 - distances) / scale)
        - scipy.special.ndtr((-0.5 - distances) / scale)
    )


def header_bytes(size: tuple[int, int]) -> int:
    """Bytes of a file of an image of `size`, (h, w), that hold none of its symbols."""
    return len(_head(size)) + 1


def _head(size: tuple[int, int]) -> bytes:
    return bytes([_FORMAT]) + encode_varint(size[0]) + encode_varint(size[1])


class LatentCoder:
    """Writes and reads files of one model.

    Args:
        hyper_masses: of the symbols -HYPER_LARGEST to HYPER_LARGEST in each channel of the hyper-latent.

    Raises:
        ValueError: a mass is not finite.
    """

    def __init__(self, hyper_masses: Float[np.ndarray, "c n"]):
        if not np.isfinite(hyper_masses).all():
            raise ValueError("the masses of hyper symbols are not finite")
        self._hyper_tables = [_Table(masses) for masses in hyper_masses]

    def encode(
        self,
        size: tuple[int, int],
        hyper: Int[np.ndarray, "h_ w_ c_"],
        latent: Symbols,
        scale_indices: UInt8[np.ndarray, "h w c"],
    ) -> bytes:
        """The file of one image.

        Args:
            size: of the image, (h, w) in pixels, 1 to 16384.
            hyper: symbols of the hyper-latent.
            latent: symbols of the latent.
            scale_indices: which of `table_scales` each of them has.

        Raises:
            ValueError: a side or a symbol is out of range.
        """
        if not 1 <= min(size) <= max(size) <= _LARGEST_SIDE:
            raise ValueError(f"an image of {size[0]}x{size[1]}; sides are 1 to {_LARGEST_SIDE}")
        hyper, latent = hyper.astype(np.int64), latent.astype(np.int64)
        largest = max(int(np.abs(part).max(initial=0)) for part in (hyper, latent))
        if largest > _LARGEST_SYMBOL:
            raise ValueError(f"a symbol of size {largest}; they go up to {_LARGEST_SYMBOL}")
        encoder = require("constriction").stream.queue.RangeEncoder()
        _encode(encoder, self._hyper_runs(hyper.shape), hyper.ravel())
        _encode(encoder, _latent_runs(scale_indices), latent.ravel())
        head = _head(size)
        symbols = b"".join(part.astype("<i4").tobytes() for part in (hyper, latent))
        return head + bytes([crc8(head + symbols)]) + _seal(encoder)

    def open(self, data: bytes) -> "LatentReader":
        """Reads the header of a file.

        Raises:
            InputError: it is not one; the message does not name the file.
        """
        return LatentReader(self, data)

    def _hyper_runs(self, shape: tuple[int, ...]) -> Iterator[_Run]:
        places = np.arange(math.prod(shape)).reshape(-1, shape[-1])
        return zip(self._hyper_tables, places.T, strict=True)


class LatentReader:
    """One file, read in order: `hyper`, then `latent`.

    Attributes:
        size: of the image, (h, w) in pixels.
    """

    def __init__(self, coder: LatentCoder, data: bytes):
        if data[:1] != bytes([_FORMAT]):
            raise InputError("is not a HiFiC file")
        try:
            height, start = decode_varint(data, 1)
            width, start = decode_varint(data, start)
        except (EOFError, ValueError):
            raise InputError(_DAMAGED) from None
        if not (1 <= min(height, width) <= max(height, width) <= _LARGEST_SIDE):
            raise InputError(_DAMAGED)
        self.size = (height, width)
        self._coder = coder
        self._data = data
        payload = data[start + 1 :]
        words = np.frombuffer(payload + bytes(-len(payload) % _WORD.itemsize), _WORD)
        self._decoder = require("constriction").stream.queue.RangeDecoder(words.astype(np.uint32))
        self._hyper: Symbols | None = None

    def hyper(self, shape: tuple[int, int, int]) -> Symbols:
        """Symbols of the hyper-latent, whose shape follows from the image's size and the model.

        Raises:
            InputError: the file is damaged; the message does not name it.
        """
        self._hyper = self._decode(self._coder._hyper_runs(shape), shape)
        return self._hyper

    def latent(self, scale_indices: UInt8[np.ndarray, "h w c"]) -> Symbols:
        """Symbols of the latent.

        Raises:
            InputError: the file is damaged, or this model or machine is not the writer's; the message does
                not name the file.
        """
        assert self._hyper is not None, "the hyper-latent is read first"
        latent = self._decode(_latent_runs(scale_indices), scale_indices.shape)
        # Symbols have one file. Another one that happens to be read as these symbols is refused, too.
        try:
            expected = self._coder.encode(self.size, self._hyper, latent, scale_indices)
        except ValueError:
            raise InputError(_DAMAGED) from None
        if self._data != expected:
            raise InputError(_DAMAGED)
        return latent

    def _decode(self, runs: Iterator[_Run], shape: tuple[int, ...]) -> Symbols:
        try:
            return _decode(self._decoder, runs, math.prod(shape)).reshape(shape)
        except AssertionError:  # What constriction raises for impossible words.
            raise InputError(_DAMAGED) from None


def _latent_runs(scale_indices: UInt8[np.ndarray, "h w c"]) -> Iterator[_Run]:
    flat = scale_indices.ravel()
    for index in np.unique(flat):
        yield _gaussian_table(int(index)), np.flatnonzero(flat == index)


def _encode(encoder: Any, runs: Iterator[_Run], symbols: Int[np.ndarray, " n"]) -> None:
    escaped = []
    for table, places in runs:
        values = symbols[places]
        outside = np.abs(values) > table.largest
        coded = np.where(outside, table.largest + 1, values) + table.largest
        encoder.encode(coded.astype(np.int32), table.model)
        beyond = np.abs(values[outside]) - table.largest
        escaped += (2 * beyond - (values[outside] > 0)).tolist()
    for number in escaped:
        # Elias gamma: how many digits follow the first one, and these.
        encoder.encode(number.bit_length() - 1, _uniform(_ESCAPE_LENGTHS))
        digits = [number >> shift & 1 for shift in range(number.bit_length() - 1)]
        encoder.encode(np.array(digits, np.int32), _uniform(2))


def _decode(decoder: Any, runs: Iterator[_Run], count: int) -> Int[np.ndarray, " n"]:
    symbols = np.zeros(count, np.int64)
    escaped = []
    for table, places in runs:
        values = decoder.decode(table.model, len(places)).astype(np.int64) - table.largest
        symbols[places] = values
        escaped += places[values > table.largest].tolist()
    for place in escaped:
        length = int(decoder.decode(_uniform(_ESCAPE_LENGTHS)))
        digits = decoder.decode(_uniform(2), length).tolist()
        number = sum(digit << shift for shift, digit in enumerate([*digits, 1]))
        # An escaped symbol stands as the first one above its table.
        beyond = symbols[place] + (number - 1) // 2
        symbols[place] = -beyond if number % 2 == 0 else beyond
    return symbols


def _seal(encoder: Any) -> bytes:
    """The shortest bytes that decode to what was encoded, if zeros follow them.

    The encoder's state is an interval of numbers that all decode alike, and constriction writes the least one
    that has a whole number of words. The roundest one of the interval saves 1.5 bytes in the mean.
    """
    words = encoder.get_compressed()
    position, (lower, span) = encoder.pos()
    number = int.from_bytes(words.astype(_WORD).tobytes(), "big")
    if len(words) == position + 1:
        ahead = (lower + span - (number << _WORD_BITS)) % (1 << 2 * _WORD_BITS)
        room = (ahead >> _WORD_BITS) - 1
        for zeros in (24, 16, 8):
            rounded = -(-number >> zeros) << zeros
            if rounded - number <= room:
                number = rounded
                break
    return number.to_bytes(len(words) * _WORD.itemsize, "big").rstrip(b"\0")
