"""The `.diffc` container: a header, then packets that can each be checked; see docs/format.md.

Nothing here depends on a network's floats. Every prefix that ends after a packet is a valid stream, as long
as it holds one packet for each tile.
"""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from diffc_jax.codec import noise_levels
from diffc_jax.codec.framing import crc8, decode_varint, encode_varint
from diffc_jax.codec.noise_levels import Turns
from diffc_jax.errors import InputError

LARGEST_SIDE = 65535
MOST_STEPS = 32
PATH_BITS = (32, 64, 128, 256, 512, 1024, 2048)
MEMORIES = range(3, 16)
LARGEST_SEED = 65535

_MAGIC = b"DFC"
_VERSION = 1
_GREY = 1
_TRELLIS = 1
_FINGERPRINT_BYTES = 4
_FIXED_HEADER = len(_MAGIC) + 3 + 2 + _FINGERPRINT_BYTES
_RESIDUAL_HEAD = 0xE0
_CRC32_BYTES = 4
# Head, a byte for the increment, 32 path bits, latent check, checksum; a tile's first is no residual.
_SMALLEST_FIRST_PACKET = 1 + 1 + 4 + 1 + 1


@dataclasses.dataclass(frozen=True)
class Header:
    """What a decoder must know before the first packet.

    Attributes:
        width: of the image, 1 to 65535 pixels.
        height: of the image, 1 to 65535 pixels.
        tile: side of the square tiles, 1 to 65535 pixels.
        memory: log2 of the number of states of the trellis, 3 to 15.
        seed: of the shared randomness, 0 to 65535.
        fingerprint: four bytes that name the denoiser.
        grey: the image has one channel; it was coded with three equal ones.

    Raises:
        InputError: a value out of its range.
    """

    width: int
    height: int
    tile: int
    memory: int
    seed: int
    fingerprint: bytes
    grey: bool = False

    def __post_init__(self) -> None:
        for name, side in (("width", self.width), ("height", self.height), ("tile", self.tile)):
            if not 1 <= side <= LARGEST_SIDE:
                raise InputError(f"{name} of {side} pixels; 1 to {LARGEST_SIDE} can be coded")
        if self.memory not in MEMORIES:
            raise InputError(
                f"trellis of memory {self.memory}; "
                f"{MEMORIES[0]} to {MEMORIES[-1]} are known to this version"
            )
        if not 0 <= self.seed <= LARGEST_SEED:
            raise InputError(f"seed {self.seed}; it must be 0 to {LARGEST_SEED}")
        if len(self.fingerprint) != _FINGERPRINT_BYTES:
            raise InputError(f"fingerprint of {len(self.fingerprint)} bytes instead of 4")

    @property
    def n_tiles(self) -> int:
        """Tiles of the image."""
        return -(-self.width // self.tile) * -(-self.height // self.tile)

    @property
    def smallest_stream(self) -> int:
        """Bytes that no stream with this header is below."""
        return len(self.to_bytes()) + self.n_tiles * _SMALLEST_FIRST_PACKET

    def to_bytes(self) -> bytes:
        """The header as it stands in a file, with its checksum (16 bytes for one tile of 64x64)."""
        fields = _MAGIC + bytes((_VERSION, _GREY * self.grey, _TRELLIS << 4 | self.memory))
        fields += self.seed.to_bytes(2, "little") + self.fingerprint
        fields += b"".join(map(encode_varint, (self.width, self.height, self.tile)))
        return fields + bytes((crc8(fields),))


@dataclasses.dataclass(frozen=True, slots=True)
class Packet:
    """Steps of one tile towards more signal.

    Attributes:
        path_bits: K, the bits of one step's path through the trellis; one of `PATH_BITS`.
        increments: code of each step's increment of the signal-to-noise ratio
            (`noise_levels.increment`); 1 to 32 steps.
        paths: K / 8 bytes for each step.
        check: of the latent after the last step, one byte.

    Raises:
        ValueError: a value out of its range.
    """

    path_bits: int
    increments: tuple[int, ...]
    paths: bytes
    check: int

    def __post_init__(self) -> None:
        if self.path_bits not in PATH_BITS:
            raise ValueError(f"{self.path_bits} path bits; must be one of {PATH_BITS}")
        if not 1 <= len(self.increments) <= MOST_STEPS:
            raise ValueError(f"{len(self.increments)} steps; a packet holds 1 to {MOST_STEPS}")
        if not all(noise_levels.LOWEST <= i <= noise_levels.HIGHEST for i in self.increments):
            raise ValueError(f"increments out of range: {self.increments}")
        if 8 * len(self.paths) != self.path_bits * len(self.increments):
            raise ValueError(
                f"{len(self.paths)} bytes of paths for {len(self.increments)} steps "
                f"of {self.path_bits} bits"
            )
        if not 0 <= self.check < 256:
            raise ValueError(f"latent check {self.check} is not a byte")


@dataclasses.dataclass(frozen=True, slots=True)
class Residual:
    """The last packet of a tile, which makes it lossless; it has no steps.

    Attributes:
        payload: what `residual.encode_residual` made.
        crc: CRC-32 of the tile's pixels, as bytes in the order row, column, channel.
    """

    path_bits: ClassVar[int] = 0
    increments: ClassVar[tuple[int, ...]] = ()
    payload: bytes
    crc: int

    def __post_init__(self) -> None:
        if not 0 <= self.crc < 1 << 32:
            raise ValueError(f"{self.crc} is not a CRC-32")


class StreamWriter:
    """Writes a stream packet by packet: whose turn it is depends on the packets so far."""

    def __init__(self, header: Header):
        self._data = bytearray(header.to_bytes())
        self._checksum = self._data[-1]
        self._turns = Turns(header.n_tiles)

    @property
    def next_tile(self) -> int | None:
        """Raster index of the tile that the next packet belongs to; None when all are lossless."""
        return self._turns.tile

    def append(self, packet: Packet | Residual, most_bytes: int | None = None) -> int:
        """Writes the next packet of `next_tile`, if the stream then has `most_bytes` or fewer.

        Returns:
            Bytes of the stream so far; 0 if they would be too many, and nothing was written.

        Raises:
            ValueError: all tiles are lossless, or the tile's first packet is a residual.
        """
        if self.next_tile is None:
            raise ValueError("all tiles are lossless: there is no room for another packet")
        if isinstance(packet, Packet):
            size_code = PATH_BITS.index(packet.path_bits)
            head = bytes((size_code << 5 | len(packet.increments) - 1,))
            prediction = self._turns.prediction(packet.path_bits)
            increments = noise_levels.pack(packet.increments, prediction)
            body = head + increments + packet.paths + bytes((packet.check,))
        else:
            if not self._turns.started:
                raise ValueError(f"the first packet of tile {self.next_tile} is a residual")
            head = bytes((_RESIDUAL_HEAD,)) + encode_varint(len(packet.payload))
            body = head + packet.payload + packet.crc.to_bytes(_CRC32_BYTES, "little")
        if most_bytes is not None and len(self._data) + len(body) + 1 > most_bytes:
            return 0
        self._checksum = crc8(body, self._checksum)
        self._data += body + bytes((self._checksum,))
        self._turns.advance(packet.path_bits, packet.increments)
        return len(self._data)

    def to_bytes(self) -> bytes:
        """The stream so far."""
        return bytes(self._data)


def write_stream(header: Header, packets: Sequence[Sequence[Packet | Residual]]) -> bytes:
    """A whole stream of the packets of each tile, tiles in raster order.

    They are interleaved by the rule of the format, so that the tile with the least signal always goes next.

    Raises:
        ValueError: a tile without packets, or packets that the rule leaves no place for (those of a
            tile that is ahead of another one which has none left).
    """
    if len(packets) != header.n_tiles:
        raise ValueError(f"packets of {len(packets)} tiles; the image has {header.n_tiles}")
    writer = StreamWriter(header)
    left = [list(reversed(one)) for one in packets]
    while writer.next_tile is not None and left[writer.next_tile]:
        writer.append(left[writer.next_tile].pop())
    if any(left) or not all(packets):
        tile = writer.next_tile
        raise ValueError(
            "there are packets after a residual"
            if tile is None
            else f"it is the turn of tile {tile}, which has no packet left"
        )
    return writer.to_bytes()


@dataclasses.dataclass(frozen=True)
class Stream:
    """A parsed stream.

    Attributes:
        header: of the stream.
        packets: of each tile, tiles in raster order; at least one each.
        ends: size of the stream in bytes after each packet, in the order of the stream.
        order: raster index of each packet's tile, in the order of the stream.
        problem: why the data after the last packet are not used; None if there are none.
    """

    header: Header
    packets: list[list[Packet | Residual]]
    ends: list[int]
    order: list[int]
    problem: str | None


def parse(data: bytes) -> Stream:
    """Reads a stream, in time and memory proportional to its size, whatever its bytes.

    After a packet that is cut off or damaged nothing more is read; `Stream.problem` tells of it.

    Raises:
        InputError: not a stream that this version reads, or fewer packets than tiles. The message does
            not name the file.
    """
    header, start = _parse_header(data)
    if header.n_tiles * _SMALLEST_FIRST_PACKET > len(data) - start:
        raise InputError(
            f"is cut off or damaged: {len(data)} bytes cannot hold a packet for each tile of "
            f"{header.tile}x{header.tile} of an image of {header.width}x{header.height} pixels"
        )
    checksum = data[start - 1]
    turns = Turns(header.n_tiles)
    packets: list[list[Packet | Residual]] = [[] for _ in range(header.n_tiles)]
    ends: list[int] = []
    order: list[int] = []
    problem = None
    while start < len(data):
        if turns.tile is None:
            problem = f"{len(data) - start} bytes after the last packet are not used"
            break
        try:
            packet, end = _parse_packet(data, start, turns)
            checksum = crc8(data[start : end - 1], checksum)
            if data[end - 1] != checksum:
                raise _BadPacketError(
                    f"is damaged (checksum {data[end - 1]:02x} instead of {checksum:02x})"
                )
        except _BadPacketError as error:
            problem = f"packet {len(ends) + 1} (tile {turns.tile}, from byte {start}) {error}"
            break
        packets[turns.tile].append(packet)
        order.append(turns.tile)
        ends.append(end)
        turns.advance(packet.path_bits, packet.increments)
        start = end
    missing = sum(not one for one in packets)
    if missing:
        reason = problem or "the data end"
        raise InputError(f"holds no packet for {missing} of {header.n_tiles} tiles: {reason}")
    return Stream(header, packets, ends, order, problem)


class _BadPacketError(Exception):
    """Why a packet cannot be used; completes a sentence that begins with the packet."""


def _parse_header(data: bytes) -> tuple[Header, int]:
    if data[: len(_MAGIC)] != _MAGIC:
        raise InputError("is not a .diffc file" if data else "is empty")
    if len(data) > len(_MAGIC) and data[len(_MAGIC)] != _VERSION:
        raise InputError(
            f"has version {data[len(_MAGIC)]} of the format; this program reads version {_VERSION}"
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
    width, height, tile = sides
    seed, fingerprint = int.from_bytes(data[6:8], "little"), bytes(data[8:12])
    return Header(
        width, height, tile, scheme & 0xF, seed, fingerprint, grey=bool(flags & _GREY)
    ), end + 1


def _parse_packet(data: bytes, start: int, turns: Turns) -> tuple[Packet | Residual, int]:
    """The packet that begins at `start`, and the index after its checksum, which is not compared here."""
    try:
        if data[start] >= _RESIDUAL_HEAD:
            return _parse_residual(data, start, turns)
        path_bits = PATH_BITS[data[start] >> 5]
        n_steps = (data[start] & 0x1F) + 1
        increments, paths = noise_levels.unpack(
            data, start + 1, n_steps, turns.prediction(path_bits)
        )
    except EOFError:
        raise _BadPacketError("is cut off") from None
    except ValueError as error:
        raise _BadPacketError(f"is damaged ({error})") from None
    check = paths + n_steps * path_bits // 8
    end = check + 2
    if end > len(data):
        raise _BadPacketError("is cut off")
    return Packet(path_bits, tuple(increments), data[paths:check], data[check]), end


def _parse_residual(data: bytes, start: int, turns: Turns) -> tuple[Residual, int]:
    if data[start] != _RESIDUAL_HEAD:
        raise ValueError(f"unknown head {data[start]:02x}")
    if not turns.started:
        raise ValueError("a residual comes first")
    length, payload = decode_varint(data, start + 1)
    crc = payload + length
    end = crc + _CRC32_BYTES + 1
    if end > len(data):
        raise EOFError
    return Residual(data[payload:crc], int.from_bytes(data[crc : end - 1], "little")), end
