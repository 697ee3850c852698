"""Boxes, of which AVIF and JPEG 2000 (JP2) files consist: ISO/IEC 14496-12 and 15444-1 annex I."""

from collections.abc import Iterator

# Boxes that hold boxes on the way to an image's properties, with the bytes before the first of these.
_PARENTS = {
    b"meta": 4,
    b"iprp": 0,
    b"ipco": 0,
    b"jp2h": 0,
    b"moov": 0,
    b"trak": 0,
    b"mdia": 0,
    b"minf": 0,
    b"stbl": 0,
    b"stsd": 8,
    b"av01": 78,
}


def boxes(data: bytes | memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Type and contents of every box, in the order of the file, boxes inside boxes too.

    Raises:
        ValueError: a box whose size cannot be.
    """
    view, position = memoryview(data), 0
    while position + 8 <= len(view):
        size, header = int.from_bytes(view[position : position + 4], "big"), 8
        kind = bytes(view[position + 4 : position + 8])
        if size == 1:
            size, header = int.from_bytes(view[position + 8 : position + 16], "big"), 16
        elif size == 0:
            size = len(view) - position
        if not header <= size <= len(view) - position:
            raise ValueError(f"broken box {kind!r} at byte {position}")
        contents = view[position + header : position + size]
        if kind in _PARENTS:
            yield from boxes(contents[_PARENTS[kind] :])
        else:
            yield kind, contents
        position += size
