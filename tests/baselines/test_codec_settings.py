"""The search over settings of codecs: a codec with known gains, and the settings in use."""

import dataclasses
import importlib
import math
import sys

import numpy as np
import pytest

from diffc_jax.baselines import codecs
from tests.support.processes import ROOT

IMAGES = np.full((3, 64, 64, 3), 100, np.uint8)


@pytest.fixture(scope="module")
def program():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        yield importlib.import_module("codec_settings")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def _fake(_, quality, waste=1, error=1.0, **_others):
    """A file of 40 bytes of header and 100 bytes for each unit of quality; the first says the error."""
    return bytes([round(error * 64 / quality)]) + bytes(waste * (40 + 100 * int(quality)) - 1)


FAKE = codecs.Codec(
    method="fake",
    encoder=_fake,
    decode=lambda data: IMAGES[0] + np.uint8(data[0]),
    payload=lambda data: len(data) - 40,
    qualities=(1, 4, 16),
    quality_range=(1, 64),
    quality_unit="",
    version=lambda: "fake 1.0",
)


def test_gains_of_a_codec_whose_files_are_known(program):
    alternatives = {"waste=2": {"waste": 2}, "error=0.5": {"error": 0.5}, "level=9": {"level": 9}}
    search = program.Search("fake", alternatives)
    base, wasteful, better, same = program.rows(search, "fake", FAKE, IMAGES)
    assert [row["setting"] for row in (base, wasteful, better, same)] == ["in use", *alternatives]
    assert (base["bd_psnr_db"], base["bd_rate_percent"]) == (0, 0)
    assert wasteful["bd_rate_percent"] == pytest.approx(100, abs=1e-3)
    # Half the error at the same rate: 6.02 dB everywhere. At 3 bpp it ends: 16 makes 3.2 bpp.
    halved = 20 * math.log10(2)
    assert better["bd_psnr_db"] == pytest.approx(halved, abs=1e-3)
    assert better["gain_db_at_1_bpp"] == pytest.approx(halved, abs=1e-3)
    assert better["gain_db_at_5_bpp"] is None
    assert same == base | {"setting": "level=9", "milliseconds": same["milliseconds"]}
    assert (base["header_bytes"], base["n_images"], base["version"]) == ("40", 3, "fake 1.0")
    assert wasteful["header_bytes"] == "40"


def test_alternatives_of_a_search_share_its_changes(program):
    search = program.Search("fake", {"error=1": {"error": 1.0}}, {"waste": 2})
    base, other = program.rows(search, "fake", FAKE, IMAGES)
    assert base["setting"] == other["reference"] == "in use, waste=2"
    assert other["bd_psnr_db"] == 0
    assert (base["gain_db_at_0.5_bpp"], base["gain_db_at_1_bpp"]) == (None, 0)


def test_points_that_others_beat_are_left_out(program):
    """Quality 2 is worse than 1, for more bits."""
    errors = {1: 40, 2: 50, 4: 16}
    odd = dataclasses.replace(
        FAKE,
        qualities=(1, 4),
        whole_qualities=True,
        encoder=lambda image, quality: bytes([errors[quality]]) + bytes(100 * quality),
    )
    assert program.ladder(odd) == [1, 2, 4]
    curve = program.measure("odd", odd, IMAGES).curve
    np.testing.assert_allclose(np.exp(curve.x) * 64**2 / 8, [101, 401])
    np.testing.assert_allclose(curve.y, 20 * np.log10(255 / np.array([40, 16])))


def test_every_codec_with_settings_is_searched(program):
    with_settings = {codec.method for codec in codecs.CODECS.values() if codec.settings}
    assert {search.codec for search in program.SEARCHES} == with_settings


@pytest.mark.parametrize(
    ("name", "defaults", "least"),
    [
        ("jpeg_420", {"qtables": None, "optimize": False}, 1.0),
        ("jpeg_444", {"qtables": None}, 1.0),
        ("webp", {"preset": "default"}, 0.05),
        ("jpeg2000", {"num_resolutions": 0}, 0.5),
        ("hevc", {"matrix": "bt709"}, 0.05),
    ],
)
def test_settings_in_use_beat_those_of_the_libraries(program, name, defaults, least):
    """On six training crops; benchmarks/codec_settings.py has more of both."""
    images = program.photographs("train", 64, 6)
    search = program.Search(name, {"defaults": defaults})
    _, row = program.rows(search, name, codecs.CODECS[name], images)
    assert row["bd_psnr_db"] < -least
    assert row["bd_rate_percent"] > 0
