"""Every row of the table in docs/usage.md: what each entry point makes of an image file."""

import io
import re
import zlib

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile

from diffc_jax.data.decoding import UnreadableImageError
from diffc_jax.errors import InputError
from diffc_jax.runtime.image_files import decode_image_file
from tests.support.colour_profiles import SRGB, SWAPPED, with_gamma
from tests.support.image_files import encoded, jpeg2000, pixels, png, prepared, read, refusal

RGB = pixels(1)
GREY = RGB[:, :, 0]
DEEP = np.random.default_rng(2).integers(0, 65536, (8, 8, 3)).astype(np.uint16)
DEEP[0, 0] = 65535


def tiff(image, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, image, **options)
    return stream.getvalue()


def avif(image, bits):
    return bytes(imagecodecs.avif_encode(image, level=100, bitspersample=bits))


def grey(image):
    return np.repeat(image[:, :, None], 3, axis=2)


def blended(image, alpha):
    """Over black."""
    return np.round(image * (alpha / 255))


PALETTE = PIL.Image.fromarray(RGB).quantize(16)
TRANSPARENT = PALETTE.copy()
TRANSPARENT.info["transparency"] = PALETTE.getpixel((0, 0))
RGBA = np.dstack([RGB, GREY])
FRAMES = [PIL.Image.fromarray(pixels(i)) for i in (1, 2)]
TURNED = PIL.Image.Exif()
TURNED[0x0112] = 6  # a quarter turn clockwise
FLOATS = (GREY / 255).astype(np.float32)
BINARY = PIL.Image.fromarray(GREY).convert("1")
CMYK = PIL.Image.fromarray(RGB).convert("CMYK")
ALPHA = "has transparency; put it on a background first"
TO_8_BITS = "convert it to 8-bit RGB or grey first"
GAMMA_1 = (100_000).to_bytes(4, "big")
PQ = bytes([9, 16, 0, 1])
P3_AVIF = encoded(PIL.Image.fromarray(RGB), "AVIF", quality=100, subsampling="4:4:4").replace(
    b"nclx\x00\x01", b"nclx\x00\x0c"
)

