"""How many bytes of a compressed file describe the image, found by parsing the container.

At 64x64 pixels a hundred constant bytes are 0.2 bits per pixel, so the difference matters. Each
function takes a whole file and counts the bytes that differ from image to image at a fixed setting;
its docstring names what is left out. A file that does not parse raises `ValueError`.
"""

from collections.abc import Iterator

from diffc_jax.runtime.boxes import boxes

# Markers without a length field: TEM, the restart markers, SOI, EOI.
_JPEG_STANDALONE = {0x01, *range(0xD0, 0xDA)}
_DHT, _SOS, _EOI = 0xC4, 0xDA, 0xD9
_J2K_SOC, _J2K_COMMENT, _J2K_TILE, _J2K_DATA, _J2K_EOC = 0xFF4F, 0xFF64, 0xFF90, 0xFF93, 0xFFD9


def jpeg_payload(data: bytes) -> int:
    """Entropy-coded scans plus the Huffman tables, which the encoder fits to each image.

    Left out: SOI, JFIF and other APP segments, comments, quantisation tables (fixed by the
    quality), frame and scan headers, EOI.
    """
    if not data.startswith(b"\xff\xd8"):
        raise ValueError("not a JPEG file")
    payload, position = 0, 2
    while True:
        if position + 4 > len(data) and data[position : position + 2] != b"\xff\xd9":
            raise ValueError("JPEG file ends before its EOI marker")
        if data[position] != 0xFF:
            raise ValueError(f"JPEG file has no marker at byte {position}")
        marker = data[position + 1]
        if marker == _EOI:
            return payload
        if marker in _JPEG_STANDALONE:
            position += 2
            continue
        size = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        payload += size if marker == _DHT else 0
        position += size
        if marker == _SOS:
            end = _end_of_scan(data, position)
            payload += end - position
            position = end


def _end_of_scan(data: bytes, position: int) -> int:
    """First marker from `position` on that is neither a stuffed byte (FF 00) nor a restart."""
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            raise ValueError("JPEG file ends before its EOI marker")
        if data[position + 1] != 0 and not 0xD0 <= data[position + 1] <= 0xD7:
            return position
        position += 2


def webp_payload(data: bytes) -> int:
    """The VP8 (or VP8L) bitstream, whose 10-byte frame header is counted.

    Left out: the RIFF header, chunk headers, padding to even length, all other chunks.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        raise ValueError("not a WebP file")
    payload, position = 0, 12
    while position + 8 <= len(data):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        payload += size if data[position : position + 4] in (b"VP8 ", b"VP8L") else 0
        position += 8 + size + size % 2
    return payload


def avif_payload(data: bytes) -> int:
    """Contents of the `mdat` boxes: the AV1 bitstream with its sequence and frame headers.

    Left out: every other box (`ftyp`, `meta`) and the box headers.
    """
    try:
        return sum(len(contents) for kind, contents in boxes(data) if kind == b"mdat")
    except ValueError as error:
        raise ValueError(f"AVIF file has a {error}") from error


def jpegxl_payload(data: bytes) -> int:
    """The frame of a bare codestream, with its frame header and table of contents.

    Left out: signature, size and metadata, 4 bytes of an image whose sides are multiples of 8. The
    metadata have to be the default ones (8-bit sRGB, stored as XYB), as those of lossy RGB files are.
    """
    if not data.startswith(b"\xff\x0a"):
        raise ValueError("not a bare JPEG XL codestream")
    bits, position = int.from_bytes(data[2:16], "little"), 0

    def take(count: int) -> int:
        nonlocal position
        position += count
        return bits >> (position - count) & ((1 << count) - 1)

    is_multiple_of_8 = take(1)
    for is_width in (False, True):
        take(5 if is_multiple_of_8 else (9, 13, 18, 30)[take(2)])
        if not is_width and take(3):  # an aspect ratio in place of the width
            break
    default_metadata, default_transforms = take(1), take(1)
    header = 2 + (position + 7) // 8
    if not (default_metadata and default_transforms) or len(data) <= header:
        raise ValueError("JPEG XL codestream has metadata of its own, or no frame")
    return len(data) - header


def jpeg2000_payload(data: bytes) -> int:
    """Packets of all tile-parts of a raw codestream (.j2k), with their packet headers.

    Left out: the main header (SIZ, COD, QCD, comments), tile-part headers, EOC.
    """
    payload = 0
    position = sum(size for _, _, size in _j2k_main_header(data))
    while data[position : position + 2] == _J2K_TILE.to_bytes(2, "big"):
        tile_size = int.from_bytes(data[position + 6 : position + 10], "big")
        end = position + tile_size if tile_size else len(data) - 2
        start = position + 12
        while data[start : start + 2] != _J2K_DATA.to_bytes(2, "big"):
            if start >= end:
                raise ValueError("JPEG 2000 tile-part has no data")
            start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        payload += end - (start + 2)
        position = end
    if data[position:] != _J2K_EOC.to_bytes(2, "big"):
        raise ValueError(f"JPEG 2000 codestream does not end at byte {position}")
    return payload


def without_jpeg2000_comments(data: bytes) -> bytes:
    """The same codestream without the comment in which the encoder names itself (37 bytes)."""
    segments = list(_j2k_main_header(data))
    header = b"".join(
        data[start : start + size] for marker, start, size in segments if marker != _J2K_COMMENT
    )
    return header + data[sum(size for _, _, size in segments) :]


def _j2k_main_header(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, first byte and size (marker included) of each segment before the first tile-part."""
    if not data.startswith(_J2K_SOC.to_bytes(2, "big")):
        raise ValueError("not a JPEG 2000 codestream")
    yield _J2K_SOC, 0, 2
    position = 2
    while (marker := int.from_bytes(data[position : position + 2], "big")) != _J2K_TILE:
        if position + 4 > len(data):
            raise ValueError("JPEG 2000 codestream ends in its main header")
        size = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        yield marker, position, size
        position += size
