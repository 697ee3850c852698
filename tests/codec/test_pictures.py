"""Images larger than the denoiser's as one chain: every target, prefixes, edges, damage and drift."""

import dataclasses
import math

import jax
import numpy as np
import pytest

from diffc_jax.codec import picture_decoder
from diffc_jax.codec.container import parse, write_stream
from diffc_jax.codec.header import header_bytes, parse_header
from diffc_jax.codec.image_decoder import decode_stream, prefix_at
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.picture_sizes import PictureSizes, messages_after
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.stream import SNR_BITS, Header, Residual, Stream, snr_to_float
from diffc_jax.codec.targets import Target
from diffc_jax.codec.windows import WindowedDenoiser
from diffc_jax.diffusion.decoders import DECODERS, DEFAULT_BUDGET
from diffc_jax.errors import InputError, UsageError
from tests.codec.test_images import (
    FINGERPRINT,
    GAMMA_RANGE,
    MEMORY,
    SIDE,
    make_codec,
    make_image,
    psnr,
)
from tests.support.refusals import fails
from tests.support.streams import random_steps, random_stream

N_PIXELS = 13 * 20


@pytest.fixture(scope="module")
def codec():
    return make_codec()


@pytest.fixture(scope="module")
def image():
    return make_image(13, 20)


def encode(codec, image, **target):
    return encode_image(codec, image, Target(**target), memory=MEMORY)


@pytest.fixture(scope="module")
def data(codec, image):
    return encode(codec, image, bpp=14.0)


@pytest.fixture(scope="module")
def exact(codec, image):
    return encode(codec, image, lossless=True)


@pytest.mark.parametrize("n_steps", [None, 3])
def test_steps_follow_the_noise(codec, data, monkeypatch, n_steps):
    """Calls of the network after the chain's: as many as asked for, or as a sweep makes."""
    stream, calls, look = parse(data), [], WindowedDenoiser.x_hat
    end = sum(step[0].delta for step in stream.picture_steps())
    monkeypatch.setattr(WindowedDenoiser, "x_hat", lambda *at: calls.append(at) or look(*at))
    decode_stream(codec, stream, "flow", n_steps)
    gamma, (low, high) = -math.log(snr_to_float(end)), GAMMA_RANGE
    expected = n_steps or DECODERS["flow"].default_steps(gamma, low, high)
    assert len(calls) - len(stream.picture_steps()) == expected
    assert expected < DEFAULT_BUDGET.flow


@pytest.mark.parametrize("bpp", [1.0, 2.2, 3.3, 6.0, 13.0, 19.0])
def test_bpp_is_met_from_below(codec, image, bpp):
    data = encode(codec, image, bpp=bpp)
    budget = int(bpp * N_PIXELS / 8)
    assert budget - max(8, 0.02 * budget) <= len(data) <= budget
    stream = parse(data)
    assert (stream.problem, stream.n_bytes) == (None, len(data))
    decoded = decode_stream(codec, stream)
    assert decoded.image.shape == image.shape
    assert (decoded.lossless, decoded.warnings) == (False, [])


def test_more_bits_than_the_model_can_use_are_left(codec, image):
    """A picture ends at the least noise, as tiles do."""
    end = encode(codec, image, gamma=-100.0)
    assert len(encode(codec, image, bpp=200.0)) <= 1.05 * len(end)


@pytest.mark.parametrize("bpp", [0.5, 20.0])
def test_blank_pictures(codec, bpp):
    """x_hat is nearly right at once: nothing is left that a step beyond the end could send."""
    blank = np.zeros((16, 24, 3), np.uint8)
    data = encode(codec, blank, bpp=bpp)
    assert 8 * len(data) <= bpp * blank[..., 0].size
    assert decode_stream(codec, parse(data)).image.shape == blank.shape


@pytest.mark.parametrize("bpp", [4.0, 10.0])
def test_better_than_tiles(codec, image, bpp):
    target = Target(bpp=bpp)
    whole, tiled = (
        decode_stream(codec, parse(encode_image(codec, image, target, memory=MEMORY, tiled=tiled)))
        for tiled in (False, True)
    )
    assert psnr(whole.image, image) > psnr(tiled.image, image) + 1