ACCEPTED_BY_ALL = {
    "png": encoded(RGB),
    "png, 1/2.2": png(RGB, {b"gAMA": (45455).to_bytes(4, "big")}),
    "png, sRGB before gamma": png(RGB, {b"sRGB": b"\0", b"gAMA": GAMMA_1}),
    "png, code points of sRGB": png(RGB, {b"cICP": bytes([1, 13, 0, 1]), b"gAMA": GAMMA_1}),
    "png, profile of sRGB": encoded(RGB, icc_profile=SRGB),
    "png, code points before profile": png(
        RGB, {b"cICP": bytes([1, 13, 0, 1]), b"iCCP": b"x\0\0" + zlib.compress(SWAPPED)}
    ),
    "tiff": encoded(RGB, "TIFF"),
    "tiff, separate planes": tiff(
        np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"
    ),
    "webp": encoded(RGB, "WEBP", lossless=True),
    "bmp": encoded(RGB, "BMP"),
    "ppm": encoded(RGB, "PPM"),
    "jpeg 2000": jpeg2000(RGB),
    "jpeg 2000, codestream": jpeg2000(RGB, codecformat="j2k"),
}
REFUSED_BY_ALL = {
    "float": (encoded(FLOATS, "TIFF"), "a floating-point image"),
    "float, pfm": (encoded(FLOATS, "PPM"), "a floating-point image"),
    "32 bits": (encoded(GREY.astype(np.int32), "TIFF"), "an image of 32-bit integers"),
    "signed": (tiff(DEEP[:, :, 0].astype(np.int16)), "a 16-bit image with signed values"),
    "0 is white": (
        tiff(DEEP[:, :, 0], photometric="miniswhite"),
        "a 16-bit image where 0 is white",
    ),
    "separate planes": (
        tiff(np.moveaxis(DEEP, -1, 0), photometric="rgb", planarconfig="separate"),
        "a 16-bit image with separate planes",
    ),
    "transparent colour": (
        png(DEEP, {b"tRNS": b"\x12\x34" * 3}),
        "a 16-bit image with a transparent colour",
    ),
    "transparent grey": (
        png(DEEP[:, :, 0], {b"tRNS": b"\x12\x34"}),
        "a 16-bit image with a transparent colour",
    ),
    "lab": (tiff(RGB, photometric="cielab"), "a LAB image"),
    "jpeg 2000": (jpeg2000(DEEP), "a 16-bit JPEG 2000 image"),
    "jpeg 2000, codestream": (
        jpeg2000(DEEP >> 6, codecformat="j2k", bitspersample=10),
        "a 10-bit JPEG 2000 image",
    ),
    "jpeg 2000, 9 bits": (
        jpeg2000(DEEP[:, :, 0] >> 7, bitspersample=9),
        "a 9-bit JPEG 2000 image",
    ),
}
# Refused unless converted: the file, what it is, the values it becomes, and their largest error.
CONVERTED = {
    "16 bits": (png(DEEP), "a 16-bit image", DEEP >> 8, 0),
    "16 bits, tiff": (tiff(DEEP, photometric="rgb"), "a 16-bit image", DEEP >> 8, 0),
    "16 bits, ppm": (
        b"P6 8 8 65535\n" + DEEP.astype(">u2").tobytes(),
        "a 16-bit image",
        DEEP / 257,
        0.5,
    ),
    "16 bits, cmyk": (
        tiff(np.dstack([DEEP, DEEP[:, :, 0]]), photometric="separated"),
        "a 16-bit image",
        None,
        0,
    ),
    "10 bits, avif": (avif(DEEP >> 6, 10), "a 10-bit image", DEEP / 257, 2),
    "12 bits, avif": (avif(DEEP >> 4, 12), "a 12-bit image", DEEP / 257, 2),
    "16 bits, grey": (png(DEEP[:, :, 0]), "a 16-bit image", grey(DEEP[:, :, 0] >> 8), 0),
    "16 bits, grey tiff": (tiff(DEEP[:, :, 0]), "a 16-bit image", grey(DEEP[:, :, 0] >> 8), 0),
    "16 bits, grey pgm": (
        encoded(PIL.Image.fromarray(DEEP[:, :, 0]), "PPM"),
        "a 16-bit image",
        grey(DEEP[:, :, 0] >> 8),
        0,
    ),
    "12 bits, grey tiff": (
        tiff(DEEP[:, :, 0] >> 4, bitspersample=12),
        "a 12-bit image",
        grey(DEEP[:, :, 0] >> 8),
        0,
    ),
    "12 bits, grey jpeg 2000": (
        jpeg2000(DEEP[:, :, 0] >> 4, bitspersample=12),
        "a 12-bit image",
        grey(DEEP[:, :, 0] >> 8),
        0,
    ),
    "alpha": (encoded(RGBA), "an image with alpha", blended(RGB, RGBA[:, :, 3:]), 1),
    "grey and alpha": (
        encoded(RGBA[:, :, 2:]),
        "an image with alpha",
        grey(blended(RGBA[:, :, 2], GREY)),
        1,
    ),
    "transparent entry of a palette": (encoded(TRANSPARENT), "an image with alpha", None, 0),
    "alpha and profile": (
        encoded(RGBA, icc_profile=SWAPPED),
        "an image with alpha",
        blended(RGB[:, :, [1, 0, 2]], RGBA[:, :, 3:]),
        1,
    ),
    "cmyk": (encoded(CMYK, "TIFF"), "a CMYK image", RGB, 0),
    "frames": (
        encoded(FRAMES[0], "WEBP", lossless=True, save_all=True, append_images=FRAMES[1:]),
        "an image with 2 frames",
        RGB,
        0,
    ),
    "frames, gif": (
        encoded(PALETTE, "GIF", save_all=True, append_images=[PALETTE.rotate(90)]),
        "an image with 2 frames",
        np.asarray(PALETTE.convert("RGB")),
        0,
    ),
    "frames, avif": (
        encoded(FRAMES[0], "AVIF", save_all=True, append_images=FRAMES[1:]),
        "an image with 2 frames",
        None,
        0,
    ),
    "animated png": (
        encoded(FRAMES[0], save_all=True, append_images=FRAMES[1:]),
        "an image with 2 frames",
        RGB,
        0,
    ),
    "pages": (
        encoded(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]),
        "an image with 2 frames",
        RGB,
        0,
    ),
    "gamma": (png(RGB, {b"gAMA": GAMMA_1}), "an image with a gamma of 1", RGB, 0),
    "gamma of old displays": (
        png(RGB, {b"gAMA": (55556).to_bytes(4, "big")}),
        "an image with a gamma of 0.55556",
        RGB,
        0,
    ),
    "code points": (
        png(RGB, {b"cICP": PQ}),
        "an image in the colour space 9/16 of ITU-T H.273",
        RGB,
        0,
    ),
    "code points, avif": (
        P3_AVIF,
        "an image in the colour space 12/13 of ITU-T H.273",
        None,
        0,
    ),
    "damaged profile": (
        encoded(RGB, icc_profile=SRGB[:300]),
        "an image with a colour profile that cannot be used",
        RGB,
        0,
    ),
    "profile of grey": (
        encoded(RGB, icc_profile=with_gamma(1.0, grey=True)),
        "an image with a colour profile that cannot be used",
        RGB,
        0,
    ),
}
# Taken by compress.py: what it reads, then as above.
READ = {
    "grey": (encoded(GREY), GREY[:, :, None], "a grey image", grey(GREY)),
    "black and white": (
        encoded(BINARY),
        255 * np.asarray(BINARY)[:, :, None],
        "a black-and-white image",
        grey(255 * np.asarray(BINARY)),
    ),
    "palette": (
        encoded(PALETTE),
        np.asarray(PALETTE.convert("RGB")),
        "a palette image",
        np.asarray(PALETTE.convert("RGB")),
    ),
    "turned": (encoded(PIL.Image.fromarray(RGB), exif=TURNED), np.rot90(RGB, -1), None, RGB),
    # Pillow turns TIFF files by itself.
    "turned tiff": (
        encoded(PIL.Image.fromarray(RGB), "TIFF", tiffinfo={274: 6}),
        np.rot90(RGB, -1),
        None,
        np.rot90(RGB, -1),
    ),
    "several pictures": (
        encoded(FRAMES[0], "MPO", quality=100, save_all=True, append_images=FRAMES[1:]),
        None,
        None,
        None,
    ),
}


