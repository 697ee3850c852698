"""Codes for the index n = 1, 2, ... of the candidate that a scheme chose.

An index is written as its number of binary digits, from a table, then the digits below the first one.
Tables hold integers that depend on the code's own parameters only, never on what is sent: whoever knows the
scheme can parse a stream. They are rounded from double-precision formulas; that errors of 1e-13 change an
entry happens in about one table of 10^5.

Bytes are written by the range coder of `constriction`. A stream ends in up to three bytes more than its
information, once for all messages in it.
"""

import dataclasses
import functools
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from scipy import special

from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.optional import require

Indices = Int[np.ndarray, " n"]

# Indices are below 2^63.
MAX_DIGITS = 63
# As many are up to an index as it has digits below the first one; a logarithm would round.
_POWERS = 1 << np.arange(1, MAX_DIGITS)
_FREQUENCY_BITS = 20
# Digits below the first one that a Zipf code gives probabilities of their own.
_ZIPF_DIGITS = 6
_RAW_BITS = 16
_WORD = np.dtype("<u4")
_DAMAGED = "the indices are damaged: no message has this stream"


@runtime_checkable
class IndexCode(Protocol):
    """Writes and reads sequences of indices."""

    def lengths(self, indices: Indices) -> Float[np.ndarray, " n"]:
        """Bits of each index, -log2 of the probability that the code gives it."""
        ...

    def encode(self, indices: Indices) -> bytes:
        """The indices as one stream."""
        ...

    def decode(self, data: bytes, count: int) -> Indices:
        """The `count` indices of a stream.

        Raises:
            InputError: no sequence of indices has this stream; the message does not name the file.
        """
        ...


def integer_frequencies(probabilities: Float[np.ndarray, "*t n"]) -> Int[np.ndarray, "*t n"]:
    """Positive integers that add up to 2^20 in the last axis, nearly proportional to probabilities.

    Args:
        probabilities: finite, not negative, with a positive sum in the last axis; fewer than 2^20 of them.
    """
    probabilities = np.asarray(probabilities, np.float64)
    symbols = probabilities.shape[-1]
    free = (1 << _FREQUENCY_BITS) - symbols
    cumulative = np.cumsum(probabilities, axis=-1)
    bounds = np.rint(cumulative / cumulative[..., -1:] * free).astype(np.int64)
    return np.diff(bounds, axis=-1, prepend=0) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class DigitsCode:
    """The number of digits from a table, the digits below the first one from further tables or raw.

    Attributes:
        digits: frequencies of 1, 2, ... binary digits, two or more, `integer_frequencies`.
        leading: for indices with 1 + i digits, i = 0, 1, ..., the 2^i frequencies of the i digits below the
            first one. Indices with more digits take the last entry for the i digits that follow the first
            one, and raw bits for the rest.
    """

    digits: Int[np.ndarray, " n"]
    leading: tuple[Int[np.ndarray, "..."], ...] = (np.array([1 << _FREQUENCY_BITS]),)

    def lengths(self, indices: Indices) -> Float[np.ndarray, " n"]:
        """See `IndexCode`."""
        below, coded, head, _ = self._split(indices)
        lengths = _FREQUENCY_BITS - np.log2(self.digits[below]) + below - coded
        for bits, table in enumerate(self.leading):
            chosen = coded == bits
            lengths[chosen] += _FREQUENCY_BITS - np.log2(table[head[chosen]])
        return lengths

    def encode(self, indices: Indices) -> bytes:
        """See `IndexCode`.

        Raises:
            ValueError: an index is not positive or has more digits than the table.
        """
        below, coded, head, rest = self._split(indices)
        encoder = _stream().queue.RangeEncoder()
        encoder.encode(below.astype(np.int32), _model(self.digits))
        for bits, table in enumerate(self.leading[1:], start=1):
            encoder.encode(head[coded == bits].astype(np.int32), _model(table))
        for shift in range(0, MAX_DIGITS, _RAW_BITS):
            width = np.clip(below - coded - shift, 0, _RAW_BITS)
            part = (rest >> shift) & ((1 << width) - 1)
            _encode_raw(encoder, part, width)
        return _to_bytes(encoder)

    def decode(self, data: bytes, count: int) -> Indices:
        """See `IndexCode`."""
        decoder = _from_bytes(data)
        try:
            below = decoder.decode(_model(self.digits), count).astype(np.int64)
            coded = np.minimum(below, len(self.leading) - 1)
            head = np.zeros(count, np.int64)
            for bits, table in enumerate(self.leading[1:], start=1):
                chosen = coded == bits
                head[chosen] = decoder.decode(_model(table), int(chosen.sum()))
            rest = np.zeros(count, np.int64)
            for shift in range(0, MAX_DIGITS, _RAW_BITS):
                width = np.clip(below - coded - shift, 0, _RAW_BITS)
                rest |= _decode_raw(decoder, width) << shift
        except AssertionError as error:
            raise InputError(_DAMAGED) from error
        indices = (((1 << coded) + head) << (below - coded)) + rest
        # The coder itself takes what is cut off for zeros, and leaves what is too much.
        if self.encode(indices) != data:
            raise InputError(_DAMAGED)
        return indices

    def _split(self, indices: Indices) -> tuple[Indices, Indices, Indices, Indices]:
        """Digits below the first one, how many of them have a table, their value, the value of the others."""
        indices = np.asarray(indices, np.int64)
        if indices.size and not 1 <= indices.min() <= indices.max() < 1 << len(self.digits):
            raise ValueError(
                f"indices from {indices.min()} to {indices.max()} are not in 1 to 2^{len(self.digits)} - 1"
            )
        below = np.searchsorted(_POWERS, indices, side="right")
        coded = np.minimum(below, len(self.leading) - 1)
        head = (indices >> (below - coded)) - (1 << coded)
        return below, coded, head, indices & ((1 << (below - coded)) - 1)


