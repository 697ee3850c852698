"""A range coder of which any beginning can be decoded, as far as it is certain (Martin 1979).

The data are the digits, eight bits each, of a number in the unit interval. Each symbol narrows an interval in
proportion to its probability, and whoever knows that the number is in it knows the symbol. A decoder that has
only the first bytes knows the number up to what may follow, and stops where that leaves a choice.

Integers only. Interval and number are kept relative to the byte at `position` and have `_BITS` bits; the
interval is at least 2^`_LEAST_BITS` wide before each symbol, so that a probability of 2^-24 is exact to one
part in 2^16.
"""

import math

_BITS = 48
_LEAST_BITS = 40
_BYTES = _BITS // 8
_MASK = (1 << _BITS) - 1
# Uniform numbers of more bits are coded in parts of this many.
_PART_BITS = 16


def closing_bytes(low: int, width: int) -> bytes:
    """The fewest bytes that say that a number is in [low, low + width), whatever follows them.

    `low` and `width` have 48 bits after the point, and the bytes likewise count from the point; a result that
    begins beyond the last number of so many bytes has wrapped around (a carry).
    """
    for count in range(_BYTES + 1):
        unit = 1 << 8 * (_BYTES - count)
        first = -(-low // unit) * unit
        if first + unit <= low + width:
            return (
                (first >> 8 * (_BYTES - count)).to_bytes(count + 1, "big")[-count:]
                if count
                else b""
            )
    raise AssertionError("an interval is at least 2^40 wide")


class RangeEncoder:
    """Symbols to bytes.

    Attributes:
        data: the bytes that are final but for a carry.
        low: where the interval begins, after `data`.
        width: of the interval.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.low = 0
        self.width = 1 << _BITS

    def encode(self, start: int, stop: int, total_bits: int) -> None:
        """A symbol whose share of 2^total_bits, which is 2^24 at most, is start .. stop - 1."""
        unit = self.width >> total_bits
        self.low += start * unit
        # The last symbol gets what rounding leaves.
        self.width = self.width - start * unit if stop == 1 << total_bits else (stop - start) * unit
        if self.low > _MASK:
            self.low &= _MASK
            self._carry()
        while self.width < 1 << _LEAST_BITS:
            self.data.append(self.low >> (_BITS - 8))
            self.low = self.low << 8 & _MASK
            self.width <<= 8

    def encode_bits(self, number: int, count: int) -> None:
        """A number below 2^count, all of which are equally likely, the most significant bits first."""
        while count:
            part = min(count, _PART_BITS)
            count -= part
            digits = number >> count & ((1 << part) - 1)
            self.encode(digits, digits + 1, part)

    def bits(self) -> float:
        """Information of the symbols so far."""
        return 8 * len(self.data) + _BITS - math.log2(self.width)

    def copy(self) -> "RangeEncoder":
        """One that goes on from here by itself."""
        other = RangeEncoder()
        other.data, other.low, other.width = bytearray(self.data), self.low, self.width
        return other

    def to_bytes(self) -> bytes:
        """The fewest bytes from which the symbols so far are certain."""
        closing = closing_bytes(self.low, self.width)
        other = self.copy()
        if int.from_bytes(closing, "big") << 8 * (_BYTES - len(closing)) < self.low:
            other._carry()
        return bytes(other.data + closing)

    def _carry(self) -> None:
        last = len(self.data) - 1
        while self.data[last] == 0xFF:
            self.data[last] = 0
            last -= 1
        self.data[last] += 1


class RangeDecoder:
    """Bytes to symbols; a copy of its four numbers is a place to come back to."""

    __slots__ = ("_data", "_low", "_number", "_position", "_width")

    def __init__(self, data: bytes, start: int = 0):
        """The data begin at byte `start`."""
        self._data = data
        # Byte at which interval and number begin.
        self._position = start
        self._low, self._width = 0, 1 << _BITS
        window = data[start : start + _BYTES]
        # The number less `low`, with zeros for what is not known of it.
        self._number = int.from_bytes(window, "big") << 8 * (_BYTES - len(window))

    @property
    def state(self) -> tuple[int, int, int, int]:
        """Where the decoder is; may be set."""
        return self._position, self._low, self._width, self._number

    @state.setter
    def state(self, state: tuple[int, int, int, int]) -> None:
        self._position, self._low, self._width, self._number = state

    @property
    def n_left(self) -> int:
        """Bytes from `position` on, of which the next ones may be known in part by now."""
        return len(self._data) - self._position

    def peek(self, total_bits: int) -> int:
        """A number below 2^total_bits in the share of the next symbol."""
        return min(self._number // (self._width >> total_bits), (1 << total_bits) - 1)

    def take(self, start: int, stop: int, total_bits: int) -> None:
        """Passes the symbol with this share, which `peek` found.

        Raises:
            EOFError: the data end before it is certain.
        """
        unit = self._width >> total_bits
        number = self._number - start * unit
        width = self._width - start * unit if stop == 1 << total_bits else (stop - start) * unit
        missing = self._position + _BYTES - len(self._data)
        if missing > 0 and (missing > _BYTES or number + (1 << 8 * missing) > width):
            raise EOFError
        self._low = self._low + start * unit & _MASK
        while width < 1 << _LEAST_BITS:
            position = self._position + _BYTES
            byte = self._data[position] if position < len(self._data) else 0
            self._position += 1
            number = number << 8 | byte
            width <<= 8
            self._low = self._low << 8 & _MASK
        self._number, self._width = number, width

    def take_bits(self, count: int) -> int:
        """A number below 2^count, of which all are equally likely.

        Raises:
            EOFError: the data end before it is certain.
        """
        number = 0
        while count:
            part = min(count, _PART_BITS)
            count -= part
            digits = self.peek(part)
            self.take(digits, digits + 1, part)
            number = number << part | digits
        return number

    @property
    def end(self) -> int:
        """Index of the byte after the last that is needed for the symbols so far to be certain."""
        known = self._low + self._number
        for missing in range(_BYTES, 0, -1):
            first = known >> 8 * missing << 8 * missing
            if first >= self._low and first + (1 << 8 * missing) <= self._low + self._width:
                return self._position + _BYTES - missing
        return self._position + _BYTES

    @property
    def closing_end(self) -> int | None:
        """Index after the bytes with which an encoder ends these symbols; None if other bytes are here."""
        closing = closing_bytes(self._low, self._width)
        end = self._position + len(closing)
        return end if self._data[self._position : end] == closing else None