def border_ratio(error):
    """How much more errors change across borders of tiles than between other neighbours."""
    changes = [np.abs(np.diff(error, axis=axis)).mean(axis=(1 - axis, 2)) for axis in (0, 1)]
    across = np.concatenate([change[SIDE - 1 :: SIDE] for change in changes])
    return across.mean() / np.concatenate(changes).mean()


def test_borders_of_tiles_do_not_show():
    codec, image, ratios = make_codec(batch_size=16), make_image(64, 72), []
    for tiled in (False, True):
        data = encode_image(codec, image, Target(bpp=3.0), memory=MEMORY, tiled=tiled)
        ratios.append(border_ratio(decode_stream(codec, parse(data)).image.astype(float) - image))
    assert ratios[0] < 1.02
    assert ratios[1] > ratios[0] + 0.07


@pytest.mark.parametrize("goal", [20.0, 30.5, 41.0])
def test_psnr_is_reached(codec, image, goal):
    decoded = decode_stream(codec, parse(encode(codec, image, psnr=goal)))
    assert goal <= psnr(decoded.image, image) < goal + 1


@pytest.mark.parametrize("goal", [15.0, 20.0, 30.0])
def test_psnr_of_black_and_white_is_hardly_exceeded(codec, goal):
    """The flow decoder's error is far below that of x_hat, since pixels are clipped."""
    letters = np.random.default_rng(0).integers(0, 2, (13, 20, 1), np.uint8) * np.uint8([255] * 3)
    decoded = decode_stream(codec, parse(encode(codec, letters, psnr=goal)))
    assert goal <= psnr(decoded.image, letters) < goal + 0.5


def test_the_last_step_to_a_psnr_is_no_larger_than_the_one_that_sufficed(image):
    """All steps end where noise is least, so that nothing may go further than they do."""
    codec = dataclasses.replace(make_codec(), gamma_range=(-6.0, 5.0))
    everything = encode(codec, image, gamma=-6.0)
    best = psnr(decode_stream(codec, parse(everything)).image, image)
    found = encode(codec, image, psnr=best - 0.02)
    assert len(found) <= len(everything)
    snr = [sum(step[0].delta for step in parse(one).picture_steps()) for one in (found, everything)]
    assert snr[0] <= snr[1]


def test_packets_and_gamma(codec, image):
    assert len(parse(encode(codec, image, packets=3)).cuts) == 3
    stream = parse(encode(codec, image, gamma=-3.0))
    snr = snr_to_float(sum(step[0].delta for step in stream.picture_steps()))
    assert snr == pytest.approx(math.exp(3.0), rel=0.02)
    assert len(parse(encode(codec, image, gamma=1000.0)).picture_steps()) == 1


def test_all_messages_of_a_step_add_the_same(data):
    steps = parse(data).picture_steps()
    assert all(len({message.delta for message in step}) == 1 for step in steps)
    assert max(map(len, steps)) > 1
    bits, size, window = 0, 3 * N_PIXELS, 3 * SIDE**2
    for step in steps:
        count, message_size = messages_after(bits, size, window)
        assert len(step) == count
        assert count * message_size >= size
        bits += sum(message.path_bits for message in step)


def test_prefixes(codec, data):
    stream = parse(data)
    assert len(stream.cuts) > 4
    for cut in stream.cuts[:-1]:
        found = parse(data[: cut.n_bytes])
        assert (found.items, found.problem) == (stream.items[: cut.n_items], None)
        assert prefix_at(stream, 8 * cut.n_bytes / N_PIXELS) == found
    shorter = parse(data[:-1])
    assert shorter.cuts == stream.cuts[:-1]
    decoded = decode_stream(codec, shorter)
    assert decoded.warnings == [f"packet {len(stream.cuts)} is cut off or damaged"]


