"""The `.diffc` container, version 2: a header, and steps in one range-coded stream; see docs/format.md.

Nothing here depends on a network's floats. The next step is always that of the tile with the lowest
signal-to-noise ratio, or the next message of a picture, and its size is predicted (`step_sizes`,
`picture_sizes`). So only what the shared randomness leaves open is written: the cell that a is in, the path,
and checks at the ends of packets. A stream may end after any step, with a check; where it is cut off, what
comes before the last check is used.
"""

import dataclasses
import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

from diffc_jax.codec import version1
from diffc_jax.codec.announced_sizes import OTHER_SIZE, SYMBOL_BITS, TILE_STEPS
from diffc_jax.codec.framing import crc8, decode_varint, encode_varint
from diffc_jax.codec.header import (
    CHECK_BITS,
    CRC_BITS,
    MAGICS,
    header_bytes,
    least_bytes,
    parse_header,
)
from diffc_jax.codec.picture_sizes import PictureSizes, PictureTurns
from diffc_jax.codec.range_coder import RangeDecoder, RangeEncoder
from diffc_jax.codec.step_sizes import StepOffer, StepSizes
from diffc_jax.codec.stream import CHECK_TOLERANCE, Cut, Header, Residual, Step, Stream
from diffc_jax.errors import InputError

_CRC32_BYTES = 4


class CodedStep(NamedTuple):
    """What the stream says of a step.

    Attributes:
        sizes: numbers that announce another size than planned, one after the other.
        cell: where a is among the cells of the offer.
        path: bits of the path, as in `Step`.
        check: of the latent after it, for the packet that may end here.
    """

    sizes: tuple[int, ...]
    cell: int
    path: bytes
    check: int


class Turns:
    """Whose turn it is, and where each tile is: what writer and reader of a stream have in common.

    Attributes:
        size_bits: of a number that announces another size.
        between_steps: whether a stream may end here.
    """

    size_bits = TILE_STEPS.bits
    between_steps = True

    def __init__(self, header: Header):
        self._header = header
        self._queue = [(0, tile) for tile in range(header.n_tiles)]
        self._sizes: dict[int, StepSizes] = {}

    @property
    def tile(self) -> int:
        """Raster index of the next step's tile: that of the lowest signal-to-noise ratio, the first such."""
        return self._queue[0][1]

    @property
    def sizes(self) -> StepSizes:
        """Where this tile is."""
        header = self._header
        if self.tile not in self._sizes:
            key = header.seed, self.tile
            self._sizes[self.tile] = StepSizes(key, 3 * header.tile**2, header.memory)
        return self._sizes[self.tile]

    def advance(self, offer: StepOffer, cell: int) -> int:
        """This tile takes a step of so many path bits, which are returned."""
        sizes = self.sizes
        path_bits = sizes.advance(offer, cell)
        heapq.heapreplace(self._queue, (sizes.snr, self.tile))
        return path_bits

    @property
    def all_started(self) -> bool:
        """Whether each tile has had a step."""
        return self._queue[0][0] > 0


def turns_of(header: Header) -> Turns | PictureTurns:
    """The beginning of a stream."""
    return Turns(header) if header.stride is None else PictureTurns(header)


