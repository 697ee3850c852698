"""HiFiC's files: round trips, their length, a format that does not change, and what is refused."""

import functools

import jax
import numpy as np
import pytest
from scipy.special import ndtr

from diffc_jax.baselines.hific.codec import HificCodec
from diffc_jax.baselines.hific.config import HificArchitecture
from diffc_jax.baselines.hific.entropy_coding import (
    HYPER_LARGEST,
    LatentCoder,
    header_bytes,
    table_scales,
)
from diffc_jax.baselines.hific.model import Hific
from diffc_jax.errors import InputError, UsageError

DAMAGED = (
    "is damaged, was written by another model, or on a machine whose networks round differently"
)
HYPER_CHANNELS = 24


def laplacian_masses(channels):
    """A discrete distribution for each channel, wider from channel to channel."""
    spread = np.linspace(0.3, 4.0, channels)[:, None]
    masses = np.exp(-np.abs(np.arange(-HYPER_LARGEST, HYPER_LARGEST + 1)) / spread)
    return masses / masses.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def masses():
    return laplacian_masses(HYPER_CHANNELS)


@pytest.fixture(scope="module")
def coder(masses):
    return LatentCoder(masses)


def draw_symbols(rng, masses, grid=4, channels=220, largest_index=40):
    """Symbols as the entropy models expect them, and the bits that the models give them."""
    support = np.arange(-HYPER_LARGEST, HYPER_LARGEST + 1)
    hyper = np.stack([rng.choice(support, (1, 1), p=row) for row in masses], -1)
    cost = -np.log2(masses[np.arange(len(masses)), hyper + HYPER_LARGEST]).sum()
    indices = rng.integers(0, largest_index, (grid, grid, channels)).astype(np.uint8)
    scales = table_scales()[indices]
    latent = np.rint(rng.normal(0, scales)).astype(np.int64)
    upper, lower = ((latent + shift) / scales for shift in (0.5, -0.5))
    return hyper, latent, indices, cost - np.log2(ndtr(upper) - ndtr(lower)).sum()


def read(coder, data, hyper_shape, indices):
    reader = coder.open(data)
    return reader.size, reader.hyper(hyper_shape), reader.latent(indices)


def test_what_was_written_is_read(coder, masses):
    rng = np.random.default_rng(0)
    for seed in range(20):
        hyper, latent, indices, _ = draw_symbols(rng, masses, channels=1 + 3 * seed)
        data = coder.encode((64, 64), hyper, latent, indices)
        size, hyper_read, latent_read = read(coder, data, hyper.shape, indices)
        assert size == (64, 64)
        np.testing.assert_array_equal(hyper_read, hyper)
        np.testing.assert_array_equal(latent_read, latent)


def test_symbols_outside_their_tables_are_read(coder):
    hyper = np.zeros((2, 3, HYPER_CHANNELS), np.int32)
    hyper[0, 0, :4] = [255, 256, -256, -(2**24) + 1]
    latent = np.zeros((2, 2, 8), np.int32)
    latent[1, 0] = [2, -2, 1, -1, 2**24 - 1, -1536, 1537, -4000]
    indices = np.array([[[0] * 8, [63] * 8], [[0] * 4 + [5, 63, 63, 63], [9] * 8]], np.uint8)
    data = coder.encode((1000, 20), hyper, latent, indices)
    size, hyper_read, latent_read = read(coder, data, hyper.shape, indices)
    assert size == (1000, 20)
    np.testing.assert_array_equal(hyper_read, hyper)
    np.testing.assert_array_equal(latent_read, latent)


@pytest.mark.parametrize("largest_index", [12, 20, 40])
def test_files_are_as_long_as_estimated(coder, masses, largest_index):
    rng = np.random.default_rng(largest_index)
    real = estimated = 0.0
    for _ in range(12):
        hyper, latent, indices, bits = draw_symbols(rng, masses, largest_index=largest_index)
        data = coder.encode((64, 64), hyper, latent, indices)
        real += 8 * (len(data) - header_bytes((64, 64)))
        estimated += bits
    assert 0.1 < estimated / 12 / 4096 < 5
    assert real == pytest.approx(estimated, rel=0.01)


def test_the_end_of_a_stream_costs_less_than_a_byte():
    """Symbols of half a bit each: bytes beyond their information are the coder's own."""
    masses = np.zeros((1, 2 * HYPER_LARGEST + 1))
    masses[0, HYPER_LARGEST : HYPER_LARGEST + 2] = [2**-0.5, 1 - 2**-0.5]
    coder = LatentCoder(masses)
    nothing = np.zeros((1, 1, 0), np.int64)
    beyond = []
    for count in range(1, 300):
        hyper = np.zeros((count, 1, 1), np.int64)
        data = coder.encode((64, 64), hyper, nothing, nothing.astype(np.uint8))
        beyond.append(8 * (len(data) - header_bytes((64, 64))) - count / 2)
        np.testing.assert_array_equal(coder.open(data).hyper(hyper.shape), hyper)
    assert np.mean(beyond) < 8


def test_format_does_not_change(coder):
    hyper = np.arange(-12, 12).reshape(1, 1, HYPER_CHANNELS)
    latent = np.array([[[0, 1, -1, 3, 40, -700]]])
    indices = np.array([[[0, 5, 9, 20, 30, 63]]], np.uint8)
    data = coder.encode((64, 200), hyper, latent, indices)
    assert data.hex() == (
        "f140c801bf0000f30000f3fe19f4ff0d3201266625978b6ca3b97bb0c19cd132bc8c0838dc6908"
    )
    assert header_bytes((64, 200)) == 5
    assert header_bytes((64, 64)) == 4