def test_more_bits_are_better(codec, image, data):
    stream = parse(data)
    sizes = [8 * cut.n_bytes / N_PIXELS for cut in stream.cuts]
    quality = [psnr(decode_stream(codec, prefix_at(stream, at)).image, image) for at in sizes]
    assert quality == sorted(quality)
    assert quality[-1] > quality[0] + 4


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(13, 20, 3), (1, 9, 3), (17, 5, 1), (9, 8, 3)]
)
def test_lossless(codec, height, width, channels):
    image = make_image(height, width, channels)
    data = encode(codec, image, lossless=True)
    decoded = decode_stream(codec, parse(data))
    np.testing.assert_array_equal(decoded.image, image)
    assert (decoded.lossless, decoded.warnings) == (True, [])


def test_one_tile_has_the_bytes_of_tiles(codec):
    for shape in ((8, 8), (1, 1), (5, 8)):
        image = make_image(*shape)
        tiled = encode_image(codec, image, Target(packets=1), memory=MEMORY, tiled=True)
        assert encode(codec, image, packets=1) == tiled
        assert tiled[0] == 0xD2


def test_some_tiles_lossless(codec, image, exact):
    stream = parse(exact)
    half = prefix_at(stream, 8 * stream.cuts[-4].n_bytes / N_PIXELS)
    assert sorted(half.residuals()) == [0, 1, 2]
    decoded = decode_stream(codec, half)
    assert not decoded.lossless
    np.testing.assert_array_equal(decoded.image[:8], image[:8])
    assert np.mean(decoded.image == image) > 0.8


def test_a_damaged_residual_is_told(codec, image, exact):
    stream = parse(exact)
    items = [
        (
            tile,
            Residual(item.payload, item.crc ^ 1)
            if isinstance(item, Residual) and tile == 4
            else item,
        )
        for tile, item in stream.items
    ]
    decoded = decode_stream(codec, Stream(stream.header, items, stream.cuts))
    assert decoded.warnings == ["tile 4 is not exact: its pixels do not fit their checksum"]
    assert not decoded.lossless
    assert np.mean(decoded.image == image) > 0.9


