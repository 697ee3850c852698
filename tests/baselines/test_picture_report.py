"""compress.py --report: pictures from beginnings of their files, beside other codecs at equal size."""

import base64
import dataclasses
import io
import json
import math
import os
import pathlib
import shutil
import types

import numpy as np
import PIL.Image
import pytest

from diffc_jax.baselines import picture_report
from diffc_jax.baselines.codecs import CODECS, for_grey
from diffc_jax.baselines.equal_size import Ladder
from diffc_jax.baselines.picture_report import plan_report, rising_sizes
from diffc_jax.codec.container import parse
from diffc_jax.codec.files import compress, read_image
from diffc_jax.codec.loading import load_codec
from diffc_jax.codec.targets import Target
from diffc_jax.errors import InputError, UsageError
from diffc_jax.metrics.psnr import mse, psnr_from_mse
from diffc_jax.plotting.picture_page import Method, Version
from diffc_jax.runtime import optional
from tests.support.browser import drive
from tests.support.gaussian_run import export_model
from tests.support.image_files import smooth_image
from tests.support.processes import run_program
from tests.support.refusals import fails
from tests.support.report_runs import Page

EVIL = "a<script>alert(1)<!--&amp;"
_DRIVER = pathlib.Path(__file__).with_name("picture_report_driver.js")


def decibels(image, decoded):
    return float(psnr_from_mse(mse(image[np.newaxis], decoded[np.newaxis]))[0])


def opened(uri):
    kind, _, data = uri.partition(";base64,")
    return kind.removeprefix("data:"), base64.b64decode(data)


