"""ICC profiles, all made of the one that Little CMS makes for sRGB."""

import struct

from PIL import ImageCms

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Its red and green primaries exchanged: in sRGB, images have these channels exchanged.
SWAPPED = (
    SRGB.replace(b"rXYZ", b"....").replace(b"gXYZ", b"rXYZ").replace(b"....", b"gXYZ")
).replace("sRGB built-in".encode("utf-16-be"), "swapped space".encode("utf-16-be"))


def _tag(name: bytes) -> int:
    """Where a tag's data begin."""
    (count,) = struct.unpack_from(">I", SRGB, 128)
    tags = dict(struct.unpack_from(">4sI4x", SRGB, 132 + 12 * i) for i in range(count))
    return tags[name]


def with_gamma(gamma: float, grey: bool = False) -> bytes:
    """sRGB's primaries, or grey, with a power function for the curve."""
    profile, curve = bytearray(SRGB), _tag(b"rTRC")
    struct.pack_into(">HxxI", profile, curve + 8, 0, round(65536 * gamma))
    if not grey:
        return bytes(profile)
    return bytes(profile).replace(b"RGB XYZ ", b"GRAYXYZ ").replace(b"rTRC", b"kTRC")


def with_primaries(matrix: list[list[float]]) -> bytes:
    """sRGB's curve with other primaries: rows are X, Y and Z (D50) of red, green and blue."""
    profile = bytearray(SRGB)
    for name, row in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix, strict=True):
        struct.pack_into(">3i", profile, _tag(name) + 8, *(round(65536 * value) for value in row))
    return bytes(profile)