class StreamWriter:
    """Writes a stream step by step: whose turn it is depends on the steps so far.

    The steps of a picture are written message by message.
    """

    def __init__(self, header: Header):
        self._header = header
        self._head = header_bytes(header)
        self._turns = turns_of(header)
        self._coder = RangeEncoder()
        self._crc = crc8(self._head)
        # Of the last step, which is written when the next one comes, if the packet does not go on.
        self._check = 0
        self._ends_packet = False
        self._n_steps = 0
        self.n_packets = 0

    @property
    def next_tile(self) -> int:
        """Raster index of the tile that the next step belongs to."""
        return self._turns.tile

    @property
    def next_sizes(self) -> StepSizes | PictureSizes:
        """Where this tile is; not to be changed."""
        return self._turns.sizes

    @property
    def all_started(self) -> bool:
        """Whether each tile has had a step, which a stream needs."""
        return self._turns.all_started

    @property
    def between_steps(self) -> bool:
        """Whether a stream may end here; within a step of a picture it may not."""
        return self._turns.between_steps

    def append(self, step: CodedStep) -> None:
        """Writes the next step of `next_tile`.

        Raises:
            ValueError: the numbers or the cell are not of a step that can be sent.
        """
        sizes, coder = self._turns.sizes, self._coder
        offer = sizes.offer(step.sizes)
        if not 0 <= step.cell < offer.n_cells:
            raise ValueError(f"cell {step.cell} of {offer.n_cells}")
        if self._ends_packet:
            self._crc = self._write_check(coder, self._check)
        for number in step.sizes:
            coder.encode(0, OTHER_SIZE, SYMBOL_BITS)
            coder.encode_bits(number, self._turns.size_bits)
        coder.encode(offer.start(step.cell), offer.start(step.cell + 1), SYMBOL_BITS)
        path_bits = self._turns.advance(offer, step.cell)
        coder.encode_bits(_to_number(step.path, path_bits), path_bits)
        self._crc = _crc_of_step(self._crc, step.sizes, step.cell, step.path)
        self._check, self._ends_packet = step.check, sizes.ends_packet
        self._n_steps += 1
        self.n_packets += self._ends_packet

    def bits_after(self, step_bits: float = 0) -> int:
        """Bits that the stream has at most if it ends here, or after a step of so many bits."""
        n_checks = self._ends_packet + bool(step_bits or (self._n_steps and not self._ends_packet))
        bits = self._coder.bits() + step_bits + n_checks * (CHECK_BITS + CRC_BITS)
        # Whole bytes in which there is no doubt may take a bit more.
        return 8 * (len(self._head) + math.ceil((bits + 1) / 8))

    def to_bytes(self, residuals: Sequence[Residual] = ()) -> bytes:
        """The stream if it ends here, and then the residuals of all tiles in raster order.

        If that could be read as a shorter stream, the last check of a latent is off by one, which is no harm.
        """
        data = next(filter(self._is_read_whole, map(self._ending_with, _checks_near(self._check))))
        for one in residuals:
            crc = one.crc.to_bytes(_CRC32_BYTES, "little")
            data += encode_varint(len(one.payload)) + one.payload + crc
        return data

    def _ending_with(self, check: int) -> bytes:
        coder = self._coder.copy()
        if self._n_steps:
            self._write_check(coder, check)
        return self._head + coder.to_bytes()

    def _is_read_whole(self, data: bytes) -> bool:
        """Whether a reader finds no end of a shorter stream in it, as it does once in a million times."""
        known = self._header.n_steps is not None or not self.all_started
        return known or len(parse(data).items) == self._n_steps

    def _write_check(self, coder: RangeEncoder, check: int) -> int:
        """Returns the checksum so far."""
        coder.encode_bits(check, CHECK_BITS)
        crc = crc8(bytes((check,)), self._crc)
        coder.encode_bits(crc, CRC_BITS)
        return crc


def _checks_near(check: int) -> list[int]:
    """A check of a latent, and those that a reader takes for rounding of it; the nearest come first."""
    nearest_first = sorted(range(-CHECK_TOLERANCE, CHECK_TOLERANCE + 1), key=lambda n: (abs(n), -n))
    return [(check + change) % (1 << CHECK_BITS) for change in nearest_first]


def write_stream(
    header: Header, steps: Sequence[CodedStep], residuals: Sequence[Residual] = ()
) -> bytes:
    """A whole stream of steps in their order."""
    writer = StreamWriter(header)
    for step in steps:
        writer.append(step)
    return writer.to_bytes(residuals)


def parse(data: bytes) -> Stream:
    """Reads a stream, in time and memory proportional to its size, whatever its bytes.

    After a packet that is cut off or damaged nothing more is read; `Stream.problem` tells of it.

    Raises:
        InputError: not a stream that this version reads, or fewer steps than tiles. The message does not
            name the file.
    """
    if not data or data[0] not in MAGICS:
        return version1.parse(data)
    header, start = parse_header(data)
    if least_bytes(header) > len(data):
        tiles = f"for each tile of {header.tile}x{header.tile} " if header.stride is None else ""
        raise InputError(
            f"is cut off or damaged: {len(data)} bytes cannot hold a step {tiles}of an image of "
            f"{header.width}x{header.height} pixels"
        )
    if header.n_steps is not None and header.n_steps < header.n_chains:
        raise InputError(
            f"has a damaged header ({header.n_steps} steps before the residuals of {header.n_chains} tiles)"
        )
    return _Reader(header, data, start).read()


class _DamagedError(Exception):
    """What is wrong with a packet; completes a sentence that begins with the packet."""


