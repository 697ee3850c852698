"""Images of any size to streams and back: every target, prefixes, borders, and what cannot be done."""

import tracemalloc

import numpy as np
import pytest

from diffc_jax.codec import noise_levels
from diffc_jax.codec.chain import Chain
from diffc_jax.codec.container import Header, Packet, Residual, StreamWriter, parse
from diffc_jax.codec.image_decoder import decode_stream, prefix_at
from diffc_jax.codec.image_encoder import Target, encode_image
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models.gaussian import gaussian_model

SIDE = 8
MEMORY = 4
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
    return encode_image(codec, image, Target(**target), memory=MEMORY)


@pytest.fixture(scope="module")
def stream(codec, image):
    return parse(encode(codec, image, bpp=20.0))


@pytest.mark.parametrize("bpp", [2.2, 2.5, 3.3, 6.0, 13.0, 14.0, 19.0])
def test_bpp_is_never_exceeded(codec, image, bpp):
    data = encode(codec, image, bpp=bpp)
    stream = parse(data)
    n_pixels = image.shape[0] * image.shape[1]
    # What is left would not have held another step: 4 bytes of path and its increment, or a packet of it.
    assert bpp - 8 * 12 / n_pixels < 8 * len(data) / n_pixels <= bpp
    assert (stream.problem, stream.ends[-1]) == (None, len(data))
    decoded = decode_stream(codec, stream)
    assert decoded.image.shape == image.shape
    assert (decoded.n_bytes, decoded.lossless, decoded.warnings) == (len(data), False, [])


def test_more_bits_are_better(codec, image, stream):
    quality = [
        psnr(decode_stream(codec, prefix_at(stream, bpp)).image, image) for bpp in (15, 16, 18, 20)
    ]
    assert quality == sorted(quality)
    assert quality[-1] > quality[0] + 1.5 > 29


