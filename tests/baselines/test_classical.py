"""Classical codecs: their ladders, the bytes that describe an image, and what is refused."""

import dataclasses
import io
import itertools
import math
import re
from concurrent.futures import ThreadPoolExecutor

import av
import imagecodecs
import numpy as np
import pytest
from PIL import Image
from skimage import data
from skimage.metrics import peak_signal_noise_ratio

from diffc_jax.baselines import classical, codecs, containers, hevc, lossless, points
from diffc_jax.errors import InputError, UsageError
from diffc_jax.metrics import psnr

NAMES = tuple(codecs.CODECS)


@pytest.fixture(autouse=True)
def fast_avif(monkeypatch):
    """The slowest encoder in its fast mode; what is tested here does not depend on it."""
    codec = codecs.CODECS["avif"]
    fast = dataclasses.replace(codec, settings={**codec.settings, "speed": 8})
    monkeypatch.setitem(codecs.CODECS, "avif", fast)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Six 64x64 crops of a photograph, from smooth to detailed."""
    photograph = Image.fromarray(data.astronaut())
    corners = ((150, 0, 256), (0, 200, 64), (60, 90, 128))
    boxes = [(x, y, x + size, y + size) for x, y, size in corners]
    crops = [photograph.crop(box).resize((64, 64), Image.Resampling.BOX) for box in boxes]
    return np.stack([np.asarray(image) for crop in crops for image in (crop, crop.rotate(90))])


def _evaluate(images, codecs, max_workers=None, **kwargs):
    found = []
    with ThreadPoolExecutor(max_workers) as pool:
        for baseline in classical.classical_baselines(codecs, pool, **kwargs):
            indices = np.arange(len(images))
            coded = baseline.code(images, indices, on_files=lambda count: None)
            identity = {**baseline.identity, "dataset": "photos", "split": "test"}
            n_pixels, errors = images[0, ..., 0].size, psnr.mse(images, coded.decoded)
            every = range(len(images))
            found.append((points.CodecPoint(identity, every, n_pixels, coded.sizes, errors), coded))
    rows = [row for point, _ in found for row in point.rows()]
    return [point.point for point, _ in found], rows, [coded.decoded for _, coded in found]


@pytest.mark.parametrize("name", NAMES)
def test_default_ladder_climbs_in_rate_and_quality(name, photos):
    """No sizes: they belong to the version of the encoder."""
    points, _, _ = _evaluate(photos, (name,))
    codec = codecs.CODECS[name]
    assert [point.level for point in points] == list(codec.qualities)
    for worse, better in itertools.pairwise(points):
        assert worse.bpp < 1.02 * better.bpp
        assert worse.psnr < better.psnr + 0.1
    assert points[-1].bpp > 3 * points[0].bpp
    assert points[-1].psnr > points[0].psnr + 10
    assert points[-1].bpp > 4 or codec.qualities[-1] in codec.quality_range
    assert {(p.method, p.model, p.rate_kind) for p in points} == {
        (codec.method, codec.model, "file")
    }


@pytest.mark.parametrize("name", NAMES)
def test_points_and_rows_agree_with_the_files(name, photos):
    codec = codecs.CODECS[name]
    quality = codec.qualities[4]
    (point,), rows, (found,) = _evaluate(photos, (name,), qualities={name: (quality,)})
    files = [codec.encode(image, quality, index) for index, image in enumerate(photos)]
    decoded = np.stack([codec.decode(file) for file in files])
    assert decoded.shape == photos.shape
    assert decoded.dtype == np.uint8
    bits = np.array([8 * len(file) / 64**2 for file in files])
    assert point.bpp == pytest.approx(bits.mean(), rel=1e-12)
    assert point.bpp_stderr == pytest.approx(bits.std(ddof=1) / math.sqrt(6), rel=1e-12)
    assert point.psnr == pytest.approx(peak_signal_noise_ratio(photos, decoded), abs=1e-9)
    assert (point.n_images, point.dataset, point.split) == (6, "photos", "test")
    assert [tuple(row) for row in rows] == [points.PER_IMAGE_FIELDS] * 6
    assert [row["index"] for row in rows] == list(range(6))
    np.testing.assert_array_equal(found, decoded)
    assert [row["bpp"] for row in rows] == pytest.approx(list(bits))
    assert np.mean([row["psnr"] for row in rows]) == pytest.approx(point.psnr_mean)
    assert np.mean([row["mse"] for row in rows]) == pytest.approx(point.mse)
    assert np.mean([row["bpp_headerless"] for row in rows]) == pytest.approx(point.bpp_headerless)


@pytest.mark.parametrize("name", NAMES)
def test_threads_and_batches_change_nothing(name, photos):
    ladder = {name: codecs.CODECS[name].qualities[2:9:3]}
    _, rows, _ = _evaluate(photos, (name,), qualities=ladder, max_workers=1)
    _, threaded, _ = _evaluate(photos, (name,), qualities=ladder, max_workers=5)
    _, first, _ = _evaluate(photos[:2], (name,), qualities=ladder)
    assert rows == threaded
    assert first == [row for row in rows if row["index"] < 2]


@pytest.mark.parametrize("name", NAMES)
def test_header_is_what_images_share(name, photos):
    """The bytes not counted are the same number for every image: that of the format, or a plausible one."""
    codec = codecs.CODECS[name]
    for quality in (codec.qualities[0], codec.qualities[-3]):
        files = [codec.encode(image, quality) for image in photos]
        headers = {len(file) - codec.payload(file) for file in files}
        low, high = {
            "jpeg": (124, 124),  # 20 SOI + APP0, 69 DQT, 19 SOF, 14 SOS, 2 EOI
            "webp": (20, 21),  # RIFF and chunk headers, padding
            # 2 SOC, 49 SIZ, 14 COD, 5 + 2 QCD for each of 10 subbands, 12 SOT, 2 SOD, 2 EOC
            "jpeg2000": (106, 106),
            "avif": (150, 500),  # boxes of libavif
            "jpegxl": (4, 4),  # signature, size, default metadata
            "hevc": (50, 120),  # 4 start codes (15 bytes); VPS, SPS, PPS of x265
            "dithered_pcm": (9, 9),
        }[codec.method]
        assert all(low <= header <= high for header in headers), headers
        assert len(headers) <= (2 if name == "webp" else 1)


def test_jpeg_payload_counts_scans_and_huffman_tables():
    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body

    # A stuffed byte and a restart marker belong to the scan.
    first = b"\x01\xff\x00\x02\xff\xd0\x03"
    file = b"".join(
        (
            *(b"\xff\xd8", segment(0xE0, b"JFIF"), segment(0xDB, bytes(65))),
            *(segment(0xC4, bytes(20)), segment(0xDA, bytes(6)), first),
            *(segment(0xC4, bytes(10)), segment(0xDA, bytes(6)), b"\x05" * 9, b"\xff\xd9"),
        )
    )
    assert containers.jpeg_payload(file) == 24 + len(first) + 14 + 9
    for length in range(len(file)):
        with pytest.raises(ValueError, match="JPEG"):
            containers.jpeg_payload(file[:length])


def test_other_payloads_begin_where_their_data_begin(photos):
    jpeg2000, avif = (codecs.CODECS[name].encode(photos[0], 30) for name in ("jpeg2000", "avif"))
    start_of_data, end_of_codestream = b"\xff\x93", b"\xff\xd9"
    assert jpeg2000.endswith(end_of_codestream)
    packets = jpeg2000[jpeg2000.index(start_of_data) + 2 : -2]
    assert containers.jpeg2000_payload(jpeg2000) == len(packets)
    # The last tile-part may leave out its size.
    tile = jpeg2000.index(b"\xff\x90")
    open_end = jpeg2000[: tile + 6] + bytes(4) + jpeg2000[tile + 10 :]
    assert open_end != jpeg2000
    assert containers.jpeg2000_payload(open_end) == len(packets)
    assert containers.avif_payload(avif) == len(avif[avif.index(b"mdat") + 4 :])
    large = b"\x00\x00\x00\x01mdat" + (16 + 7).to_bytes(8, "big") + bytes(7)
    assert containers.avif_payload(large + b"\x00\x00\x00\x00mdat" + bytes(5)) == 7 + 5
    odd = b"EXIF\x03\x00\x00\x00abc\x00" + b"VP8 \x05\x00\x00\x00abcde\x00"
    assert containers.webp_payload(b"RIFF\x22\x00\x00\x00WEBP" + odd) == 5


def test_jpegxl_payload_begins_behind_size_and_metadata(photos):
    encode = codecs.CODECS["jpegxl"].encode
    # 11, 11, 16, 28 and 17 bits: sides in eights or spelt out, the width perhaps as an aspect ratio.
    sizes = {(64, 64): 4, (64, 128): 4, (64, 40): 4, (33, 47): 6, (300, 300): 5}
    for (height, width), header in sizes.items():
        image = np.resize(photos[0], (height, width, 3))
        file = encode(image, 3)
        assert len(file) - containers.jpegxl_payload(file) == header, (height, width)
    lossless = imagecodecs.jpegxl_encode(photos[0], lossless=True, usecontainer=False)
    with pytest.raises(ValueError, match="metadata of its own"):
        containers.jpegxl_payload(bytes(lossless))


@pytest.mark.parametrize("name", ["jpegxl", "hevc"])
def test_flat_image_costs_little(name, photos):
    flat = np.full((64, 64, 3), 128, np.uint8)
    codec = codecs.CODECS[name]
    file, other = (codec.encode(image, codec.qualities[8]) for image in (flat, photos[0]))
    assert codec.payload(file) < codec.payload(other) / 8
    assert np.abs(codec.decode(file).astype(int) - flat).max() <= 1


def test_hevc_payload_counts_slices_and_nothing_else():
    def unit(kind: int, body: bytes, zeros: int = 2) -> bytes:
        return bytes(zeros) + b"\x01" + bytes([kind << 1, 1]) + body

    slices = unit(20, b"abcde"), unit(19, b"f\x00\x00\x03\x01")
    stream = [unit(32, b"vps", 3), unit(33, b"sps", 3), unit(34, b"pps"), unit(39, b"sei"), *slices]
    assert hevc.payload(b"".join(stream)) == 7 + 7
    assert hevc.payload(b"".join(stream) + bytes(3)) == 7 + 7


def _hevc(**changes):
    codec = codecs.CODECS["hevc"]
    return dataclasses.replace(codec, settings={**codec.settings, **changes})


@pytest.mark.parametrize(("matrix", "code"), [("bt709", 1), ("smpte170m", 6), ("ycgco", 8)])
def test_hevc_file_says_how_its_colours_are_stored(matrix, code, photos):
    file = _hevc(matrix=matrix).encode(photos[2], 0)
    decoder = av.VideoCodecContext.create("hevc", "r")
    (frame,) = [*decoder.decode(av.Packet(file)), *decoder.decode(None)]
    assert frame.format.name == "yuv444p10le"
    assert (frame.color_range, frame.colorspace) == (2, code)  # full range
    if matrix == "ycgco":  # FFmpeg's conversion lacks it; equations of ITU-T H.265, Annex E
        planes = [
            np.frombuffer(bytes(plane), np.uint16).reshape(64, -1)[:, :64].astype(int)
            for plane in frame.planes
        ]
        luma, green, orange = planes[0], planes[1] - 512, planes[2] - 512
        rest = luma - green
        shown = np.dstack([rest + orange, luma + green, rest - orange]).clip(0, 1023) * 255 / 1023
    else:
        shown = frame.to_ndarray(format="rgb24").astype(int)
    assert np.abs(shown - hevc.decode(file)).max() <= 2
    assert np.abs(shown - photos[2]).max() <= 4


@pytest.mark.parametrize("matrix", hevc.MATRICES)
def test_hevc_colours_survive_at_the_best_quality(matrix):
    """Every corner of the colour cube, and grey, in blocks."""
    corners = np.indices((2, 2, 2)).reshape(3, 8).T * 255
    image = corners.reshape(2, 4, 3).repeat(32, axis=0).repeat(16, axis=1).astype(np.uint8)
    codec = _hevc(matrix=matrix)
    assert np.abs(codec.decode(codec.encode(image, 0)).astype(int) - image).max() <= 1


def test_hevc_refuses_images_that_x265_cannot_take():
    with pytest.raises(InputError) as error:
        codecs.CODECS["hevc"].encode(np.zeros((8, 64, 3), np.uint8), 20)
    assert str(error.value) == "hevc: x265 takes no image of 64x8; its sides are 16 or more"


def test_webp_without_a_preset_is_what_pillow_writes(photos):
    """So the presets are the only difference; both versions of libwebp have to be the same for bytes."""
    codec = codecs.CODECS["webp"]
    plain = dataclasses.replace(codec, settings={"preset": "none", "compression_level": 6})
    stream = io.BytesIO()
    Image.fromarray(photos[0]).save(stream, "WEBP", quality=50, method=6)
    file = plain.encode(photos[0], 50)
    assert len(file) == pytest.approx(len(stream.getvalue()), rel=0.1)
    error = codec.decode(file).astype(float) - codec.decode(stream.getvalue())
    assert np.sqrt(np.mean(error**2)) < 3


def test_versions_name_the_library_of_every_codec():
    versions = codecs.encoder_versions(NAMES) | lossless.lossless_versions()
    assert [name for name in versions if not name.startswith("lossless ")] == list(NAMES)
    libraries = {
        "jpeg_420": "libjpeg-turbo",
        "jpeg_444": "libjpeg-turbo",
        "webp": "PyAV",
        "jpeg2000": "OpenJPEG",
        "avif": "libavif",
        "jpegxl": "libjxl",
        "hevc": "x265",
        "dithered_pcm": "JAX",
        "lossless png": "zlib",
        "lossless webp": "libwebp",
        "lossless jpegxl": "libjxl",
    }
    assert versions.keys() == libraries.keys()
    for name, library in libraries.items():
        assert re.match(rf"{library} \d+\.\d+", versions[name]), versions[name]
    assert "aom [enc]:" in versions["avif"]
    assert codecs.encoder_versions(()) == {}


def test_jpeg2000_comment_is_removed_and_nothing_else(photos):
    stream = io.BytesIO()
    Image.fromarray(photos[0]).save(stream, "JPEG2000", no_jp2=True, comment="x" * 50)
    commented = stream.getvalue()
    bare = containers.without_jpeg2000_comments(commented)
    assert len(commented) - len(bare) == 2 + 2 + 2 + 50
    assert containers.jpeg2000_payload(bare) == containers.jpeg2000_payload(commented)
    decode = codecs.CODECS["jpeg2000"].decode
    np.testing.assert_array_equal(decode(bare), decode(commented))


@pytest.mark.parametrize(
    ("payload", "file"),
    [
        (containers.webp_payload, b"RIFX"),
        (containers.avif_payload, bytes(16)),
        (containers.jpeg2000_payload, b"\xff\x4f\xff\x51\x00\x04"),
        (containers.jpeg2000_payload, b"\x00\x00"),
        (containers.jpegxl_payload, b"\x00\x00\x00\x0cJXL "),
        (containers.jpegxl_payload, b"\xff\x0a\x4f\x02\x00"),
        (containers.jpegxl_payload, b"\xff\x0a\x4f\x06"),
        (hevc.payload, b""),
        (hevc.payload, b"\x01\x00\x00\x01\x28"),
        (hevc.payload, b"\x00\x00\x01\x28\x00\x00\x01"),
    ],
)
def test_payload_refuses_what_is_not_its_container(payload, file):
    if payload is containers.avif_payload:
        file = b"\x00\x00\x00\x04mdat" + file
    with pytest.raises(ValueError, match=r"WebP|AVIF|JPEG 2000|JPEG XL|HEVC"):
        payload(file)


def test_files_carry_no_metadata(photos):
    names = ("jpeg_420", "jpeg_444", "webp", "jpeg2000", "avif")
    for codec in map(codecs.CODECS.get, names):
        with Image.open(io.BytesIO(codec.encode(photos[0], codec.qualities[4]))) as image:
            assert not {"icc_profile", "exif", "xmp", "comment"} & {
                key for key, value in image.info.items() if value
            }


def test_single_image_has_no_standard_error_and_other_sizes_work():
    image = np.random.default_rng(0).integers(0, 256, (1, 33, 47, 3), dtype=np.uint8)
    points, _, _ = _evaluate(image, NAMES, qualities={name: (20,) for name in NAMES})
    assert [point.bpp_stderr for point in points] == [None] * len(NAMES)
    assert all(point.bpp > 0 for point in points)


def test_method_name_stands_for_its_variants():
    assert list(codecs.select_codecs(("webp", "jpeg"))) == ["webp", "jpeg_420", "jpeg_444"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"codecs": ("webp", "bpg")},
            "codecs: unknown 'bpg', not one of jpeg_420, jpeg_444, webp, jpeg2000, avif, "
            "jpegxl, hevc, dithered_pcm, jpeg",
        ),
        (
            {"qualities": {"jpeg_420": (10, 0)}},
            "qualities.jpeg_420: 0 is not valid; use whole numbers from 1 to 100 (libjpeg quality)",
        ),
        (
            {"qualities": {"jpeg_444": (10.5,)}},
            "qualities.jpeg_444: 10.5 is not valid; "
            "use whole numbers from 1 to 100 (libjpeg quality)",
        ),
        (
            {"qualities": {"webp": (math.nan,)}},
            "qualities.webp: nan is not valid; "
            "use numbers from 0 to 100 (libwebp quality, lossy, 4:2:0)",
        ),
        (
            {"qualities": {"bpg": (1,)}},
            "qualities: unknown codec 'bpg', not one of jpeg_420, jpeg_444, webp, jpeg2000, avif, "
            "jpegxl, hevc, dithered_pcm",
        ),
    ],
)
def test_usage_errors_list_what_is_valid(arguments, message, photos):
    with pytest.raises(UsageError) as error:
        _evaluate(photos, **{"codecs": NAMES} | arguments)
    assert str(error.value) == message


def test_missing_encoder_is_named(photos, monkeypatch):
    lacking = dataclasses.replace(codecs.CODECS["avif"], available=lambda: False)
    monkeypatch.setattr(codecs, "CODECS", {**codecs.CODECS, "avif": lacking})
    with pytest.raises(InputError) as error:
        _evaluate(photos, ("avif",))
    assert str(error.value) == (
        "avif: the installed libraries cannot write it; "
        "install Pillow 11.3 or newer built with AVIF, or leave 'avif' out of codecs"
    )