@pytest.mark.parametrize("content", ACCEPTED_BY_ALL.values(), ids=ACCEPTED_BY_ALL)
def test_8_bit_rgb_is_read_as_it_is(content, tmp_path):
    np.testing.assert_array_equal(read(tmp_path, content, exact=True), RGB)
    np.testing.assert_array_equal(prepared(content), RGB)


@pytest.mark.parametrize(("content", "kind"), REFUSED_BY_ALL.values(), ids=REFUSED_BY_ALL)
def test_values_without_8_bit_counterpart_are_refused_by_all(content, kind, tmp_path):
    assert refusal(read, tmp_path, content) == f"x: is {kind}; {TO_8_BITS}"
    for non_rgb in ("refuse", "convert"):
        message = f"x: is {kind}, which is not converted; save it with 8 bits a channel"
        assert refusal(prepared, content, non_rgb=non_rgb) == message


@pytest.mark.parametrize(("content", "kind", "values", "error"), CONVERTED.values(), ids=CONVERTED)
def test_what_would_be_changed_is_refused_unless_asked_for(content, kind, values, error, tmp_path):
    reasons = {
        "an image with alpha": ALPHA,
        "an image with 2 frames": "has 2 frames; save the one to be encoded",
    }
    fix = TO_8_BITS if "bit" in kind or "CMYK" in kind else "convert it to sRGB first"
    assert refusal(read, tmp_path, content) == f"x: {reasons.get(kind, f'is {kind}; {fix}')}"
    assert refusal(prepared, content) == (
        f"x: is {kind}, not 8-bit RGB; set non_rgb=convert to convert such images"
    )
    found = prepared(content, non_rgb="convert")
    assert found.shape == RGB.shape
    if values is not None:
        assert np.abs(found - np.asarray(values, float)).max() <= error


