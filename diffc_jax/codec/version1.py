"""Version 1 of the `.diffc` container, which is still read; see docs/format_1.md.

A header, and packets that each begin with the number and the size of their steps. The trellis is circular
(`channel_simulation.trellis`), a step has 32 to 2048 path bits, and its increment of the signal-to-noise
ratio is sent.
"""

import heapq
from typing import NamedTuple

from diffc_jax.codec.framing import crc8, decode_varint
from diffc_jax.codec.stream import (
    FINGERPRINT_BYTES,
    SNR_BITS,
    Cut,
    Header,
    Residual,
    Step,
    Stream,
)
from diffc_jax.errors import InputError

PATH_BITS = (32, 64, 128, 256, 512, 1024, 2048)
MEMORIES = range(3, 16)

_MAGIC = b"DFC"
_GREY = 1
_TRELLIS = 1
_FIXED_HEADER = len(_MAGIC) + 3 + 2 + FINGERPRINT_BYTES[1]
_RESIDUAL_HEAD = 0xE0
_CRC32_BYTES = 4
# Head, a byte for the increment, 32 path bits, latent check, checksum; a tile's first is no residual.
_SMALLEST_FIRST_PACKET = 1 + 1 + 4 + 1 + 1

_LOWEST, _HIGHEST = -512, 511
_CODES_PER_OCTAVE = 16
# round(2^(i/16) * 2^16)
_ROOTS = (
    *(65536, 68438, 71468, 74632, 77936, 81386, 84990, 88752),
    *(92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515),
)
_ROOT_BITS = 16
# An Exp-Golomb code has this many leading zeros or fewer, and twice as many bits and one.
_MOST_ZEROS = 11


def parse(data: bytes) -> Stream:
    """Reads a stream; see `container.parse`."""
    header, start = _parse_header(data)
    if header.n_tiles * _SMALLEST_FIRST_PACKET > len(data) - start:
        raise InputError(
            f"is cut off or damaged: {len(data)} bytes cannot hold a packet for each tile of "
            f"{header.tile}x{header.tile} of an image of {header.width}x{header.height} pixels"
        )
    checksum = data[start - 1]
    turns = _Turns(header.n_tiles)
    items: list[tuple[int, Step | Residual]] = []
    cuts: list[Cut] = []
    problem, damaged = None, False
    while start < len(data):
        if turns.tile is None:
            problem = f"{len(data) - start} bytes after the end are not used"
            break
        packet = f"packet {len(cuts) + 1} (tile {turns.tile}, from byte {start})"
        try:
            found, codes, end = _parse_packet(data, start, turns)
            checksum = crc8(data[start : end - 1], checksum)
            if data[end - 1] != checksum:
                raise ValueError(f"checksum {data[end - 1]:02x} instead of {checksum:02x}")
        except EOFError:
            problem = f"{packet} is cut off"
            break
        except ValueError as error:
            problem, damaged = f"{packet} is damaged ({error})", True
            break
        items += [(turns.tile, one) for one in found]
        cuts.append(Cut(len(items), end))
        turns.advance(found[-1].path_bits if isinstance(found[-1], Step) else 0, codes)
        start = end
    missing = header.n_tiles - len({tile for tile, _ in items})
    if missing:
        reason = problem or "the data end"
        raise InputError(f"holds no packet for {missing} of {header.n_tiles} tiles: {reason}")
    return Stream(header, items, cuts, problem, damaged)


def _parse_header(data: bytes) -> tuple[Header, int]:
    if data[: len(_MAGIC)] != _MAGIC:
        raise InputError("is not a .diffc file" if data else "is empty")
    if len(data) > len(_MAGIC) and data[len(_MAGIC)] != 1:
        raise InputError(
            f"has version {data[len(_MAGIC)]} of the format; this program reads 1 and 2"
        )
    sides = []
    end = _FIXED_HEADER
    try:
        for _ in range(3):
            side, end = decode_varint(data, end)
            sides.append(side)
        if end == len(data):
            raise EOFError
        if data[end] != (checksum := crc8(data[:end])):
            raise ValueError(f"checksum {data[end]:02x} instead of {checksum:02x}")
    except EOFError:
        raise InputError(f"is cut off inside the header, after {len(data)} bytes") from None
    except ValueError as error:
        raise InputError(f"has a damaged header ({error})") from None
    flags, scheme = data[4:6]
    if flags & ~_GREY:
        raise InputError(f"has unknown flags ({flags:#04x}); it needs a newer version")
    if scheme >> 4 != _TRELLIS:
        raise InputError(f"has the unknown coding scheme {scheme >> 4}; it needs a newer version")
    memory = scheme & 0xF
    if memory not in MEMORIES:
        raise InputError(
            f"trellis of memory {memory}; {MEMORIES[0]} to {MEMORIES[-1]} are known to this version"
        )
    seed, fingerprint = int.from_bytes(data[6:8], "little"), bytes(data[8:12])
    grey = bool(flags & _GREY)
    width, height, tile = sides
    return Header(width, height, tile, memory, seed, fingerprint, grey, version=1), end + 1


