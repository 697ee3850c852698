"""What the headers of image files say and Pillow does not: bits per sample, and the colour space."""

import PIL.ImageFile
from PIL import TiffImagePlugin

from diffc_jax.runtime.boxes import boxes
from diffc_jax.runtime.png_data import png_chunks

_BITS_PER_SAMPLE, _PLANAR_CONFIGURATION, _PHOTOMETRIC = 258, 284, 262
# Code points of ITU-T H.273: BT.709 or unspecified; the curves of BT.709 and BT.601 pass for sRGB's.
_SRGB_PRIMARIES, _SRGB_TRANSFERS = (1, 2), (1, 2, 6, 13)
# Black and white (0, 15), CMYK, sRGB, grey, and sRGB as luma and chroma, all of which Pillow decodes.
_JP2_SPACES = (0, 12, 15, 16, 17, 18)
# PNG stores 1/2.2 for sRGB; other writers round it or mean the same by 0.45.
_SRGB_GAMMA, _GAMMA_TOLERANCE = 1 / 2.2, 0.05


def bits_per_sample(image: PIL.ImageFile.ImageFile, data: bytes) -> int:
    """The most bits that a channel has in the file, whatever Pillow makes of them.

    Args:
        image: opened by Pillow.
        data: the file.

    Raises:
        ValueError: a damaged header.
    """
    if image.format == "PNG":
        return data[24]  # of IHDR, always the first chunk
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
    if image.format == "PPM":
        return _ppm_bits(image)
    if image.format == "JPEG2000":
        return _jpeg2000_bits(data)
    if image.format == "AVIF":
        return max(_av1_bits(contents) for kind, contents in boxes(data) if kind == b"av1C")
    return 8  # GIF, WebP, BMP, and JPEG, of which Pillow reads no other


def _ppm_bits(image: PIL.ImageFile.ImageFile) -> int:
    if image.mode == "F":
        return 32
    arguments = image.tile[0].args  # a raw mode, alone or with the largest value
    if isinstance(arguments, tuple):
        return int(arguments[-1]).bit_length()
    return 16 if "16" in str(arguments) else 8


def _jpeg2000_bits(data: bytes) -> int:
    codestream = memoryview(data)
    if not data.startswith(b"\xff\x4f"):
        codestream = next(contents for kind, contents in boxes(data) if kind == b"jp2c")
    # SOC, SIZ, then 38 bytes up to the components, three bytes each.
    components = codestream[42 : 42 + 3 * int.from_bytes(codestream[40:42], "big")]
    return max(depth & 0x7F for depth in components[::3]) + 1


def _av1_bits(configuration: memoryview) -> int:
    high_bitdepth, twelve_bit = configuration[2] >> 6 & 1, configuration[2] >> 5 & 1
    return 8 + 2 * high_bitdepth + 2 * (high_bitdepth & twelve_bit)


def inconvertible(image: PIL.ImageFile.ImageFile, bits: int) -> str:
    """What the values are if they have no 8-bit counterpart, or Pillow gets them wrong; empty if neither."""
    if image.mode == "F":
        return "a floating-point image"
    if bits > 16:
        return "an image of 32-bit integers"
    if image.mode == "LAB":
        return "a LAB image"
    if bits <= 8:
        return ""
    if image.format == "JPEG2000" and image.mode != "I;16":
        return f"a {bits}-bit JPEG 2000 image"  # white becomes 256 and then black
    if image.format == "PNG" and "transparency" in image.info:
        # The low byte of the colour is compared with the high byte of each pixel.
        return f"a {bits}-bit image with a transparent colour"
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return ""
    if image.mode == "I":
        return f"a {bits}-bit image with signed values"
    if image.tag_v2.get(_PLANAR_CONFIGURATION) == 2:
        return (
            f"a {bits}-bit image with separate planes"  # uncompressed bytes are taken for samples
        )
    # Not inverted.
    return f"a {bits}-bit image where 0 is white" if image.tag_v2.get(_PHOTOMETRIC) == 0 else ""


def scale_transparent_grey(image: PIL.ImageFile.ImageFile, bits: int) -> None:
    """Brings the transparent value of a grey PNG file of 2 or 4 bits to 8 bits, as Pillow does pixels."""
    value = image.info.get("transparency")
    if image.format == "PNG" and image.mode == "L" and bits in (2, 4) and isinstance(value, int):
        image.info["transparency"] = value * 255 // (2**bits - 1)


def colour_space(image: PIL.ImageFile.ImageFile, data: bytes) -> tuple[bytes, str]:
    """How the file says what its colours are.

    Args:
        image: opened by Pillow.
        data: the file.

    Returns:
        An ICC profile, and without one the words that name colours other than sRGB's. One of them is
        empty; both are for sRGB and for files that do not say.

    Raises:
        ValueError: a damaged header.
    """
    profile, named = image.info.get("icc_profile") or b"", ""
    if image.format == "PNG":
        if points := _png_chunk(data, b"cICP"):
            profile, named = b"", _code_points(points[0], points[1])
        elif not profile and "srgb" not in image.info:
            gamma = image.info.get("gamma") or _SRGB_GAMMA
            close = abs(gamma / _SRGB_GAMMA - 1) < _GAMMA_TOLERANCE
            named = "" if close else f"with a gamma of {gamma:g}"
    elif image.format == "AVIF" and not profile:
        found = [bytes(contents) for kind, contents in boxes(data) if kind == b"colr"]
        named = next((_code_points(c[5], c[7]) for c in found if c.startswith(b"nclx")), "")
    elif image.format == "JPEG2000" and not data.startswith(b"\xff\x4f"):
        profile, named = _jp2_colours(data)
    return profile, named


def _jp2_colours(data: bytes) -> tuple[bytes, str]:
    """The first statement that is a number or an ICC profile, as `colour_space` returns it."""
    for kind, contents in boxes(data):
        if kind == b"colr" and contents[0] in (2, 3):
            return bytes(contents[3:]), ""
        if kind == b"colr" and contents[0] == 1:
            number = int.from_bytes(contents[3:7], "big")
            return (
                b"",
                "" if number in _JP2_SPACES else f"in the colour space {number} of JPEG 2000",
            )
    return b"", ""


def _png_chunk(data: bytes, wanted: bytes) -> bytes:
    """The first of this type before the image data; nothing if there is none."""
    for kind, contents in png_chunks(data):
        if kind == wanted:
            return contents
        if kind == b"IDAT":
            break
    return b""


def _code_points(primaries: int, transfer: int) -> str:
    if primaries in _SRGB_PRIMARIES and transfer in _SRGB_TRANSFERS:
        return ""
    return f"in the colour space {primaries}/{transfer} of ITU-T H.273"
