"""Images of any size to streams and back: every target, prefixes, borders, and what cannot be done."""

import tracemalloc

import numpy as np
import pytest

from diffc_jax.codec.chain import Chain
from diffc_jax.codec.container import parse
from diffc_jax.codec.decoder import Reconstructor
from diffc_jax.codec.header import least_bytes
from diffc_jax.codec.image_decoder import check_damage, decode_stream, prefix_at
from diffc_jax.codec.image_encoder import encode_image, image_seed
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.stream import Cut, Header, Residual, Stream, snr_to_float
from diffc_jax.codec.targets import Target, round_up
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models.gaussian import gaussian_model
from tests.support.streams import random_stream

SIDE = 8
MEMORY = 8
GAMMA_RANGE = (-13.3, 5.0)
FINGERPRINT = bytes.fromhex("a1b2c3d4")


def statistics():
    """Statistics of smooth images: variances fall with the frequency, the first colour is grey."""
    frequency = np.add.outer(np.arange(SIDE) ** 2, np.arange(SIDE) ** 2)[..., np.newaxis]
    rotation, _ = np.linalg.qr(np.array([[1.0, 1, 0], [1, -1, 1], [1, 0, -1]]))
    return {
        "mean": np.zeros(3, np.float32),
        "rotation": rotation.astype(np.float32),
        "variances": (8 / (1 + frequency) ** 1.5 * np.array([1, 0.1, 0.03])).astype(np.float32),
    }


def make_codec(batch_size=2, fingerprint=FINGERPRINT):
    variables = {"fixed": statistics()}
    shape = (SIDE, SIDE, 3)
    eps_hat = gaussian_model(shape).eps_hat
    return ProgramCache(eps_hat, variables, shape, GAMMA_RANGE, fingerprint, batch_size)