def test_damage_is_noticed(data):
    cuts = parse(data).cuts
    spoilt = bytearray(data)
    spoilt[(cuts[1].n_bytes + cuts[2].n_bytes) // 2] ^= 0x10
    damaged = parse(bytes(spoilt))
    assert damaged.damaged
    assert damaged.cuts == cuts[:2]


def test_grey(codec):
    image = make_image(10, 12, 1)
    decoded = decode_stream(codec, parse(encode(codec, image, bpp=14.0)))
    assert decoded.image.shape == image.shape
    assert psnr(decoded.image, image) > 28


def test_every_decoder_reads_the_same_stream(codec, image, data):
    stream = parse(data)
    decoders = ("flow", "ancestral", "mean", "kappa=1.5")
    images = [decode_stream(codec, stream, decoder, 8).image for decoder in decoders]
    assert all(psnr(one, image) > 25 for one in images)
    assert len({one.tobytes() for one in images}) == 4
    assert (decode_stream(codec, stream, "ancestral", 8).image == images[1]).all()


@pytest.mark.parametrize(("decoder", "width"), [("flow", 26), ("ancestral", 27)])
def test_a_new_size_is_decoded_by_few_programs(codec, caplog, decoder, width):
    z = np.random.default_rng(0).standard_normal((15, width, 3)).astype(np.float32)
    denoiser = WindowedDenoiser(codec, 6, 0)
    with jax.log_compiles():
        picture_decoder.reconstruct(denoiser, z, 1 << SNR_BITS, decoder, None, seed=1)
    compiled = [line for line in caplog.messages if line.startswith("Compiling ")]
    assert 5 <= len(compiled) <= 20


def test_streams_do_not_depend_on_the_batch(image, data):
    assert encode(make_codec(batch_size=3), image, bpp=14.0) == data


def test_drift_is_told(codec, data):
    """A machine whose network is off by a hundredth."""
    other = ProgramCache(
        lambda variables, z, gamma: 1.01 * codec.denoiser(variables, z, gamma),
        codec.variables,
        codec.image_shape,
        GAMMA_RANGE,
        FINGERPRINT,
        2,
    )
    (warning,) = decode_stream(other, parse(data)).warnings
    assert warning.startswith("the latents are not the sender's: this machine computes the model")


def test_a_denoiser_without_numbers_is_refused(image):
    shape = (SIDE, SIDE, 3)
    blind = ProgramCache(lambda v, z, gamma: z * np.nan, {}, shape, GAMMA_RANGE, FINGERPRINT, 2)
    fails(
        InputError,
        "the model's prediction holds NaN or infinity",
        lambda: encode(blind, image, packets=1),
    )


def test_targets_out_of_reach(codec, image):
    with pytest.raises(
        UsageError, match=r"bpp: 0\.45 is too little; this image needs about \d\.\d"
    ):
        encode(codec, image, bpp=0.45)
    with pytest.raises(UsageError, match=r"psnr: 1000\.0 dB is not reached"):
        encode(codec, image, psnr=1000.0)


@pytest.mark.parametrize("target", [{"bpp": 14.0}, {"gamma": -8.0}, {"lossless": True}])
def test_progress_is_told(codec, image, target):
    told = []
    options = {"memory": MEMORY, "on_progress": told.append}
    data = encode_image(codec, image, Target(**target), **options)
    assert len(told) > 5
    assert told == sorted(told)
    assert 0 <= told[0] < 0.25 < 0.7 < told[-1] <= 1
    told.clear()
    decode_stream(codec, parse(data), on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0 > told[-2]


@pytest.mark.parametrize("decoder", ["flow", "ancestral", "mean"])
def test_progress_of_few_bits_counts_the_windows_of_less_noise(codec, decoder):
    """The chain ends on a picture that is halved, which the steps of the decoder are not."""
    data = encode_image(codec, make_image(40, 56), Target(gamma=3.0), memory=MEMORY)
    told = []
    decode_stream(codec, parse(data), decoder, on_progress=told.append)
    assert told[-1] == 1.0 > told[-2]


HEADER = Header(700, 90, 64, 14, 700, b"ab", stride=56, octaves=1)


@pytest.mark.parametrize(
    "header", [HEADER, dataclasses.replace(HEADER, grey=True, n_steps=7, tile=24, stride=24)]
)
def test_headers(header):
    data = header_bytes(header)
    assert data[0] == 0xD3
    assert parse_header(data) == (header, len(data))
    for end in range(2, len(data)):
        with pytest.raises(InputError, match="cut off inside the header"):
            parse_header(data[:end])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 0}, "windows 0 pixels apart; it must be 1 to 64"),
        ({"stride": 65}, "windows 65 pixels apart; it must be 1 to 64"),
        ({"octaves": 4}, "pictures halved 4 times; it can be up to 3"),
    ],
)
def test_headers_out_of_range(change, message):
    fails(InputError, message, lambda: dataclasses.replace(HEADER, **change))


def test_large_pictures_are_parsed_without_their_latents(codec):
    header = Header(8192, 8192, 64, 14, 0, FINGERPRINT[:2], stride=56, octaves=3)
    sizes = PictureSizes(0, 3 * 8192**2, 3 * 64**2, 14)
    data, _ = random_stream(header, sizes.n_messages)
    stream = parse(data)
    assert (stream.problem, len(stream.items)) == (None, sizes.n_messages)
    fails(
        InputError,
        "has tiles of 64 pixels, the model is of 8",
        lambda: decode_stream(codec, stream),
    )


def test_streams_that_stop_within_a_step_are_damaged():
    header = Header(9, 8, 8, MEMORY, 7, b"ab", stride=8)
    steps = random_steps(header, 60)
    short = dataclasses.replace(header, n_steps=len(steps) - 1)
    stream = parse(write_stream(short, steps[:-1], [Residual(b"", 0)] * 2))
    assert (
        stream.problem == f"packet {len(stream.cuts) + 1} is damaged (the last step is not whole)"
    )
    assert stream.damaged


def test_tiles_at_the_edges_are_cropped():
    header = dataclasses.replace(HEADER, width=130, height=65)
    assert picture_decoder.tile_of(header, 2) == (slice(0, 64), slice(128, 130))
    assert picture_decoder.tile_of(header, 4) == (slice(64, 65), slice(64, 128))