@pytest.mark.parametrize(("content", "pixels", "kind", "converted"), READ.values(), ids=READ)
def test_what_compress_reads_without_loss(content, pixels, kind, converted, tmp_path):
    if pixels is None:  # JPEG: what Pillow makes of the first
        with PIL.Image.open(io.BytesIO(content)) as first:
            pixels = converted = np.asarray(first)
    np.testing.assert_array_equal(read(tmp_path, content, exact=True), pixels)
    if kind:
        assert refusal(prepared, content) == (
            f"x: is {kind}, not 8-bit RGB; set non_rgb=convert to convert such images"
        )
    else:
        np.testing.assert_array_equal(prepared(content), converted)
    np.testing.assert_array_equal(prepared(content, non_rgb="convert"), converted)


# Files that cannot be decoded


def damaged():
    """Files in which Pillow 13 finds a flaw in as many ways, by the class of its error."""
    found = {}
    files = {
        "png": encoded(RGB),
        "jpeg": encoded(RGB, "JPEG"),
        "avif": encoded(RGB, "AVIF"),
        "tiff": encoded(FLOATS, "TIFF"),
    }
    for name, whole in files.items():
        for position in range(0, len(whole), 3):
            broken = bytearray(whole)
            broken[position] ^= 0xFF
            try:
                with PIL.Image.open(io.BytesIO(broken)) as image:
                    image.load()
            except Exception as error:
                found.setdefault((name, type(error).__name__), bytes(broken))
    return found


def test_sizes_are_compared_before_anything_is_decoded():
    content = encoded(np.zeros((8, 12, 3), np.uint8))[:44]
    with pytest.raises(InputError, match=r"^x: is 12x8, not 8x8; set resize="):
        prepared(content)


def test_a_transparent_colour_is_left_in_the_image():
    """Where the pixels are RGB already they are not copied; what changes them is."""
    decoded = decode_image_file(png(RGB, {b"tRNS": bytes(6)}), "x")
    assert (decoded.has_alpha, decoded.to_rgb().mode) == (True, "RGB")
    assert decoded.image.mode == "RGB"


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_grey_value_of_few_bits_is_put_on_black(bits):
    """Pillow stretches the pixels to 8 bits, and leaves the value as it is."""
    most = 2**bits - 1
    rows = np.packbits(np.tile([1] * bits + [0] * bits, (8, 4)).astype(np.uint8), axis=1)
    content = png(rows, {b"tRNS": most.to_bytes(2, "big")}, width=8, bits=bits)
    decoded = decode_image_file(content, "x")
    assert np.asarray(decoded.image.convert("L"))[0, :2].tolist() == [255, 0]
    assert decoded.has_alpha
    np.testing.assert_array_equal(decoded.to_rgb(), np.zeros((8, 8, 3)))


@pytest.mark.filterwarnings("ignore:::PIL")
def test_whatever_the_decoder_raises_is_one_line(tmp_path):
    found = damaged()
    assert {"OSError", "RuntimeError", "UnidentifiedImageError"} <= {kind for _, kind in found}
    for content in (*found.values(), b"", b"junk", encoded(RGB)[:60]):
        message = refusal(read, tmp_path, content)
        assert re.fullmatch(r"x: cannot be decoded \(.+\)", message)
        assert not re.search("object at 0x", message)
        with pytest.raises(UnreadableImageError) as caught:
            prepared(content, resize="squash")
        assert caught.value.flaw == message
        assert str(caught.value) == f"{message}; set skip_corrupt=True to leave it out"


def test_formats_for_other_programs_are_not_opened(tmp_path):
    """Pillow hands PostScript to an interpreter."""
    content = encoded(RGB, "EPS")
    assert refusal(read, tmp_path, content) == (
        "x: cannot be decoded (unknown image format or kind of pixels)"
    )