def make_image(height, width, channels=3):
    """Smooth on the left, busy on the right."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width][..., np.newaxis] / 6.0
    waves = 90 * np.sin(y + np.arange(channels)) * np.cos(0.7 * x)
    noise = np.linspace(0, 30, width)[:, np.newaxis] * rng.normal(size=(height, width, channels))
    return np.clip(128 + waves + noise, 0, 255).astype(np.uint8)


def psnr(first, second):
    return 10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2))


@pytest.fixture(scope="module")
def codec():
    return make_codec()


@pytest.fixture(scope="module")
def image():
    """Three by two tiles, those of the right and lower edge filled up."""
    return make_image(13, 20)


def encode(codec, image, **target):
    return encode_image(codec, image, Target(**target), memory=MEMORY, tiled=True)


@pytest.fixture(scope="module")
def stream(codec, image):
    return parse(encode(codec, image, bpp=20.0))


@pytest.mark.parametrize("bpp", [0.8, 1.0, 2.2, 3.3, 6.0, 13.0, 14.0, 19.0])
def test_bpp_is_met_from_below(codec, image, bpp):
    data = encode(codec, image, bpp=bpp)
    stream = parse(data)
    n_pixels = image.shape[0] * image.shape[1]
    # Within 1 % or two bytes, and whole bytes.
    budget = int(bpp * n_pixels / 8)
    assert budget - max(2, 0.01 * budget) <= len(data) <= budget
    assert (stream.problem, stream.n_bytes) == (None, len(data))
    decoded = decode_stream(codec, stream)
    assert decoded.image.shape == image.shape
    assert (decoded.n_bytes, decoded.lossless, decoded.warnings) == (len(data), False, [])


def test_more_bits_are_better(codec, image, stream):
    quality = [
        psnr(decode_stream(codec, prefix_at(stream, bpp)).image, image) for bpp in (15, 16, 18, 20)
    ]
    assert quality == sorted(quality)
    assert quality[-1] > quality[0] + 1.5 > 28


def without_last(stream):
    """A stream of all steps but the last one."""
    return Stream(stream.header, stream.items[:-1], [Cut(len(stream.items) - 1, stream.n_bytes)])


@pytest.mark.parametrize("goal", [5.0, 24.0, 30.5, 41.0])
def test_psnr_is_reached_with_no_step_too_many(codec, image, goal):
    stream = parse(encode(codec, image, psnr=goal))
    assert psnr(decode_stream(codec, stream).image, image) >= goal
    if len(stream.items) == stream.header.n_tiles:
        assert goal == 5.0
        return
    assert psnr(decode_stream(codec, without_last(stream)).image, image) < goal


@pytest.mark.parametrize("number", [1, 6, 7])
def test_packets_are_counted(codec, image, number):
    stream = parse(encode(codec, image, packets=number))
    assert len(stream.cuts) == number
    assert stream.problem is None


def test_more_packets_than_there_are(codec, image):
    assert encode(codec, image, packets=10_000) == encode(codec, image, gamma=-100.0)


def snr_of(stream):
    return np.array([snr_to_float(sum(step.delta for step in steps)) for steps in stream.steps()])


@pytest.mark.parametrize("gamma", [-3.0, 1.0])
def test_gamma_arrives(codec, image, gamma):
    stream = parse(encode(codec, image, gamma=gamma))
    np.testing.assert_allclose(snr_of(stream), np.exp(-gamma), rtol=0.15)
    assert decode_stream(codec, stream).warnings == []


def test_gamma_of_nearly_nothing(codec, image):
    """The first step can be an eighth of what is planned, not less."""
    stream = parse(encode(codec, image, gamma=1000.0))
    assert len(stream.items) == stream.header.n_tiles


@pytest.mark.parametrize(
    "target", [{"gamma": -8.0}, {"lossless": True}, {"bpp": 20.0}, {"packets": 12}, {"psnr": 41.0}]
)
def test_the_share_that_is_done_is_told(codec, image, target, monkeypatch):
    n_calls = 0

    # The decoder has three batches, and eight steps or a few less.
    for original, calls in ((Chain.predict, 1), (Reconstructor.__call__, 3 * 8)):

        def counted(*arguments, original=original, calls=calls):
            nonlocal n_calls
            n_calls += calls
            return original(*arguments)

        owner = Chain if calls == 1 else Reconstructor
        monkeypatch.setattr(owner, original.__name__, counted)
    told = []
    encode_image(
        codec,
        image,
        Target(**target),
        memory=MEMORY,
        tiled=True,
        on_progress=lambda fraction: told.append((fraction, n_calls)),
    )
    fractions, calls = np.array(told).T
    assert len(fractions) >= 5
    assert 0 < fractions[0] < 0.25
    assert (np.diff(fractions) >= 0).all()
    assert fractions[-1] == pytest.approx(1.0, abs=0.1)
    # An estimate: photographs and this image differ.
    np.testing.assert_allclose(fractions, calls / n_calls, atol=0.4)


def test_a_denoiser_without_numbers_is_refused(image):
    shape = (SIDE, SIDE, 3)
    blind = ProgramCache(lambda v, z, gamma: z * np.nan, {}, shape, GAMMA_RANGE, FINGERPRINT, 2)
    message = fails(InputError, lambda: encode(blind, image, packets=1))
    assert message == "the model's prediction holds NaN or infinity"


@pytest.mark.parametrize(("height", "width", "channels"), [(13, 20, 3), (1, 1, 3), (17, 5, 1)])
def test_lossless(codec, height, width, channels):
    image = make_image(height, width, channels)
    data = encode(codec, image, lossless=True)
    decoded = decode_stream(codec, parse(data))
    np.testing.assert_array_equal(decoded.image, image)
    assert (decoded.lossless, decoded.warnings) == (True, [])
    # It is a progressive stream, too.
    stream = parse(data)
    if len(stream.cuts) > stream.header.n_tiles + 1:
        prefix = prefix_at(
            stream, 8 * stream.cuts[-stream.header.n_tiles - 2].n_bytes / image[..., 0].size
        )
        decoded = decode_stream(codec, prefix)
        assert not decoded.lossless
        assert psnr(decoded.image, image) > 20


def test_some_tiles_lossless(codec, image):
    stream = parse(encode(codec, image, lossless=True))
    assert sorted(stream.residuals()) == list(range(6))
    half = prefix_at(stream, 8 * stream.cuts[-4].n_bytes / image[..., 0].size)
    exact = sorted(half.residuals())
    assert exact == [0, 1, 2]
    decoded = decode_stream(codec, half)
    assert not decoded.lossless
    for tile in exact:
        rows, columns = (slice(SIDE * i, SIDE * i + SIDE) for i in divmod(tile, 3))
        np.testing.assert_array_equal(decoded.image[rows, columns], image[rows, columns])


def test_a_damaged_residual_is_told(codec, image):
    stream = parse(encode(codec, image, lossless=True))
    items = list(stream.items)
    for i, (tile, item) in enumerate(items):
        if isinstance(item, Residual) and tile == 4:
            items[i] = tile, Residual(item.payload, item.crc ^ 1)
        if isinstance(item, Residual) and tile == 5:
            items[i] = tile, Residual(b"\xff" + item.payload[1:], item.crc)
    decoded = decode_stream(codec, Stream(stream.header, items, stream.cuts))
    assert decoded.warnings == [
        "tile 4 is not exact: its pixels do not fit their checksum",
        "tile 5 is not exact: the lossless residual is damaged",
    ]
    assert not decoded.lossless
    assert np.mean(decoded.image == image) > 0.9


def test_grey(codec):
    image = make_image(10, 12, 1)
    stream = parse(encode(codec, image, bpp=14.0))
    assert stream.header.grey
    decoded = decode_stream(codec, stream)
    assert decoded.image.shape == (10, 12, 1)
    assert psnr(decoded.image, image) > 25


def test_every_decoder_reads_the_same_stream(codec, image, stream):
    decoders = ("flow", "ancestral", "mean", "kappa=1.5")
    images = [decode_stream(codec, stream, decoder, 8).image for decoder in decoders]
    assert all(psnr(one, image) > 25 for one in images)
    assert len({one.tobytes() for one in images}) == 4
    again = decode_stream(codec, stream, "ancestral", 8).image
    np.testing.assert_array_equal(again, images[1])


def test_prefixes(codec, image, stream):
    n_pixels = image.shape[0] * image.shape[1]
    data = encode(codec, image, bpp=20.0)
    assert len(stream.cuts) > 5
    for cut in stream.cuts[:-1]:
        found = parse(data[: cut.n_bytes])
        assert (found.items, found.problem) == (stream.items[: cut.n_items], None)
        assert prefix_at(stream, 8 * cut.n_bytes / n_pixels) == found
        assert prefix_at(stream, 8 * (cut.n_bytes + 1) / n_pixels - 1e-9) == found
    assert prefix_at(stream, 1e9) == stream
    cut = parse(data[:-1])
    assert prefix_at(cut, 1e9).problem == cut.problem
    assert prefix_at(cut, 15.0).problem is None
    decoded = decode_stream(codec, cut)
    assert decoded.n_bytes == stream.cuts[-2].n_bytes
    assert decoded.warnings == [cut.problem]
    assert cut.problem == f"packet {len(stream.cuts)} is cut off or damaged"


def test_damage_is_refused_unless_it_is_to_be_salvaged(codec, image):
    data = bytearray(encode(codec, image, bpp=20.0))
    cuts = parse(bytes(data)).cuts
    data[(cuts[2].n_bytes + cuts[3].n_bytes) // 2] ^= 0x10
    damaged = parse(bytes(data))
    assert damaged.damaged
    assert damaged.cuts == cuts[:3]
    message = fails(InputError, lambda: check_damage(damaged, False, "--salvage"))
    assert message == f"{damaged.problem}; --salvage decodes what comes before it"
    assert message.startswith("packet 4 is damaged (")
    check_damage(damaged, True, "--salvage")
    decoded = decode_stream(codec, damaged)
    assert decoded.warnings == [damaged.problem]
    assert psnr(decoded.image, image) > 15


def test_tiles_share_the_bits_by_noise_level(stream):
    """They take turns; the busy ones need more bits for the same noise."""
    n_bits = [sum(step.path_bits for step in steps) for steps in stream.steps()]
    assert max(n_bits[0::3]) < max(n_bits[2::3])
    snr = snr_of(stream)
    assert max(snr) < 3 * min(snr)
    order = [tile for tile, _ in stream.items]
    assert order[:6] == list(range(6))


def test_streams_do_not_depend_on_the_batch(image, codec):
    assert encode(make_codec(batch_size=1), image, bpp=14.0) == encode(codec, image, bpp=14.0)


def test_seeds_choose_other_noise(codec, image):
    first, second = (
        encode_image(codec, image, Target(packets=2), memory=MEMORY, seed=seed)
        for seed in (0, 65535)
    )
    assert parse(second).header.seed == 65535
    assert parse(first).items[0][1].path != parse(second).items[0][1].path
    images = [decode_stream(codec, parse(data)).image for data in (first, second)]
    assert (images[0] != images[1]).any()


def test_the_default_seed_depends_on_the_image(codec, image):
    other = image.copy()
    other[0, 0, 0] ^= 1
    seeds = {image_seed(one) for one in (image, other, image[:, :-1], image[..., :1])}
    assert len(seeds) == 4
    assert parse(encode(codec, image, bpp=1.0)).header.seed == image_seed(image) < 256


def fails(kind, job):
    with pytest.raises(kind) as caught:
        job()
    return str(caught.value)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "choose one of bpp, psnr, packets, gamma and lossless"),
        ({"bpp": 1.0, "lossless": True}, "choose one of bpp, psnr, packets, gamma and lossless"),
        ({"bpp": 1.0, "psnr": 30.0}, "choose one of bpp, psnr, packets, gamma and lossless"),
        ({"bpp": 0.0}, "bpp: 0.0 is not positive"),
        ({"bpp": float("nan")}, "bpp: nan is not a finite number"),
        ({"psnr": float("inf")}, "psnr: inf is not a finite number"),
        ({"packets": -1}, "packets: -1 is not positive"),
        ({"gamma": float("nan")}, "gamma: nan is not a finite number"),
    ],
)
def test_targets_that_cannot_be(target, message):
    assert fails(UsageError, lambda: Target(**target)) == message


def test_targets_out_of_reach(codec, image):
    def message(**target):
        return fails(UsageError, lambda: encode(codec, image, **target))

    least = least_bytes(Header(20, 13, SIDE, MEMORY, 0, b"ab"))
    assert message(bpp=1e-9) == (
        f"bpp: 1e-09 is too little; this image needs at least {round_up(8 * least / 260)}"
    )
    assert message(bpp=8 * least / 260).startswith("bpp: 0.")
    assert message(psnr=1000.0) == (
        "psnr: 1000.0 dB is not reached by the least noise of this model; use lossless"
    )


def test_prefixes_too_short(stream):
    least = 8 * stream.cuts[0].n_bytes / 260
    message = f"at: 0.5 bits per pixel are too few; this stream begins at {round_up(least)}"
    assert fails(UsageError, lambda: prefix_at(stream, 0.5)) == message
    assert fails(UsageError, lambda: prefix_at(stream, float("nan"))).startswith("at: nan bits per")


def test_arguments_out_of_range(codec, image):
    def message(kind, image=image, **arguments):
        values = {"memory": MEMORY, **arguments}
        return fails(kind, lambda: encode_image(codec, image, Target(bpp=4.0), **values))

    assert message(UsageError, memory=7).startswith("memory: 7 is not one of 8, ")
    assert message(UsageError, seed=65536) == "seed: must be 0 to 65535, is 65536"
    assert message(InputError, np.zeros((1, 65536, 1), np.uint8)) == (
        "width of 65536 pixels; 1 to 65535 can be coded"
    )
    assert fails(UsageError, lambda: codec.reconstructor("foo", 4)) == (
        "decoder: 'foo' is not one of ancestral, flow, mean, kappa=K with K >= 1e-30"
    )


def test_streams_of_other_models(stream):
    other = make_codec(fingerprint=bytes(4))
    assert fails(InputError, lambda: decode_stream(other, stream)) == (
        "was made with another model (fingerprint a1b2, this one has 00000000)"
    )


def test_absurd_tiles_are_refused_before_anything_is_allocated(codec):
    header = Header(65535, 65535, 65535, 14, 0, FINGERPRINT[:2])
    stream = parse(random_stream(header, 1)[0])
    tracemalloc.start()
    message = fails(InputError, lambda: decode_stream(codec, stream))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert message == "has tiles of 65535 pixels, the model is of 8"
    assert peak < 100_000


def test_codecs_of_other_shapes_are_refused():
    message = fails(
        UsageError, lambda: ProgramCache(lambda *_: None, {}, (8, 4, 3), GAMMA_RANGE, FINGERPRINT)
    )
    assert message == "the codec needs a denoiser of square RGB images, not of 8x4 with 3 channels"
