"""Shrinking: exact area averages, what Pillow's BOX does instead, and the warning about it."""

import numpy as np
import pytest
from PIL import Image

from diffc_jax.data import SourceSpec, open_source
from diffc_jax.data.prepare import prepare
from diffc_jax.data.scaling import area_average, shrink
from tests.support.image_files import encoded, pixels, write_tar

SIZES = [
    (80, 80, 64, 64),
    (7, 9, 7, 4),
    (13, 17, 6, 5),
    (128, 65, 64, 64),
    (5, 6, 1, 6),
    (3, 3, 3, 3),
]


def overlaps(length, count):
    """How much of each value lies in each of `count` equal parts, by brute force."""
    step = length / count
    return np.array(
        [
            [max(0.0, min((i + 1) * step, j + 1) - max(i * step, j)) for j in range(length)]
            for i in range(count)
        ]
    )


@pytest.mark.parametrize(("h", "w", "height", "width"), SIZES)
def test_area_average_is_the_integral_over_each_rectangle(h, w, height, width):
    image = pixels(0, w, h)
    integral = np.einsum("yh,xw,hwc->yxc", overlaps(h, height), overlaps(w, width), image)
    exact = integral * (height * width) / (h * w)
    found = area_average(image, height, width)
    assert (found.dtype, found.flags.c_contiguous) == (np.uint8, True)
    assert np.abs(found - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(("h", "w", "height", "width"), SIZES)
def test_area_average_is_symmetric(h, w, height, width):
    image = pixels(1, w, h)
    found = area_average(image, height, width)
    for turn in (np.flipud, np.fliplr):
        np.testing.assert_array_equal(area_average(turn(image), height, width), turn(found))
    transposed = area_average(image.swapaxes(0, 1), width, height)
    np.testing.assert_array_equal(transposed, found.swapaxes(0, 1))


def test_sums_over_large_images_do_not_overflow():
    """255 times the pixels of this one is more than 2^31."""
    image = np.broadcast_to(np.uint8(255), (9, 1_000_000, 1))
    assert (area_average(image, 1, 1) == 255).all()


def test_halves_are_rounded_up():
    image = np.array([[[0], [1], [254], [255]]], np.uint8)
    np.testing.assert_array_equal(area_average(image, 1, 2), [[[1], [255]]])


def test_of_whole_factors_both_filters_are_the_mean_of_blocks():
    image = pixels(3, side=16)
    means = image.reshape(8, 2, 8, 2, 3).mean(axis=(1, 3))
    for resize_filter, error in (("area", 0.5), ("box", 1)):  # box: two passes, each rounded
        found = shrink(Image.fromarray(image), (8, 8), resize_filter)
        assert np.abs(found - means).max() <= error


def test_of_other_factors_box_is_neither_the_average_nor_symmetric():
    """As docs/usage.md says: from 80 to 64, three pixels of four are copies of one."""
    line = np.repeat(pixels(4, side=80, height=1), 80, axis=0)
    found = shrink(Image.fromarray(line), (64, 64), "box").astype(int)
    copies = found[0, :, None, 0] == line[0, None, :, 0]
    copied = copies[np.arange(64), np.arange(64) * 5 // 4 + np.array([0, 0, 1, 1] * 16) % 2]
    assert copies.any(axis=1).sum() >= 48
    assert copied.sum() >= 32
    assert np.abs(found - area_average(line, 64, 64)).max() > 40
    mirrored = shrink(Image.fromarray(line[:, ::-1]), (64, 64), "box")[:, ::-1]
    assert np.abs(found - mirrored).max() > 40


def test_sources_shrink_by_the_filter_asked_for(tmp_path):
    wide = pixels(5, side=12, height=10)
    tar = str(write_tar(tmp_path / "set.tar", {"0.png": encoded(wide)}))

    def opened(**fields):
        return open_source(SourceSpec(source="tar", path=tar, image_size=8, **fields))

    np.testing.assert_array_equal(
        opened(resize="crop", resize_filter="area")[0], area_average(wide[:, 1:11], 8, 8)
    )
    squashed = opened(resize="squash", resize_filter="area")
    np.testing.assert_array_equal(squashed[0], area_average(wide, 8, 8))
    assert squashed.name == "set-squash8-area"
    box = opened(resize="crop")
    expected = Image.fromarray(wide).resize((8, 8), Image.Resampling.BOX, (1, 0, 11, 10))
    np.testing.assert_array_equal(box[0], expected)
    assert box.name == "set-crop8"
    fields = {"source": "tar", "path": tar, "name": "a", "image_size": 8, "resize": "crop"}
    for resize_filter, words in (("box", "box filter"), ("area", "area average")):
        spec = SourceSpec(resize_filter=resize_filter, **fields)
        manifest = prepare(spec, tmp_path / resize_filter, layout="packed")
        assert manifest["resampling"] == f"central square, {words} to 8x8"


def test_photographs_are_shrunk_by_the_filter_asked_for():
    box, area = (
        open_source(SourceSpec(split="eval", resize_filter=name)) for name in ("box", "area")
    )
    assert (box.name, area.name) == ("photos", "photos-area")
    assert [box.label(i) for i in range(64)] == [area.label(i) for i in range(64)]
    differences = {"1": [], "1.5": []}
    for i in range(64):
        factor = box.label(i).split("1/")[1].split(",")[0]
        difference = np.abs(box[i].astype(int) - area[i]).max()
        differences.setdefault(factor, []).append(difference)
    assert max(differences["1"]) == 0
    assert len(differences["1.5"]) == 15  # the crops that docs/usage.md speaks of
    assert np.mean(differences["1.5"]) > 20


@pytest.mark.parametrize(
    ("side", "fields", "warned"),
    [
        (9, {}, True),
        (15, {}, True),
        (8, {}, False),
        (16, {}, False),
        (20, {}, False),
        (9, {"resize_filter": "area"}, False),
    ],
)
def test_one_warning_about_the_box_filter_at_small_factors(side, fields, warned, tmp_path, caplog):
    members = {f"{i}.png": encoded(pixels(i, side=side)) for i in range(3)}
    tar = write_tar(tmp_path / "set.tar", members)
    spec = SourceSpec(source="tar", path=str(tar), image_size=8, resize="squash", **fields)
    with caplog.at_level("WARNING", "absl"):
        source = open_source(spec)
        for i in range(3):
            source[i]
    message = (
        f"{tar}: images of less than 16 pixels are shrunk to 8 by Pillow's box filter, which is "
        "neither an area average nor symmetric at such factors; set resize_filter=area unless they "
        "are to be compared with ImageNet 64x64 as it was made"
    )
    assert caplog.messages == [message] * warned