def _parse_packet(
    data: bytes, start: int, turns: "_Turns"
) -> tuple[list[Step] | list[Residual], list[int], int]:
    """Steps or a residual, the codes of the increments, and the index after the checksum.

    The checksum is not compared here.
    """
    if data[start] >= _RESIDUAL_HEAD:
        return _parse_residual(data, start, turns)
    path_bits = PATH_BITS[data[start] >> 5]
    n_steps = (data[start] & 0x1F) + 1
    codes, paths = _unpack(data, start + 1, n_steps, turns.prediction(path_bits))
    n_bytes = path_bits // 8
    check = paths + n_steps * n_bytes
    if check + 2 > len(data):
        raise EOFError
    steps = [
        Step(
            _increment(code),
            path_bits,
            data[paths + i * n_bytes : paths + (i + 1) * n_bytes],
            data[check] if i == n_steps - 1 else None,
        )
        for i, code in enumerate(codes)
    ]
    return steps, codes, check + 2


def _parse_residual(
    data: bytes, start: int, turns: "_Turns"
) -> tuple[list[Residual], list[int], int]:
    if data[start] != _RESIDUAL_HEAD:
        raise ValueError(f"unknown head {data[start]:02x}")
    if not turns.started:
        raise ValueError("a residual comes first")
    length, payload = decode_varint(data, start + 1)
    crc = payload + length
    end = crc + _CRC32_BYTES + 1
    if end > len(data):
        raise EOFError
    found = Residual(data[payload:crc], int.from_bytes(data[crc : end - 1], "little"))
    return [found], [], end


def _increment(code: int) -> int:
    """What a step of this code adds to the signal-to-noise ratio: 2^(code/16), in units of 2^-48."""
    octave, index = divmod(code, _CODES_PER_OCTAVE)
    return _ROOTS[index] << (octave + SNR_BITS - _ROOT_BITS)


class _Prediction(NamedTuple):
    """What the next code should be: codes rise, and half as much at each step, but at least by one.

    Attributes:
        reference: the last code, as it would be at the bits of the next step.
        rise: from there to the code that is predicted.
    """

    reference: int
    rise: int

    def after(self, code: int) -> "_Prediction":
        """The prediction of the code that follows this one."""
        return _Prediction(code, max((code - self.reference + 1) // 2, 1))

    def with_bits(self, octaves: int) -> "_Prediction":
        """The prediction if steps have 2^octaves times the path bits from here on."""
        return _Prediction(self.reference + _CODES_PER_OCTAVE * octaves, self.rise)


_START = _Prediction(-112, 24)


def _unpack(
    data: bytes, start: int, n_codes: int, prediction: _Prediction
) -> tuple[list[int], int]:
    """Reads the codes of a packet's steps, and says where the byte after them is.

    Each is an Exp-Golomb code (order 0) of its distance from its prediction, in the order
    0, 1, -1, 2, -2, ...; `prediction` is that of the first.

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
        if not _LOWEST <= code <= _HIGHEST:
            raise ValueError("an increment is out of range")
        codes.append(code)
        prediction = prediction.after(code)
    if bits >> (left - left % 8):
        raise ValueError("bits of the filling are not zero")
    return codes, start + len(window) - left // 8


class _Turns:
    """Whose turn it is: the tile of the lowest signal-to-noise ratio, the first such in raster order."""

    def __init__(self, n_tiles: int):
        """All tiles begin with a signal-to-noise ratio of 0."""
        self._queue = [(0, tile) for tile in range(n_tiles)]
        # Path bits of the last step of each tile, and what the next increment should be at as many.
        self._path_bits: dict[int, int] = {}
        self._predictions: dict[int, _Prediction] = {}

    @property
    def tile(self) -> int | None:
        """The tile whose turn it is; None when all are finished."""
        return self._queue[0][1] if self._queue else None

    @property
    def started(self) -> bool:
        """Whether this tile had a packet before."""
        return self._queue[0][1] in self._path_bits

    def prediction(self, path_bits: int) -> _Prediction:
        """Predicts the first increment of a packet of this tile; `path_bits` is a power of two."""
        tile = self._queue[0][1]
        before = self._path_bits.get(tile, path_bits)
        octaves = path_bits.bit_length() - before.bit_length()
        return self._predictions.get(tile, _START).with_bits(octaves)

    def advance(self, path_bits: int, codes: list[int]) -> None:
        """This tile has a packet of steps with these codes; one without steps is its last."""
        if not codes:
            heapq.heappop(self._queue)
            return
        snr, tile = self._queue[0]
        prediction = self.prediction(path_bits)
        for code in codes:
            snr += _increment(code)
            prediction = prediction.after(code)
        self._path_bits[tile], self._predictions[tile] = path_bits, prediction
        heapq.heapreplace(self._queue, (snr, tile))
