"""Files of the present format that are kept in the repository; what is written today has to stay readable."""

import json
import zlib

import numpy as np
import pytest

from diffc_jax.codec.container import parse
from diffc_jax.codec.image_decoder import decode_stream
from diffc_jax.codec.loading import EARLIER_WEIGHTS, load_codec
from tests.support import reference_container
from tests.support.golden_streams import SAMPLES, STREAMS, TOYS, toy_codec, toy_image

EXPECTED = json.loads((STREAMS / "v2_expected.json").read_text())


def read(name):
    return (STREAMS / f"{name}.diffc").read_bytes()


@pytest.mark.parametrize("name", TOYS)
def test_golden_streams(name):
    side, shape, target, _ = TOYS[name]
    decoded = decode_stream(toy_codec(side), parse(read(name)), "mean")
    assert (decoded.warnings, decoded.lossless) == ([], target.lossless)
    assert zlib.crc32(decoded.image.tobytes()) == EXPECTED[name]
    if target.lossless:
        np.testing.assert_array_equal(decoded.image, toy_image(*shape))


@pytest.fixture(scope="module")
def codec():
    return load_codec(EARLIER_WEIGHTS[0]).programs


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_files(codec, name):
    """Made with the first shipped weights, whose pixels may differ by rounding from machine to machine."""
    image, target, _ = SAMPLES[name]
    decoded = decode_stream(codec, parse(read(name)))
    assert (decoded.warnings, decoded.lossless) == ([], target.lossless)
    if target.lossless:
        np.testing.assert_array_equal(decoded.image, image)
    else:
        error = np.mean((decoded.image.astype(float) - image) ** 2)
        assert 10 * np.log10(255**2 / error) > EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_second_reader(name):
    data = read(name)
    stream = parse(data)
    _, steps, cuts, _, is_whole = reference_container.read(data)
    assert is_whole
    found = [item for _, item in stream.items if hasattr(item, "path")]
    assert [(one["k"], one["path"]) for one in steps] == [(s.path_bits, s.path) for s in found]
    assert len(cuts) + len(stream.residuals()) == len(stream.cuts)
