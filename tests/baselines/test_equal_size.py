"""Files of a size, from a codec whose files are known at every quality."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from diffc_jax.baselines.classical import ClassicalBaseline, classical_baselines
from diffc_jax.baselines.codecs import CODECS, Codec
from diffc_jax.baselines.equal_size import Ladder

IMAGE = np.full((4, 4, 3), 100, np.uint8)
HEADER = 5
# By quality, from 1 on; a file of quality 5 is smaller than one of 4.
SIZES = (10, 20, 30, 51, 50, 60)
CODEC = Codec(
    method="fake",
    encoder=lambda _, quality: bytes([quality]) * SIZES[int(quality) - 1],
    decode=lambda data: IMAGE + np.uint8(7 - data[0]),
    payload=lambda data: len(data) - HEADER,
    qualities=(1, 3, 6),
    quality_range=(0.5, 6.5),
    quality_unit="",
    version=lambda: "fake 1.0",
)


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize(
    ("n_bytes", "quality"),
    [(9, 1), (10, 1), (19, 1), (20, 2), (30, 3), (51, 4), (55, 4), (60, 6), (1000, 6)],
)
def test_the_largest_file_of_at_most_a_size(n_bytes, quality, falling):
    codec = CODEC
    if falling:  # as of codecs whose quality is a step size
        codec = dataclasses.replace(
            CODEC,
            encoder=lambda image, step: CODEC.encoder(image, 7 - step),
            qualities=CODEC.qualities[::-1],
        )
    found = Ladder(codec, IMAGE).at_most(n_bytes)
    assert found.data == bytes([quality]) * SIZES[quality - 1]
    assert found.psnr == pytest.approx(20 * np.log10(255 / (7 - quality)))


def test_files_are_made_once():
    made = []
    codec = dataclasses.replace(
        CODEC, encoder=lambda image, q: made.append(q) or CODEC.encoder(image, q)
    )
    ladder = Ladder(codec, IMAGE)
    for n_bytes in (25, 45, 25):
        ladder.at_most(n_bytes)
    assert len(made) == len(set(made))


def test_bytes_are_those_of_whole_files_and_without_headers():
    with ThreadPoolExecutor(1) as pool:
        baseline = ClassicalBaseline("fake", CODEC, 2, pool)
        coded = baseline.code(np.stack([IMAGE] * 3), np.arange(3), lambda count: None)
    np.testing.assert_array_equal(coded.sizes, [[20, 20 - HEADER]] * 3)


def test_ends_of_the_range_of_qualities_are_in_it(monkeypatch):
    monkeypatch.setitem(CODECS, "fake", CODEC)
    with ThreadPoolExecutor(1) as pool:
        found = classical_baselines(["fake"], pool, {"fake": CODEC.quality_range})
    assert [one.identity["level"] for one in found] == [0.5, 6.5]