@dataclasses.dataclass(frozen=True)
class FixedCode:
    """`bits` bits for each index of 1 to 2^bits; nothing to code."""

    bits: int

    def __post_init__(self) -> None:
        if not 0 <= self.bits < MAX_DIGITS:
            raise UsageError(f"{self.bits}; choose 0 to {MAX_DIGITS - 1}", field="bits")

    def lengths(self, indices: Indices) -> Float[np.ndarray, " n"]:
        """See `IndexCode`."""
        return np.full(len(indices), float(self.bits))

    def encode(self, indices: Indices) -> bytes:
        """See `IndexCode`.

        Raises:
            ValueError: an index is not in 1 to 2^bits.
        """
        indices = np.asarray(indices, np.int64)
        if indices.size and not 1 <= indices.min() <= indices.max() <= 1 << self.bits:
            raise ValueError(
                f"indices from {indices.min()} to {indices.max()} are not in 1 to {1 << self.bits}"
            )
        bits = (indices[:, None] - 1) >> np.arange(self.bits)[::-1] & 1
        return np.packbits(bits.astype(np.uint8)).tobytes()

    def decode(self, data: bytes, count: int) -> Indices:
        """See `IndexCode`. Bits behind the last index, up to a whole byte, are not looked at."""
        expected = -(-count * self.bits // 8)
        if len(data) != expected:
            raise InputError(f"the indices take {expected} bytes, not {len(data)}")
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * self.bits)
        values = bits.reshape(count, self.bits).astype(np.int64)
        return values @ (1 << np.arange(self.bits, dtype=np.int64)[::-1]) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class PlacesCode:
    """Symbols 0, 1, ... of messages of equal length, with a table for each place of a message.

    Attributes:
        frequencies: places x symbols, `integer_frequencies`.
    """

    frequencies: Int[np.ndarray, "m n"]

    def lengths(self, symbols: Int[np.ndarray, "b m"]) -> Float[np.ndarray, "b m"]:
        """Bits of each symbol, -log2 of the probability that the code gives it."""
        places = np.arange(symbols.shape[1])
        return _FREQUENCY_BITS - np.log2(self.frequencies[places, symbols])

    def encode(self, symbols: Int[np.ndarray, "b m"]) -> bytes:
        """The messages as one stream.

        Raises:
            ValueError: a symbol is negative or has no frequency.
        """
        number = self.frequencies.shape[1]
        if symbols.size and not 0 <= symbols.min() <= symbols.max() < number:
            raise ValueError(
                f"symbols from {symbols.min()} to {symbols.max()} are not in 0 to {number - 1}"
            )
        encoder = _stream().queue.RangeEncoder()
        for message in symbols.astype(np.int32):
            encoder.encode(message, *self._family)
        return _to_bytes(encoder)

    def decode(self, data: bytes, count: int) -> Int[np.ndarray, "b m"]:
        """The `count` messages of a stream.

        Raises:
            InputError: no messages have this stream; the text does not name the file.
        """
        decoder = _from_bytes(data)
        symbols = np.zeros((count, len(self.frequencies)), np.int32)
        try:
            for message in symbols:
                message[:] = decoder.decode(*self._family)
        except AssertionError as error:
            raise InputError(_DAMAGED) from error
        if self.encode(symbols) != data:
            raise InputError(_DAMAGED)
        return symbols

    @functools.cached_property
    def _family(self) -> tuple[Any, Float[np.ndarray, "m n"]]:
        family = _stream().model.Categorical(perfect=False)
        # Rows are taken from memory (findings/constriction_transposed_probabilities.sh).
        return family, np.ascontiguousarray(self.frequencies / float(1 << _FREQUENCY_BITS))