def test_damaged_files_are_refused(coder, masses):
    """A checksum of eight bits lets a damaged file in 256 pass, if it is as long as its symbols need."""
    rng = np.random.default_rng(1)
    hyper, latent, indices, _ = draw_symbols(rng, masses, channels=40, largest_index=16)
    data = coder.encode((64, 64), hyper, latent, indices)
    mutated = [data[:length] for length in range(len(data))]
    mutated += [data + bytes([byte]) for byte in range(256)]
    for place in range(len(data)):
        for _ in range(8):
            byte = (data[place] + int(rng.integers(1, 256))) % 256
            mutated.append(data[:place] + bytes([byte]) + data[place + 1 :])
    messages = []
    for damaged in mutated:
        try:
            read(coder, damaged, hyper.shape, indices)
        except InputError as error:
            messages.append(str(error))
    assert set(messages) == {DAMAGED, "is not a HiFiC file"}
    assert len(messages) >= 0.99 * len(mutated)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a HiFiC file"),
        (b"\x89PNG....", "is not a HiFiC file"),
        (b"\xf1\x40", DAMAGED),
        (b"\xf1\x00\x40\x00", DAMAGED),
        (b"\xf1\xff\xff\xff\xff\x0f\x40\x00", DAMAGED),
        (b"\xf1\xc0\x00\x40\x00", DAMAGED),
    ],
)
def test_headers_are_checked(coder, data, message):
    with pytest.raises(InputError) as error:
        coder.open(data)
    assert str(error.value) == message


def test_other_tables_are_noticed(coder, masses):
    rng = np.random.default_rng(2)
    hyper, latent, indices, _ = draw_symbols(rng, masses)
    data = coder.encode((64, 64), hyper, latent, indices)
    other = indices.copy()
    other[0, 0, 0] += 1
    with pytest.raises(InputError) as error:
        read(coder, data, hyper.shape, other)
    assert str(error.value) == DAMAGED
    with pytest.raises(InputError):
        read(LatentCoder(masses[::-1]), data, hyper.shape, indices)


def test_what_cannot_be_written(coder):
    hyper = np.zeros((1, 1, HYPER_CHANNELS), np.int64)
    latent, indices = np.zeros((1, 1, 1), np.int64), np.zeros((1, 1, 1), np.uint8)
    with pytest.raises(ValueError, match=r"^an image of 0x64; sides are 1 to 16384$"):
        coder.encode((0, 64), hyper, latent, indices)
    with pytest.raises(ValueError, match=r"^a symbol of size 16777216; they go up to 16777215$"):
        coder.encode((64, 64), hyper, latent - 2**24, indices)
    with pytest.raises(ValueError, match=r"^the masses of hyper symbols are not finite$"):
        LatentCoder(np.full((1, 511), np.nan))


TINY = HificArchitecture(
    downsamplings=3, base_channels=2, latent_channels=6, hyper_channels=4, residual_blocks=1
)


_init = jax.jit(Hific(TINY).init_autoencoder)


@functools.cache
def tiny_params(seed):
    """Parameters with latents of a few units and scales between the ends of the table."""
    params = _init(jax.random.key(seed, impl="rbg"))  # Compiles in a fifth of the time.
    params["encoder"]["Conv_0"]["kernel"] *= 4.0
    params["hyper_analysis"]["Conv_2"]["kernel"] *= 4.0
    params["hyper_scale"]["Conv_0"]["bias"] += 1.5
    return params


@pytest.fixture(scope="module")
def tiny():
    return Hific(TINY)


@pytest.fixture(scope="module")
def codec(tiny):
    return HificCodec(tiny, tiny_params(0))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


def test_images_survive_real_files(tiny, codec, images):
    files, bits = codec.encode(images)
    symbols, estimates = tiny.quantise(tiny_params(0), images / np.float32(255))
    assert len(np.unique(symbols.latent)) > 5
    assert len(np.unique(symbols.hyper)) > 2
    np.testing.assert_allclose(bits, estimates, rtol=1e-5)
    expected = tiny.reconstruct(tiny_params(0), symbols)
    assert expected.min() >= 0
    assert expected.max() <= 1
    np.testing.assert_array_equal(codec.decode(files), np.rint(255 * np.asarray(expected)))
    payload = 8 * (sum(map(len, files)) - len(files) * header_bytes((32, 32)))
    assert payload == pytest.approx(bits.sum(), abs=8 * len(files))


def test_an_image_has_the_same_file_in_any_batch(codec, images):
    files, _ = codec.encode(images)
    alone, _ = codec.encode(images[2:3])
    assert alone == files[2:3]
    np.testing.assert_array_equal(codec.decode(files[2:3]), codec.decode(files)[2:3])


def test_files_of_another_model_are_noticed(tiny, codec, images):
    files, _ = codec.encode(images)
    other = HificCodec(tiny, tiny_params(1))
    with pytest.raises(InputError) as error:
        other.decode(files)
    assert str(error.value) == f"file 0: {DAMAGED}"


def test_sizes_are_checked(codec, images):
    files, _ = codec.encode(images)
    with pytest.raises(UsageError) as usage:
        codec.encode(images[:, :20])
    assert str(usage.value) == "image size: 20x32; sides must be multiples of 8"
    wrong = files[1][:1] + bytes([36]) + files[1][2:]
    with pytest.raises(InputError) as error:
        codec.decode([files[0], wrong])
    assert str(error.value) == (
        "file 1: is damaged (image size: 36x32; sides must be multiples of 8)"
    )
