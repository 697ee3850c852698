"""The header of a `.diffc` file, version 2; see docs/format.md."""

from diffc_jax.channel_simulation.open_trellis_reach import LEAST_BITS, MEMORIES
from diffc_jax.codec import stream
from diffc_jax.codec.framing import decode_varint, encode_varint
from diffc_jax.codec.stream import Header
from diffc_jax.errors import InputError

DEFAULT_MEMORY = 14
# Bits of what a packet ends with: a check of a latent, a checksum.
CHECK_BITS, CRC_BITS = stream.CHECK_BITS[2], 8

# Of tiles that are coded apart, and of a picture as a whole.
_TILES, _PICTURE = MAGICS = 0xD2, 0xD3
# Flags: three bits say that tiles have sides of 4 to 256 pixels (0: a varint does), the others are set
# for whatever is not usual.
_SIDES = (0, 4, 8, 16, 32, 64, 128, 256)
_GREY, _SIZE, _MEMORY, _LONG_SEED, _LOSSLESS = 8, 16, 32, 64, 128


def header_bytes(header: Header) -> bytes:
    """The header as it stands in a file: five bytes for one tile with nothing unusual, 25 at most."""
    side = _SIDES.index(header.tile) if header.tile in _SIDES[1:] else 0
    flags, more = side, b""
    if not side:
        more += encode_varint(header.tile)
    if header.grey:
        flags |= _GREY
    if (header.width, header.height) != (header.tile, header.tile):
        flags |= _SIZE
        more += encode_varint(header.width) + encode_varint(header.height)
    if header.memory != DEFAULT_MEMORY:
        flags |= _MEMORY
        more += bytes((header.memory,))
    seed = header.seed.to_bytes(1 if header.seed < 256 else 2, "little")
    if len(seed) > 1:
        flags |= _LONG_SEED
    if header.n_steps is not None:
        flags |= _LOSSLESS
        more += encode_varint(header.n_steps)
    magic = _TILES
    if header.stride is not None:
        magic = _PICTURE
        more += encode_varint(header.stride) + bytes((header.octaves,))
    return bytes((magic, flags)) + seed + header.fingerprint + more


def least_bytes(header: Header) -> int:
    """Bytes that no stream with this header is below."""
    bits = header.n_chains * LEAST_BITS + CHECK_BITS + CRC_BITS
    return len(header_bytes(header)) + -(-bits // 8)


def parse_header(data: bytes) -> tuple[Header, int]:
    """Header of data that begin with one of `MAGICS`, and the index of the byte after it.

    Raises:
        InputError: it is cut off, damaged, or of a file that this version does not read.
    """
    try:
        flags = data[1]
        seed_bytes = 2 if flags & _LONG_SEED else 1
        seed, start = int.from_bytes(data[2 : 2 + seed_bytes], "little"), 2 + seed_bytes
        end = start + stream.FINGERPRINT_BYTES[2]
        fingerprint = data[start:end]
        tile, memory, n_steps = _SIDES[flags & 7], DEFAULT_MEMORY, None
        if not tile:
            tile, end = decode_varint(data, end)
        width = height = tile
        if flags & _SIZE:
            width, end = decode_varint(data, end)
            height, end = decode_varint(data, end)
        if flags & _MEMORY:
            memory, end = data[end], end + 1
        if flags & _LOSSLESS:
            n_steps, end = decode_varint(data, end)
        stride, octaves = None, 0
        if data[0] == _PICTURE:
            stride, end = decode_varint(data, end)
            octaves, end = data[end], end + 1
        if end > len(data):
            raise EOFError
    except (EOFError, IndexError):
        raise InputError(f"is cut off inside the header, after {len(data)} bytes") from None
    except ValueError as error:
        raise InputError(f"has a damaged header ({error})") from None
    if memory not in MEMORIES:
        raise InputError(
            f"has a trellis of memory {memory}, which this version does not know, or is damaged"
        )
    grey = bool(flags & _GREY)
    fields = (width, height, tile, memory, seed, fingerprint, grey, n_steps)
    return Header(*fields, stride=stride, octaves=octaves), end