class _Reader:
    def __init__(self, header: Header, data: bytes, start: int):
        self._header, self._data = header, data
        self._turns = turns_of(header)
        self._coder = RangeDecoder(data, start)
        self._crc = crc8(data[:start])
        self._items: list[tuple[int, Step | Residual]] = []
        self._cuts: list[Cut] = []

    def read(self) -> Stream:
        """See `parse`."""
        problem, damaged = None, False
        try:
            self._read_steps()
            if self._header.n_steps is not None:
                self._read_residuals()
        except EOFError:
            problem = f"packet {len(self._cuts) + 1} is cut off or damaged"
        except _DamagedError as error:
            problem, damaged = f"packet {len(self._cuts) + 1} is damaged ({error})", True
        checked = self._items[: self._cuts[-1].n_items] if self._cuts else []
        if len({tile for tile, _ in checked}) < self._header.n_chains:
            step = "step for some tile" if self._header.stride is None else "whole step"
            raise InputError(f"holds no {step}: {problem or 'the data end'}")
        end = self._cuts[-1].n_bytes
        if problem is None and end < len(self._data):
            problem = f"{len(self._data) - end} bytes after the end are not used"
        return Stream(self._header, checked, self._cuts, problem, damaged)

    def _read_steps(self) -> None:
        n_steps = self._header.n_steps
        while len(self._items) != n_steps:
            sizes = self._turns.sizes
            if n_steps is None and self._at_end():
                return
            self._read_step()
            if sizes.ends_packet:
                self._read_check()
                self._cut(self._coder.end)
        if not self._turns.between_steps:
            raise _DamagedError("the last step is not whole")
        if not self._cuts or self._cuts[-1].n_items < len(self._items):
            self._read_check()
            self._cut(self._coder.end)

    def _at_end(self) -> bool:
        """Whether the data are what a writer makes that stops here; if so, reads the check."""
        if not self._items or not self._turns.between_steps:
            return False
        if self._cuts and self._cuts[-1].n_items == len(self._items):
            return self._cuts[-1].n_bytes == len(self._data)
        if self._coder.n_left > _MOST_CLOSING_BYTES:
            return False
        state = self._coder.state, self._crc, self._items[-1]
        try:
            self._read_check()
            if self._coder.closing_end == len(self._data):
                self._cut(len(self._data))
                return True
        except (EOFError, _DamagedError):
            pass
        self._coder.state, self._crc, self._items[-1] = state
        return False

    def _read_step(self) -> None:
        coder, turns = self._coder, self._turns
        numbers: list[int] = []
        try:
            offer = turns.sizes.offer()
            while (symbol := coder.peek(SYMBOL_BITS)) < OTHER_SIZE:
                coder.take(0, OTHER_SIZE, SYMBOL_BITS)
                numbers.append(coder.take_bits(turns.size_bits))
                offer = turns.sizes.offer(tuple(numbers))
            cell = offer.find(symbol)
        except ValueError as error:
            raise _DamagedError(str(error)) from None
        coder.take(offer.start(cell), offer.start(cell + 1), SYMBOL_BITS)
        path_bits = offer.path_bits(cell)
        path = _to_bytes(coder.take_bits(path_bits), path_bits)
        self._crc = _crc_of_step(self._crc, tuple(numbers), cell, path)
        self._items.append((turns.tile, Step(offer.delta, path_bits, path)))
        turns.advance(offer, cell)

    def _read_check(self) -> None:
        check = self._coder.take_bits(CHECK_BITS)
        crc = crc8(bytes((check,)), self._crc)
        found = self._coder.take_bits(CRC_BITS)
        if found != crc:
            raise _DamagedError(f"checksum {found:02x} instead of {crc:02x}")
        tile, step = self._items[-1]
        assert isinstance(step, Step)
        self._items[-1] = tile, dataclasses.replace(step, check=check)
        self._crc = crc

    def _cut(self, n_bytes: int) -> None:
        self._cuts.append(Cut(len(self._items), n_bytes))

    def _read_residuals(self) -> None:
        end = self._coder.closing_end
        if end is None:
            raise _DamagedError("the steps do not end as they should")
        for tile in range(self._header.n_tiles):
            try:
                length, payload = decode_varint(self._data, end)
            except ValueError as error:
                raise _DamagedError(str(error)) from None
            end = payload + length + _CRC32_BYTES
            if end > len(self._data):
                raise EOFError
            crc = int.from_bytes(self._data[payload + length : end], "little")
            self._items.append((tile, Residual(self._data[payload : payload + length], crc)))
            self._cut(end)


# A check takes one or two bytes more, and the last bytes after it two or one.
_MOST_CLOSING_BYTES = 3


def _crc_of_step(before: int, sizes: tuple[int, ...], cell: int, path: bytes) -> int:
    """The checksum of all before and a step: 255 and the number for each other size, the cell, the path."""
    announced = b"".join(bytes((0xFF, number)) for number in sizes)
    return crc8(announced + encode_varint(cell) + path, before)


def _to_number(path: bytes, path_bits: int) -> int:
    return int.from_bytes(path, "big") >> (8 * len(path) - path_bits)


def _to_bytes(number: int, path_bits: int) -> bytes:
    n_bytes = -(-path_bits // 8)
    return (number << (8 * n_bytes - path_bits)).to_bytes(n_bytes, "big")
