"""Signal-to-noise ratios as integers, the codes of their increments, and the order of packets they imply.

Both sides derive the order of the packets from these numbers, so they are exact: a signal-to-noise ratio
is an integer in units of 2^-48 that starts at 0 (pure noise), and a step of code d adds 2^(d/16), with the
sixteen roots rounded to multiples of 2^-16 once and for all.
"""

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

LOWEST, HIGHEST = -512, 511
CODES_PER_OCTAVE = 16

_FRACTION_BITS = 48
# round(2^(i/16) * 2^16)
_ROOTS = (
    *(65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752),
    *(92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515),
)
_ROOT_BITS = 16

# An Exp-Golomb code has this many leading zeros or fewer, and twice as many bits and one.
_MOST_ZEROS = 11


def increment(code: int) -> int:
    """What a step of this code adds to the signal-to-noise ratio: 2^(code/16), in units of 2^-48."""
    octave, index = divmod(code, CODES_PER_OCTAVE)
    return _ROOTS[index] << (octave + _FRACTION_BITS - _ROOT_BITS)


def to_float(units: int) -> float:
    """A signal-to-noise ratio (or a difference of two) as the nearest float64."""
    return units / (1 << _FRACTION_BITS)


def from_float(ratio: float) -> int:
    """The integer nearest to a signal-to-noise ratio."""
    return round(ratio * (1 << _FRACTION_BITS))


def nearest_code(delta: float) -> int:
    """The code whose increment is nearest to `delta` in ratio, within the range of codes."""
    # One octave to either side of the range is enough, and keeps the logarithm finite.
    code = round(CODES_PER_OCTAVE * math.log2(min(max(delta, 2.0**-33), 2.0**33)))
    return min(max(code, LOWEST), HIGHEST)


class Prediction(NamedTuple):
    """What the next code should be: codes rise, and half as much at each step, but at least by one.

    Attributes:
        reference: the last code, as it would be at the bits of the next step.
        rise: from there to the code that is predicted.
    """

    reference: int
    rise: int

    def after(self, code: int) -> "Prediction":
        """The prediction of the code that follows this one."""
        return Prediction(code, max((code - self.reference + 1) // 2, 1))

    def with_bits(self, octaves: int) -> "Prediction":
        """The prediction if steps have 2^octaves times the path bits from here on."""
        return Prediction(self.reference + CODES_PER_OCTAVE * octaves, self.rise)


# Photographs of 64x64 begin with codes about -88, and rise by about 12 then.
START = Prediction(-112, 24)


def pack(codes: Sequence[int], prediction: Prediction) -> bytes:
    """The codes of a packet's steps as bits, most significant first, zero bits up to a whole byte.

    Each is an Exp-Golomb code (order 0) of its distance from its prediction, in the order
    0, 1, -1, 2, -2, ...; `prediction` is that of the first.
    """
    bits = count = 0
    for code in codes:
        error = code - sum(prediction)
        number = 2 * error if error > 0 else 1 - 2 * error
        width = 2 * number.bit_length() - 1
        bits, count, prediction = bits << width | number, count + width, prediction.after(code)
    n_bytes = -(-count // 8)
    return (bits << (8 * n_bytes - count)).to_bytes(n_bytes, "big")


def unpack(data: bytes, start: int, n_codes: int, prediction: Prediction) -> tuple[list[int], int]:
    """Inverts `pack`.

    Args:
        data: a stream; what follows the bits is not looked at.
        start: byte at which the bits begin.
        n_codes: how many codes there are.
        prediction: as for `pack`.

    Returns:
        The codes, and the index of the byte after them.

    Raises:
        EOFError: the data end before the codes do.
        ValueError: a code is out of range, or a bit of the filling is not zero.
    """
    window = data[start : start + -(-n_codes * (2 * _MOST_ZEROS + 1) // 8)]
    bits, left = int.from_bytes(window, "big"), 8 * len(window)
    codes = []
    for _ in range(n_codes):
        zeros = left - bits.bit_length()
        if zeros > _MOST_ZEROS:
            raise ValueError("an increment is out of range")
        left -= 2 * zeros + 1
        if left < 0:
            raise EOFError
        number = bits >> left
        bits &= (1 << left) - 1
        code = sum(prediction) + (-(number // 2) if number % 2 else number // 2)
        if not LOWEST <= code <= HIGHEST:
            raise ValueError("an increment is out of range")
        codes.append(code)
        prediction = prediction.after(code)
    if bits >> (left - left % 8):
        raise ValueError("bits of the filling are not zero")
    return codes, start + len(window) - left // 8


class Turns:
    """Whose turn it is: the tile of the lowest signal-to-noise ratio, the first such in raster order.

    It follows from the increments in the packets before, which are integers, and from nothing else.
    """

    def __init__(self, n_tiles: int):
        """All tiles begin with a signal-to-noise ratio of 0."""
        self._queue = [(0, tile) for tile in range(n_tiles)]
        # Path bits of the last step of each tile, and what the next increment should be at as many.
        self._path_bits: list[int | None] = [None] * n_tiles
        self._predictions = [START] * n_tiles

    @property
    def tile(self) -> int | None:
        """The tile whose turn it is; None when all are finished."""
        return self._queue[0][1] if self._queue else None

    @property
    def started(self) -> bool:
        """Whether this tile had a packet before."""
        return self._path_bits[self._queue[0][1]] is not None

    def prediction(self, path_bits: int) -> Prediction:
        """Predicts the first increment of a packet of this tile; `path_bits` is a power of two."""
        tile = self._queue[0][1]
        before = self._path_bits[tile] or path_bits
        octaves = path_bits.bit_length() - before.bit_length()
        return self._predictions[tile].with_bits(octaves)

    def advance(self, path_bits: int, increments: Sequence[int]) -> None:
        """This tile has a packet of steps with these codes; one without steps is its last."""
        if not increments:
            heapq.heappop(self._queue)
            return
        snr, tile = self._queue[0]
        snr += sum(map(increment, increments))
        prediction = self.prediction(path_bits)
        for code in increments:
            prediction = prediction.after(code)
        self._path_bits[tile], self._predictions[tile] = path_bits, prediction
        heapq.heapreplace(self._queue, (snr, tile))