@pytest.mark.parametrize("goal", [5.0, 24.0, 30.5, 41.0])
def test_psnr_is_reached_with_no_step_too_many(codec, image, goal):
    stream = parse(encode(codec, image, psnr=goal))
    assert psnr(decode_stream(codec, stream).image, image) >= goal
    # In the first round steps are dealt out in turn.
    tile = stream.order[-1]
    if len(stream.ends) == stream.header.n_tiles:
        n_steps = [len(packets[0].increments) for packets in stream.packets]
        tile = len(n_steps) - 1 - n_steps[::-1].index(max(n_steps))
    last = stream.packets[tile].pop()
    n_left = len(last.increments) - 1
    if n_left:
        paths = last.paths[: n_left * last.path_bits // 8]
        stream.packets[tile].append(Packet(last.path_bits, last.increments[:-1], paths, 0))
    elif not stream.packets[tile]:
        assert goal == 5.0
        return
    shorter = decode_stream(codec, stream)
    assert psnr(shorter.image, image) < goal


@pytest.mark.parametrize("number", [6, 7, 15])
def test_packets_are_counted(codec, image, number):
    stream = parse(encode(codec, image, packets=number))
    assert len(stream.ends) == number


def test_more_packets_than_there_are(codec, image):
    assert encode(codec, image, packets=10_000) == encode(codec, image, gamma=-100.0)


@pytest.mark.parametrize("gamma", [-3.0, 1.0, 9.0, 1000.0])
def test_gamma_arrives(codec, image, gamma):
    stream = parse(encode(codec, image, gamma=gamma))
    snr = [
        noise_levels.to_float(sum(noise_levels.increment(c) for p in packets for c in p.increments))
        for packets in stream.packets
    ]
    # The smallest increment of the format is the least there can be.
    np.testing.assert_allclose(snr, max(np.exp(-gamma), 2.0**-32), rtol=2 ** (1 / 32) - 1)
    assert decode_stream(codec, stream).warnings == []


@pytest.mark.parametrize(
    "target", [{"gamma": -8.0}, {"lossless": True}, {"bpp": 20.0}, {"packets": 24}, {"psnr": 41.0}]
)
def test_the_share_that_is_done_is_told(codec, image, target, monkeypatch):
    n_calls, predict = 0, Chain.predict

    def counted(*arguments):
        nonlocal n_calls
        n_calls += 1
        return predict(*arguments)

    monkeypatch.setattr(Chain, "predict", counted)
    told = []
    encode_image(
        codec,
        image,
        Target(**target),
        memory=MEMORY,
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
    message = fails(InputError, lambda: encode(blind, image, packets=6))
    assert message == "the model's prediction holds NaN or infinity"


@pytest.mark.parametrize(("height", "width", "channels"), [(13, 20, 3), (1, 1, 3), (17, 5, 1)])
def test_lossless(codec, height, width, channels):
    image = make_image(height, width, channels)
    data = encode(codec, image, lossless=True)
    decoded = decode_stream(codec, parse(data))
    np.testing.assert_array_equal(decoded.image, image)
    assert (decoded.lossless, decoded.warnings) == (True, [])
    # It is a progressive stream, too.
    prefix = prefix_at(parse(data), 8 * len(data) / (height * width) * 0.6)
    assert psnr(decode_stream(codec, prefix).image, image) > 20


def test_some_tiles_lossless(codec, image):
    stream = parse(encode(codec, image, lossless=True))
    assert {type(packets[-1]) for packets in stream.packets} == {Residual}
    half = prefix_at(stream, 8 * stream.ends[-4] / image[..., 0].size)
    exact = [isinstance(packets[-1], Residual) for packets in half.packets]
    assert 0 < sum(exact) < len(exact)
    decoded = decode_stream(codec, half)
    assert not decoded.lossless
    for tile in np.flatnonzero(exact):
        rows, columns = (slice(SIDE * i, SIDE * i + SIDE) for i in divmod(int(tile), 3))
        np.testing.assert_array_equal(decoded.image[rows, columns], image[rows, columns])


def test_a_damaged_residual_is_told(codec, image):
    stream = parse(encode(codec, image, lossless=True))
    last = stream.packets[4][-1]
    stream.packets[4][-1] = Residual(last.payload, last.crc ^ 1)
    stream.packets[5][-1] = Residual(b"\xff" + last.payload[1:], last.crc)
    decoded = decode_stream(codec, stream)
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
    for end in stream.ends[stream.header.n_tiles - 1 :]:
        assert prefix_at(stream, 8 * end / n_pixels) == parse(data[:end])
        assert prefix_at(stream, 8 * (end + 1) / n_pixels - 1e-9) == parse(data[:end])
    assert prefix_at(stream, 1e9) == stream
    cut = parse(data[:-1])
    assert prefix_at(cut, 1e9).problem == cut.problem
    assert prefix_at(cut, 15.0).problem is None
    decoded = decode_stream(codec, cut)
    assert decoded.n_bytes == stream.ends[-2]
    assert decoded.warnings == [cut.problem]
    assert cut.problem == (
        f"packet {len(stream.ends)} (tile {stream.order[-1]}, from byte {stream.ends[-2]}) is cut off"
    )


def test_tiles_share_the_bits_by_noise_level(stream):
    """They take turns; the busy ones need more packets for the same noise."""
    n_bits = [sum(8 * len(packet.paths) for packet in packets) for packets in stream.packets]
    assert max(n_bits[0::3]) < max(n_bits[2::3])
    snr = [
        sum(noise_levels.increment(code) for packet in packets for code in packet.increments)
        for packets in stream.packets
    ]
    assert max(snr) < 8 * min(snr)
    assert stream.order[:6] == list(range(6))
    assert len(set(stream.order[6:])) > 1


def test_streams_do_not_depend_on_the_batch(image, codec):
    assert encode(make_codec(batch_size=1), image, bpp=14.0) == encode(codec, image, bpp=14.0)


def test_seeds_choose_other_noise(codec, image):
    first, second = (
        encode_image(codec, image, Target(packets=6), memory=MEMORY, seed=seed)
        for seed in (0, 65535)
    )
    assert parse(second).header.seed == 65535
    assert parse(first).packets[0][0].paths != parse(second).packets[0][0].paths
    images = [decode_stream(codec, parse(data)).image for data in (first, second)]
    assert (images[0] != images[1]).any()


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

    assert message(bpp=1.0) == "bpp: 1.0 is too little; this image needs at least 2.154"
    assert message(bpp=1e-9) == "bpp: 1e-09 is too little; this image needs at least 2.154"
    assert message(packets=5) == (
        "packets: 5 are too few; each of the 6 tiles of this image has one"
    )
    assert message(psnr=1000.0) == (
        "psnr: 1000.0 dB is not reached by the least noise of this model; use lossless"
    )


def test_prefixes_too_short(stream):
    least = 8 * stream.ends[5] / 260
    message = f"at: 0.5 bits per pixel are too few; this stream begins at {least:.3f}"
    assert fails(UsageError, lambda: prefix_at(stream, 0.5)) == message
    assert fails(UsageError, lambda: prefix_at(stream, float("nan"))).startswith("at: nan bits per")


def test_arguments_out_of_range(codec, image):
    def message(kind, image=image, **arguments):
        values = {"memory": MEMORY, **arguments}
        return fails(kind, lambda: encode_image(codec, image, Target(bpp=4.0), **values))

    assert message(UsageError, memory=2) == "memory: must be 3 to 15, is 2"
    assert message(UsageError, seed=65536) == "seed: must be 0 to 65535, is 65536"
    assert message(InputError, np.zeros((1, 65536, 1), np.uint8)) == (
        "width of 65536 pixels; 1 to 65535 can be coded"
    )
    assert fails(UsageError, lambda: codec.reconstructor("foo", 4)) == (
        "decoder: 'foo' is not one of ancestral, flow, mean, kappa=K with K > 0"
    )


def test_streams_of_other_models(stream):
    other = make_codec(fingerprint=bytes(4))
    assert fails(InputError, lambda: decode_stream(other, stream)) == (
        "was made with another model (fingerprint a1b2c3d4, this one has 00000000)"
    )


def test_absurd_tiles_are_refused_before_anything_is_allocated(codec):
    writer = StreamWriter(Header(65535, 65535, 65535, 15, 0, FINGERPRINT))
    writer.append(Packet(2048, (511,) * 32, bytes(32 * 256), 0))
    stream = parse(writer.to_bytes())
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
