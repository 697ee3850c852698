"""Whether a PNG file has the pixels that its header declares.

Pillow fills with black what is missing where the compressed data end properly (seen with 13.0.0), so that a
small file could pass for a large picture.
"""

import struct
import zlib
from collections.abc import Iterator

_SIGNATURE_BYTES = 8
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First column and row, and steps, of the passes of Adam7 (PNG specification, section 8.1).
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_AT_ONCE = 1 << 18


def is_short(data: bytes) -> bool:
    """Whether the first image of a PNG file has fewer bytes of pixels than its size and type need.

    Other damage is left to the decoder. Takes time and memory in proportion to the file, not to its claims.
    """
    try:
        width, height, bits, kind, *_, interlaced = struct.unpack(">IIBBBBB", data[16:29])
        needed = _bytes_of_pixels(width, height, bits * _CHANNELS[kind], bool(interlaced))
    except (struct.error, KeyError):
        return False
    inflate = zlib.decompressobj()
    for part in (contents for kind, contents in png_chunks(data) if kind == b"IDAT"):
        while part and needed > 0 and not inflate.eof:
            try:
                needed -= len(inflate.decompress(part, _AT_ONCE))
            except zlib.error:
                return False
            part = inflate.unconsumed_tail
    return inflate.eof and needed > 0


def _bytes_of_pixels(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of all rows, each with that of its filter; `bits` of a pixel."""
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -((left - width) // across), -((top - height) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Types and contents of the chunks of a PNG file; the last contents may be cut off."""
    position = _SIGNATURE_BYTES
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, data[position + 8 : position + 8 + length]
        position += 12 + length