@functools.lru_cache(maxsize=64)
def zipf_code(ideal_rate: int | float) -> DigitsCode:
    """The code of Li & El Gamal (2018): P(n) ~ n^-a with a = 1 + 1 / (C + log2(e) / e + 1).

    Its mean length is at most C + log2(C + 1) + 5 bits (`rate_bound`), whatever the distribution of the
    candidates. Within a 64th of the indices with equally many digits P is taken to be constant, which changes
    lengths by 0.01 bits.

    Args:
        ideal_rate: C >= 0, nominal ideal rate of a message in bits.

    Raises:
        UsageError: it is negative or not finite.
    """
    if not 0 <= ideal_rate < np.inf:
        raise UsageError(f"{ideal_rate} bits; it is finite and not negative", field="ideal_rate")
    exponent = 1.0 + 1.0 / (ideal_rate + np.log2(np.e) / np.e + 1.0)
    # The last entry is the whole tail, nearly all of it indices too long to be sent.
    tails = special.zeta(exponent, 2.0 ** np.arange(MAX_DIGITS))
    digits = np.append(-np.diff(tails), tails[-1])
    leading = [np.arange(1 << bits, 2 << bits) ** -exponent for bits in range(_ZIPF_DIGITS)]
    bounds = (1.0 + np.arange((1 << _ZIPF_DIGITS) + 1) / (1 << _ZIPF_DIGITS)) ** (1.0 - exponent)
    leading.append(-np.diff(bounds))
    return DigitsCode(
        integer_frequencies(digits), tuple(integer_frequencies(row) for row in leading)
    )


def digits_code(probabilities: Float[np.ndarray, " n"]) -> DigitsCode:
    """A code from the probabilities of 1, 2, ... digits, with all digits below the first one raw.

    Two or more are needed. Nothing is lost where indices with equally many digits are equally probable, which
    is nearly true of the Poisson functional representation.
    """
    return DigitsCode(integer_frequencies(probabilities))


def _stream() -> Any:
    """The module of constriction that is used."""
    return require("constriction").stream


def _model(frequencies: Int[np.ndarray, " n"]) -> Any:
    probabilities = frequencies / float(1 << _FREQUENCY_BITS)
    return _stream().model.Categorical(probabilities, perfect=False)


def _to_bytes(encoder: Any) -> bytes:
    """Without the zeros at the end, which a decoder takes for granted."""
    return encoder.get_compressed().astype(_WORD).tobytes().rstrip(b"\0")


def _from_bytes(data: bytes) -> Any:
    words = np.frombuffer(data + bytes(-len(data) % _WORD.itemsize), _WORD)
    return _stream().queue.RangeDecoder(words.astype(np.uint32))


def _encode_raw(encoder: Any, values: Indices, widths: Indices) -> None:
    chosen = widths > 0
    sizes = (1 << widths[chosen]).astype(np.int32)
    encoder.encode(values[chosen].astype(np.int32), _stream().model.Uniform(), sizes)


def _decode_raw(decoder: Any, widths: Indices) -> Indices:
    values = np.zeros(len(widths), np.int64)
    chosen = widths > 0
    sizes = (1 << widths[chosen]).astype(np.int32)
    values[chosen] = decoder.decode(_stream().model.Uniform(), sizes)
    return values