def in_colours(image):
    return np.repeat(image, 3 // image.shape[2], axis=2)


def decoded(uri):
    return np.asarray(PIL.Image.open(io.BytesIO(opened(uri)[1])))


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A model, and two pictures with their files, in colours with exact pixels and grey without."""
    folder = tmp_path_factory.mktemp("coded")
    export_model(folder, 0.0)
    y, x = np.mgrid[:20, :12][..., np.newaxis] / 4.0
    pixels = (128 + 100 * np.sin(y + np.arange(3)) * np.cos(x)).astype(np.uint8)
    rgb = PIL.Image.fromarray(pixels)
    (folder / "in").mkdir()
    rgb.save(folder / "in" / f"{EVIL}.png")
    rgb.convert("L").crop((0, 0, 12, 8)).save(folder / "in" / "grey.png")
    options = {"memory": 8, "seed": 0, "batch_size": 8}
    for name, target in ((f"{EVIL}.png", Target(lossless=True)), ("grey.png", Target(gamma=-3.0))):
        compress(folder, [str(folder / "in" / name)], str(folder), target, **options)
    return folder


@pytest.fixture(scope="module")
def page(coded):
    plan = plan_report(str(coded / "r.html"), [str(coded / "in")], str(coded))
    plan.write(coded, 8)
    return coded / "r.html"


def test_our_pictures_are_those_of_rising_beginnings(coded, page):
    codec = load_codec(coded, 8)
    for picture in Page(page).data["pictures"]:
        data = (coded / picture["name"]).with_suffix(".diffc").read_bytes()
        stream = parse(data)
        sizes = picture["sizes"]
        assert sizes == rising_sizes(data) == sorted(set(sizes))
        # Of the grey one there is no shorter beginning that decodes.
        assert len(sizes) == (1 if picture["name"] == "grey.png" else 5)
        assert (sizes[0], sizes[-1]) == (stream.least.n_bytes, len(data))
        assert set(sizes) <= {cut.n_bytes for cut in stream.cuts}
        image = read_image(coded / "in" / picture["name"])
        np.testing.assert_array_equal(decoded(picture["original"]), in_colours(image))
        ours = picture["methods"][0]
        assert ours["name"] == "DiffC-F files"
        for size, version in zip(sizes, ours["versions"], strict=True):
            n_pixels = stream.header.n_pixels
            expected = codec.decode(data, bpp=(8 * size + 1) / n_pixels)
            assert (version["bytes"], version["label"]) == (size, "")
            shown = decoded(picture["images"][version["image"]])
            np.testing.assert_array_equal(shown, in_colours(expected))
            psnr = decibels(image, expected)
            assert version["psnr"] == (None if math.isinf(psnr) else psnr)
        # Exact if it was coded so.
        assert (ours["versions"][-1]["psnr"] is None) == (picture["name"] != "grey.png")


def test_sizes_rise_by_about_one_factor(monkeypatch):
    ends = [*range(10, 100, 7), *range(100, 6401, 30)]
    stream = types.SimpleNamespace(
        cuts=[types.SimpleNamespace(n_bytes=end) for end in ends],
        least=types.SimpleNamespace(n_bytes=24),
    )
    monkeypatch.setattr(picture_report, "parse", lambda data: stream)
    # Wanted are 24, 73, 224, 685, 2094 and all.
    assert rising_sizes(b"") == [24, 73, 220, 670, 2080, 6400]
    stream.cuts = stream.cuts[2:4]
    assert rising_sizes(b"") == [24, 31]
    stream.cuts = stream.cuts[:1]
    assert rising_sizes(b"") == [24]


def test_others_show_whole_files_of_at_most_that_size_or_their_smallest(coded, page):
    for picture in Page(page).data["pictures"]:
        image = read_image(coded / "in" / picture["name"])
        rgb = in_colours(image)
        assert [m["name"] for m in picture["methods"][1:]] == ["JPEG", "WebP", "AVIF"]
        for method, names in zip(
            picture["methods"][1:], (("jpeg_420", "jpeg_444"), ("webp",), ("avif",)), strict=True
        ):
            codecs = [CODECS[name] for name in names]
            if image.shape[2] == 1:
                codecs = [for_grey(codec) for codec in codecs]
            ladders = {codec.model: Ladder(codec, rgb) for codec in codecs}
            for size, version in zip(picture["sizes"], method["versions"], strict=True):
                kind, data = opened(picture["images"][version["image"]])
                assert kind == f"image/{method['name'].lower()}"
                assert len(data) == version["bytes"]
                found = [ladder.at_most(size) for ladder in ladders.values()]
                fitting = [file for file in found if len(file.data) <= size]
                if fitting:
                    assert version["psnr"] == max(file.psnr for file in fitting)
                else:
                    assert len(data) == min(len(file.data) for file in found) > size
                codec = CODECS[names[0]]
                assert version["psnr"] == pytest.approx(decibels(rgb, codec.decode(data)))
                assert (version["label"] in ladders) == (len(names) > 1)


@pytest.mark.parametrize("name", ["jpeg_420", "jpeg_444", "avif"])
def test_others_code_grey_pictures_as_grey(name):
    """One channel, the same pixels and fewer bytes than three; WebP has no such files."""
    grey = smooth_image(np.random.default_rng(0), 64, coarse=8).convert("L")
    rgb = np.asarray(grey.convert("RGB"))
    codec = CODECS[name]
    data, before = (one.encode(rgb, codec.qualities[2]) for one in (for_grey(codec), codec))
    assert len(data) < len(before)
    decoded = codec.decode(data)
    assert decoded.shape == rgb.shape
    assert (decoded == decoded[:, :, :1]).all()
    assert decibels(rgb, decoded) == pytest.approx(decibels(rgb, codec.decode(before)), abs=0.1)
    assert for_grey(CODECS["webp"]) is CODECS["webp"]


def falling_codec():
    """Files get smaller with the quality, as those of JPEG XL and HEVC do."""
    return dataclasses.replace(
        CODECS["jpegxl"],
        encoder=lambda image, quality: bytes(100 - 3 * quality),
        settings={},
        decode=lambda data: np.full((40, 40, 3), len(data), np.uint8),
    )


@pytest.mark.parametrize("codec", [CODECS["jpeg_444"], CODECS["webp"], falling_codec()])
def test_the_ladder_finds_the_largest_file_that_fits(codec):
    """Against all qualities."""
    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    image = np.asarray(PIL.Image.fromarray(image).resize((40, 40)))
    low, high = (math.ceil(codec.quality_range[0]), math.floor(codec.quality_range[1]))
    sizes = sorted({len(codec.encode(image, quality)) for quality in range(low, high + 1)})
    ladder = Ladder(codec, image)
    for size in (sizes[0] - 1, sizes[0], sizes[len(sizes) // 2], sizes[-1] - 1, sizes[-1] + 9):
        fitting = [one for one in sizes if one <= size]
        coded = ladder.at_most(size)
        assert len(coded.data) == (max(fitting) if fitting else sizes[0])
        assert coded.psnr == decibels(image, codec.decode(coded.data))


def test_the_page_is_whole_without_a_network_and_without_scripts(coded, page):
    read = Page(page)
    for tag, attributes in read.tags:
        assert tag not in {"base", "iframe", "object", "embed", "img"}
        for name in ("src", "href", "srcset", "action", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    assert [tag for tag, _ in read.tags].count("script") == 2
    (policy,) = [a["content"] for t, a in read.tags if a.get("http-equiv")]
    assert policy.startswith("default-src 'none';")
    assert "{{" not in read.text
    size = (coded / "grey.diffc").stat().st_size
    assert f"grey.png: 12x8, grey, {size} bytes ({8 * size / 96:.3f} bpp), " in read.text
    assert f"{EVIL}.png: 12x20, " in read.text
    # Every size of the table, and what JPEG cannot do.
    for picture in read.data["pictures"]:
        for place, size in enumerate(picture["sizes"]):
            row = f" {size:,} {8 * size / (picture['width'] * picture['height']):.3f} "
            version = picture["methods"][0]["versions"][place]
            psnr = "exact" if version["psnr"] is None else f"{version['psnr']:.2f} dB"
            assert f"{row}{psnr} " in read.text
    assert " (its smallest)" in read.text


def numbers(picture, method):
    """What stands below a method's picture of the first size."""
    version, n_pixels = method["versions"][0], picture["width"] * picture["height"]
    n_bytes = version["bytes"]
    return [f"{n_bytes:,} bytes, {8 * n_bytes / n_pixels:#.3g} bpp", f"{version['psnr']:.2f} dB"]


def too_large(version, size):
    """What is said of a file that is too large."""
    assert version["bytes"] > size
    return f"cannot be so small: its smallest file, {version['bytes'] / size:.1f} × the size"


@pytest.mark.parametrize("width", [360, 1280])
def test_works_in_a_browser(page, tmp_path, width):
    seen = drive(page, _DRIVER, tmp_path, width)
    assert seen["errors"] == []
    assert seen["resources"] == []
    assert (seen["width"], seen["overflow"]) == (width, 0)
    assert seen["rates"] == ["0.0123", "999", "1,000", "1,984"]
    first, second = Page(page).data["pictures"]
    sizes, methods = first["sizes"], first["methods"]
    size = f"{sizes[0]} bytes, {8 * sizes[0] / 240:#.3g} bpp"
    assert seen["size"] == [size, size]
    assert seen["first"][0] == ["original", "12 × 20 pixels", "", ""]
    psnr = f"{methods[0]['versions'][0]['psnr']:.2f} dB"
    assert seen["first"][1] == ["DiffC-F files", size, psnr, ""]
    assert seen["first"][2] == [
        "JPEG",
        *numbers(first, methods[1]),
        too_large(methods[1]["versions"][0], sizes[0]),
    ]
    assert seen["label"] == ", ".join([first["name"], "JPEG", "decoded", *seen["first"][2][1:]])
    assert seen["last"][1] == [
        *("DiffC-F files", f"{sizes[-1]:,} bytes, {8 * sizes[-1] / 240:#.3g} bpp", "exact", "")
    ]
    original = decoded(first["original"]).astype(int)
    corner = original[0, 0].tolist()
    assert seen["pixels"] == [corner, corner]
    assert seen["difference"] == [corner, [128, 128, 128]]
    ours = decoded(first["images"][methods[0]["versions"][0]["image"]])
    assert seen["wipe"] == [ours[0, 0].tolist(), original[-1, -1].tolist(), False]
    assert seen["corner"] == corner
    (size,), jpeg = second["sizes"], second["methods"][1]
    note = too_large(jpeg["versions"][0], size)
    assert seen["other"] == [
        ["false", "true"],
        ["original", "12 × 8 pixels", "", ""],
        ["JPEG", *numbers(second, jpeg), note],
    ]
    assert seen["alone"]
    assert seen["names"] == [first["name"], second["name"]]


def test_a_codec_without_its_package_is_left_out_and_the_page_says_so(
    coded, tmp_path, monkeypatch, caplog
):
    error = optional.missing(optional.PACKAGES["av"])

    def select(names):
        if "webp" in names:
            raise InputError(f"webp: {error}, or leave 'webp' out of codecs")
        return {name: c for name, c in CODECS.items() if c.method in names}

    monkeypatch.setattr(picture_report, "select_codecs", select)
    source = coded / "in" / "grey.png"
    plan = plan_report(str(tmp_path / "r.html"), [str(source)], str(coded / "grey.diffc"))
    with caplog.at_level("WARNING", logger="absl"):
        plan.write(coded, 8)
    read = Page(tmp_path / "r.html")
    assert [m["name"] for m in read.data["pictures"][0]["methods"][1:]] == ["JPEG", "AVIF"]
    assert f"webp: {error}" in read.text
    assert caplog.messages == [f"the report is without WebP: webp: {error}"]


def plan(coded, path, names=("grey.png",), output=None):
    inputs = [str(coded / "in" / name) for name in names]
    return plan_report(str(path), inputs, str(output or coded))


def test_what_a_report_cannot_be_is_said_first(coded, page, tmp_path, monkeypatch):
    refused = tmp_path / "index.html"
    refused.write_text("<title>Mine</title>")
    text = f"--report {refused}: exists and is no such report; choose another name or delete it"
    fails(InputError, text, lambda: plan(coded, refused))
    assert refused.read_text() == "<title>Mine</title>"
    text = f"--report {tmp_path / 'r.htm'}: the name must end in .html"
    fails(UsageError, text, lambda: plan(coded, tmp_path / "r.htm"))
    (tmp_path / "d.html").mkdir()
    text = f"{tmp_path / 'd.html'}: cannot be written (Is a directory)"
    fails(InputError, text, lambda: plan(coded, tmp_path / "d.html"))
    text = f"{refused / 'r.html'}: cannot be written ({refused} is not a folder)"
    fails(InputError, text, lambda: plan(coded, refused / "r.html"))
    text = f"--input {coded / 'in' / 'no.png'}: no such file or folder"
    fails(InputError, text, lambda: plan(coded, tmp_path / "r.html", ["no.png"]))
    monkeypatch.setattr(picture_report, "_LONGEST_SIDE", 11)
    text = (
        f"--report: shows pictures of up to 11 pixels on a side, and {coded / 'in' / 'grey.png'} has 12x8; "
        "scale it down"
    )
    fails(UsageError, text, lambda: plan(coded, tmp_path / "r.html"))
    monkeypatch.undo()
    monkeypatch.setattr(picture_report, "_MOST_PIXELS_SHOWN", 300)
    text = "--report: shows up to 300 pixels in all, and the pictures have 336; take fewer or smaller ones"
    both = ["grey.png", f"{EVIL}.png"]
    fails(UsageError, text, lambda: plan(coded, tmp_path / "r.html", both))
    # A report of before may be replaced.
    shutil.copy(page, tmp_path / "old.html")
    assert plan(coded, tmp_path / "old.html").path == tmp_path / "old.html"
    assert not (tmp_path / "r.html").exists()


def test_a_plan_says_what_would_be_written(coded, tmp_path):
    report = tmp_path / "new" / "r.html"
    assert plan(coded, report).description == (
        f"{report}: 1 picture at up to 6 sizes each, beside JPEG, WebP, AVIF; about 0.1 MB"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        assert plan(coded, "~/r.html").path == tmp_path / "r.html"
    both = plan(coded, report, ["grey.png", f"{EVIL}.png"])
    assert both.description.startswith(f"{report}: 2 pictures at up to 6 sizes each, ")
    assert not list(tmp_path.iterdir())


def test_one_picture_as_a_program(coded, tmp_path):
    output, report = tmp_path / "a.diffc", tmp_path / "new" / "r.html"
    done = run_program(
        "experiments/compress.py",
        *(f"--model={coded}", f"--input={coded / 'in' / 'grey.png'}", f"--output={output}"),
        *("--packets=2", "--memory=8", f"--report={report}"),
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert f"{report}: 0.0 MB" in done.stderr
    (picture,) = Page(report).data["pictures"]
    assert picture["sizes"][-1] == output.stat().st_size
    assert json.dumps(picture["name"]) == '"grey.png"'


def test_names_that_are_not_utf8(coded, tmp_path, monkeypatch):
    """In the page, and in what a dry run prints where the locale has no such characters."""
    name = os.fsdecode(b"grey\xe9")
    shutil.copy(coded / "in" / "grey.png", tmp_path / f"{name}.png")
    shutil.copy(coded / "grey.diffc", tmp_path / f"{name}.diffc")

    def methods(*arguments):
        sizes = arguments[3]
        return [Method("ours", "#000000", [Version("data:,", size, 30.0) for size in sizes])], []

    monkeypatch.setattr(picture_report, "_methods", methods)
    plan = plan_report(str(tmp_path / "r.html"), [str(tmp_path / f"{name}.png")], str(tmp_path))
    plan.write(coded, 8)
    assert "<h3>grey\\udce9.png</h3>" in (tmp_path / "r.html").read_text(encoding="utf-8")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    flags = f"--input={tmp_path}", f"--output={tmp_path}/out/", "--dry_run"
    shown = run_program("experiments/decompress.py", *flags)
    assert (shown.returncode, shown.stdout[: len(f"{tmp_path}")]) == (0, f"{tmp_path}")
    assert "/grey\\udce9.diffc (12x8, grey" in shown.stdout
