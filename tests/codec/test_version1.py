"""Files of version 1 of the format are still read; nothing writes them any more."""

import pathlib
import zlib

import numpy as np
import pytest

from diffc_jax.codec.container import parse
from diffc_jax.codec.image_decoder import decode_stream
from diffc_jax.codec.loading import EARLIER_WEIGHTS, load_codec
from diffc_jax.errors import InputError
from tests.support.golden_streams import toy_codec, toy_image
from tests.support.streams import scene

STREAMS = pathlib.Path(__file__).parent / "streams"


GOLDEN = (
    (
        8,
        (6, 11, 3),
        0xA9DD12AE,
        "4446430100150201676f6c640b0608d3040130063502a853356bf71bb7f73fe7df73539ae743ffa1893137f5"
        "8105011c05f78390617e7dfbbe7bfffcccbeeff7fe7fcff53e7d5f94c2c0eaf626e1",
    ),
    (
        8,
        (5, 7, 1),
        0x27063A90,
        "4446430101130201676f6c64070508c70f015806b11224922492407de7dffd2f5dd604fc1c383aca98303f0c"
        "51840ffa9f562c980467043df2f23f8bca3cfd8890a0d39e9de3f09c3c79c18c1811913f862b8c13d80dac3c"
        "0e66980d0c0f2244521093221110f03d162952f87eef860e58f4778f84de0ee176101fc100c4fcc4189d8e04"
        "58660be7cf487fcce3f0fdf4ee087cdd09911cf49f3e378087c4ff9b63fdf3a432818fae1a48889324422442"
        "244444444480869f14fbc8bcf3607179fe007d13f3c0f40c35807f62324f09801c886fcbcddb33d84bf9c73d"
        "cc43ac385f8f3080800108520ff8e62602cf26fc08fc8bc5e0ffcf786e08f7cd0518e430ee9d90dd9dbcf9fd"
        "fb823cfb878de810878d1efdffbde7e1c3c0721a3c0cc7fe067c324211e033130000825f1a6a2ba0612138c7"
        "9fbe60071881e7a237d50fce7a9a8332f8d541183a387346ee8303c60a5d9d5dab78ce4bc11bfb69de7959",
    ),
    (
        16,
        (16, 16, 3),
        0x428DC151,
        "44464301001a0201676f6c641010101d2703c0155bb6c02c2fc5d57d85df3451df60b2afc2f39b70b34ee78c"
        "fc6acff2cbd1cbea607b186a0b6987329b00b62c34ee35ee1bbcfe17717f1c8c185ef7be2fb90c62ef2c871b"
        "b92776ddb077a166538d5c286e75b8b794d60b39e42bb82374718b6b63523394bfc56b04d3f441299273f781"
        "908b596034d2f610602eb46696b6fb93a67ce7ef0bbbeaac690c89",
    ),
)


@pytest.mark.parametrize(("side", "shape", "crc", "data"), GOLDEN)
def test_golden_streams(side, shape, crc, data):
    stream = parse(bytes.fromhex(data))
    decoded = decode_stream(toy_codec(side), stream, "mean")
    assert (decoded.warnings, decoded.image.shape) == ([], shape)
    assert zlib.crc32(decoded.image.tobytes()) == crc
    lossless = bool(stream.residuals())
    assert decoded.lossless == lossless
    if lossless:
        np.testing.assert_array_equal(decoded.image, toy_image(*shape))


# Made with the first weights that were shipped.
SAMPLES = {
    "v1_64x64": (scene(64, 64), 35.9),
    "v1_100x50_grey": (scene(50, 100)[..., 1:2], 32.2),
    "v1_20x12_lossless": (scene(12, 20), np.inf),
}


@pytest.fixture(scope="module")
def codec():
    return load_codec(EARLIER_WEIGHTS[0]).programs


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_files(codec, name):
    image, least = SAMPLES[name]
    decoded = decode_stream(codec, parse((STREAMS / f"{name}.diffc").read_bytes()))
    assert decoded.warnings == []
    assert decoded.lossless == (least == np.inf)
    if decoded.lossless:
        np.testing.assert_array_equal(decoded.image, image)
    else:
        error = np.mean((decoded.image.astype(float) - image) ** 2)
        assert 10 * np.log10(255**2 / error) > least


def test_prefixes_and_damage():
    data = (STREAMS / "v1_100x50_grey.diffc").read_bytes()
    whole = parse(data)
    assert (whole.problem, whole.n_bytes, whole.header.version) == (None, len(data), 1)
    for n_bytes in range(len(data)):
        cuts = [cut for cut in whole.cuts if cut.n_bytes <= n_bytes]
        if not cuts or cuts[-1].n_bytes < whole.least.n_bytes:
            with pytest.raises(InputError):
                parse(data[:n_bytes])
            continue
        found = parse(data[:n_bytes])
        assert (found.items, found.damaged) == (whole.items[: cuts[-1].n_items], False)
        assert (found.problem is None) == (cuts[-1].n_bytes == n_bytes)
    # A changed byte of the last packet is damage, and so is one of the others, from there on.
    for place in (whole.cuts[-2].n_bytes + 3, len(data) - 1):
        damaged = bytearray(data)
        damaged[place] ^= 1
        found = parse(bytes(damaged))
        assert found.damaged
        assert found.cuts == whole.cuts[:-1]
        assert "checksum" in found.problem
    assert parse(data + b"more").problem == "packet 4 (tile 1, from byte 182) is cut off"
