"""Colours of image files: profiles of other spaces than sRGB, and what is written."""

import numpy as np
import PIL.Image
import pytest

from diffc_jax.runtime.images import save_png
from tests.support.colour_profiles import SWAPPED, with_gamma, with_primaries
from tests.support.image_files import encoded, jpeg2000, pixels, prepared, read, refusal

RGB = pixels(1)


def jp2_with_profile(profile):
    """JP2 with its colour specification, the number of sRGB, replaced by a profile."""
    data = jpeg2000(RGB)
    old = b"\x00\x00\x00\x0fcolr\x01\x00\x00\x00\x00\x00\x10"
    new = (11 + len(profile)).to_bytes(4, "big") + b"colr\x02\x00\x00" + profile
    assert data.count(old) == 1
    header = data.index(b"jp2h") - 4
    size = int.from_bytes(data[header : header + 4], "big") + len(new) - len(old)
    data = data[:header] + size.to_bytes(4, "big") + data[header + 4 :]
    return data.replace(old, new)


PROFILED = {
    "png": encoded(RGB, icc_profile=SWAPPED),
    "tiff": encoded(RGB, "TIFF", icc_profile=SWAPPED),
    "webp": encoded(RGB, "WEBP", lossless=True, icc_profile=SWAPPED),
    "jpeg 2000": jp2_with_profile(SWAPPED),
}


@pytest.mark.parametrize("content", PROFILED.values(), ids=PROFILED)
def test_colours_with_a_profile_become_those_of_srgb(content, tmp_path, caplog):
    swapped = RGB[:, :, [1, 0, 2]].astype(int)
    with caplog.at_level("INFO", "absl"):
        for _ in range(2):
            assert np.abs(read(tmp_path, content) - swapped).max() <= 1
    assert caplog.messages == [f"{tmp_path}/x: colours converted from swapped space to sRGB"]
    assert refusal(read, tmp_path, content, exact=True) == (
        "x: is an image in swapped space, so its pixels would be converted; "
        "save it in sRGB first or leave --lossless out"
    )
    assert refusal(prepared, content) == (
        "x: is an image in swapped space, not 8-bit RGB; set non_rgb=convert to convert such images"
    )
    assert np.abs(prepared(content, non_rgb="convert") - swapped).max() <= 1


def curve(linear):
    """sRGB's: linear light to values of 0 to 255 (IEC 61966-2-1)."""
    linear = np.clip(linear, 0, 1)
    low = linear <= 0.0031308
    return 255 * np.where(low, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_display_p3_by_its_formula(tmp_path):
    """Colorants adapted to D50, as in Apple's profile; those of sRGB likewise (IEC 61966-2-1)."""
    p3 = [[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]]
    srgb = [[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]]
    image = np.random.default_rng(0).integers(60, 200, (16, 16, 3)).astype(np.uint8)
    values = image / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    expected = curve(linear @ np.array(p3) @ np.linalg.inv(srgb))
    found = read(tmp_path, encoded(image, icc_profile=with_primaries(p3)))
    assert np.abs(expected - image).max() > 20
    assert np.abs(found - expected).max() < 2


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("grey_profile", [True, False])
def test_grey_images_with_a_profile_stay_grey(gamma, grey_profile, tmp_path):
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    content = encoded(ramp, icc_profile=with_gamma(gamma, grey=grey_profile))
    found = read(tmp_path, content)
    assert found.shape == (16, 16, 1)
    assert np.abs(found[:, :, 0] - curve((ramp / 255) ** gamma)).max() <= 0.6


@pytest.mark.parametrize("image", [RGB, RGB[:, :, 0]], ids=["rgb", "grey"])
def test_decompressed_files_say_that_they_are_srgb(image, tmp_path):
    save_png(image, tmp_path / "a.png")
    with PIL.Image.open(tmp_path / "a.png") as file:
        assert file.info == {"srgb": 0}
        np.testing.assert_array_equal(file, image)
