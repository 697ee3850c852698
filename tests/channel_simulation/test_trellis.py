"""The trellis channel: bit for bit as the reference, samples without bias, and what they cost."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from diffc_jax.channel_simulation.channel import ideal_rate, sample_statistics
from diffc_jax.channel_simulation.rotation import rotate
from diffc_jax.channel_simulation.trellis import TrellisChannel
from diffc_jax.errors import InputError, UsageError
from tests.support import reference_trellis as reference

SMALL = TrellisChannel(size=1536, path_bits=32, memory=8)
MANY = 512


def keys_of(number, first=0):
    return jnp.stack([jnp.full(number, 3), jnp.arange(first, first + number)], 1).astype(jnp.uint32)


def means(kind, number, size, length):
    mu = np.random.default_rng(1).normal(size=(number, size))
    if kind == "one coordinate":
        mu = np.eye(number, size)
    elif kind == "decaying":
        mu *= np.arange(1, size + 1) ** -0.6
    elif kind == "constant":
        mu = np.ones((number, size))
    return jnp.asarray(mu * length / np.linalg.norm(mu, axis=1, keepdims=True), jnp.float32)


def path_of(indices):
    return list(np.unpackbits(np.asarray(indices)))


# ---------------------------------------------------------------- the format


@pytest.mark.parametrize(
    ("size", "path_bits", "memory"), [(1536, 32, 8), (1000, 96, 7), (70, 64, 3)]
)
def test_decoder_is_the_one_of_the_reference(size, path_bits, memory):
    channel = TrellisChannel(size, path_bits, memory)
    indices = np.random.default_rng(0).integers(0, 256, (2, path_bits // 8), np.uint8)
    sample = channel.decode(keys_of(2), jnp.asarray(indices))
    for key, row, found in zip(np.asarray(keys_of(2)), indices, sample, strict=True):
        expected = reference.decode(size, memory, key, path_of(row))
        np.testing.assert_allclose(
            np.float64(found), expected, atol=1e-12 if size == 1536 else 2e-6
        )


def test_message_is_the_same_everywhere():
    """Paths and samples are part of every file: they may change with its version only.

    The mean is made of small integers and the sample of multiples of 2^-16, so both are exact.
    """
    mu = np.float32([reference.words([1, i], 9, 768).ravel() % 17 for i in range(2)]) - 8
    indices, sample = SMALL.encode(keys_of(2), jnp.asarray(mu))
    assert SMALL.to_bytes(indices).hex() == "e534bfb466b6be58"
    digest = hashlib.sha256()
    for key, row in zip(np.asarray(keys_of(2)), np.asarray(indices), strict=True):
        expected = reference.decode(SMALL.size, SMALL.memory, key, path_of(row))
        digest.update(np.rint(expected * 2**16).astype("<i4").tobytes())
    assert digest.hexdigest() == "ea5f9307570197c35f9939234364e3ff1db25a6580e516fc033642d1d59232b4"
    found = np.rint(np.float64(sample) * 2**16).astype("<i4").tobytes()
    assert hashlib.sha256(found).hexdigest() == digest.hexdigest()


# ---------------------------------------------------------------- exactness


def test_decoder_returns_the_sample_of_the_encoder_in_any_batch():
    lengths = jnp.linspace(0, 1.2 * SMALL.reach, MANY)[:, None]
    mu = means("gaussian", MANY, SMALL.size, 1.0) * lengths
    indices, sample = SMALL.encode(keys_of(MANY), mu)
    assert indices.dtype == np.uint8
    assert indices.shape == (MANY, 4) == (MANY, SMALL.bytes_per_message)
    for first in (0, 200, MANY - 1):
        part, keys = slice(first, first + 1), keys_of(1, first)
        part_indices, part_sample = SMALL.encode(keys, mu[part])
        np.testing.assert_array_equal(part_indices, indices[part])
        np.testing.assert_array_equal(part_sample, sample[part])
        np.testing.assert_array_equal(SMALL.decode(keys, indices[part]), sample[part])


def test_many_devices_give_the_same_messages():
    keys, mu = keys_of(MANY), means("gaussian", MANY, SMALL.size, SMALL.reach)
    indices, sample = SMALL.encode(keys, mu)
    mesh = jax.make_mesh((8,), ("b",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("b"))
    encode = jax.jit(SMALL.encode, in_shardings=(rows, rows), out_shardings=rows)
    for found, expected in zip(encode(keys, mu), (indices, sample), strict=True):
        assert len(found.sharding.device_set) == 8
        np.testing.assert_array_equal(found, expected)


def test_large_batches_are_searched_in_groups(monkeypatch):
    keys, mu = keys_of(MANY), means("gaussian", MANY, SMALL.size, SMALL.reach)
    indices, sample = SMALL.encode(keys, mu)
    monkeypatch.setattr("diffc_jax.channel_simulation.trellis.CORRELATIONS_ON_CPU", 4 * 32 * 128)
    found_indices, found_sample = SMALL.encode(keys[:6], mu[:6])
    np.testing.assert_array_equal(found_indices, indices[:6])
    np.testing.assert_array_equal(found_sample, sample[:6])


def test_bytes_are_the_paths():
    indices = jnp.asarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    assert SMALL.to_bytes(indices) == bytes(range(12))
    np.testing.assert_array_equal(SMALL.from_bytes(bytes(range(12)), 3), indices)
    with pytest.raises(InputError, match=r"^3 messages of 4 bytes were expected, not 11 bytes$"):
        SMALL.from_bytes(bytes(11), 3)


def test_keys_make_messages_different():
    mu = means("gaussian", 1, SMALL.size, SMALL.reach)
    samples = [np.asarray(SMALL.encode(keys_of(1, i), mu)[1] - mu)[0] for i in range(2)]
    # Apart from their projections on mu they are independent.
    assert abs(samples[0] @ samples[1]) < 4.5 * np.sqrt(SMALL.size)


# ---------------------------------------------------------------- the search


def best_circular_score(channel, key, mu):
    """Score of the best of all paths, by searching through every state before the first stage."""
    k, memory = channel.path_bits, channel.memory
    d, rows = channel.size // k, 1 << (channel.memory - 1)
    signs = 1.0 - 2.0 * reference.bits(np.asarray(key), 1, channel.size)
    rotated = np.float64(rotate(key[None], mu[None])[0]) * signs
    labels = rotated.reshape(k, d) @ (reference.table(memory, d) / 16).T
    best = -np.inf
    for start in range(2 * rows):
        score = np.full(2 * rows, -np.inf)
        score[start] = 0
        for label in labels:
            even, odd = score[::2], score[1::2]
            score = np.concatenate(
                [np.maximum(even + label, odd - label), np.maximum(even - label, odd + label)]
            )
        best = max(best, score[start])
    return best


def test_path_is_nearly_the_best_of_all():
    channel = TrellisChannel(size=256, path_bits=32, memory=5)
    keys, mu = keys_of(16), means("gaussian", 16, 256, 100.0)
    _, sample = channel.encode(keys, mu)
    found = np.sum(np.float64(sample) * mu, axis=1)
    best = np.array([best_circular_score(channel, *pair) for pair in zip(keys, mu, strict=True)])
    assert np.all(found < best * 1.0001)
    assert np.mean(found / best) > 0.999


@pytest.mark.parametrize("number", [0, 1, 13, 31])
def test_only_free_bits_are_chosen(number):
    free = jnp.full(MANY, number)
    mu = means("gaussian", MANY, SMALL.size, 1.0)
    one, other = (
        np.unpackbits(SMALL.encode_free(keys_of(MANY), m, free)[0], axis=1) for m in (mu, -mu)
    )
    differ = np.mean(one != other, axis=0) > 0
    assert np.sum(differ) == number
    places = np.flatnonzero(differ)
    assert number < 2 or np.ptp(np.diff(places)) <= 1
    assert np.mean(one[:, ~differ]) == pytest.approx(0.5, abs=4.5 / np.sqrt(MANY))


# ---------------------------------------------------------------- the distribution of the sample


@pytest.mark.parametrize("kind", ["gaussian", "one coordinate", "decaying", "constant"])
def test_sample_is_unbiased_and_gaussian_at_the_reach(kind):
    mu = means(kind, MANY, SMALL.size, SMALL.reach)
    found = sample_statistics(mu, SMALL.encode(keys_of(MANY), mu)[1])
    assert found.shift == pytest.approx(1, abs=0.01)
    assert 0.2 < found.spread < 0.35  # a true sample has 1
    assert found.variance == pytest.approx(1, abs=0.01)
    assert found.kurtosis == pytest.approx(3, abs=0.025)
    assert found.correlation == pytest.approx(0, abs=0.005)
    assert found.orthogonal_ks < 0.004


@pytest.mark.parametrize(
    ("share", "spread"), [(0.0, 1.0), (0.3, 0.69), (0.7, 0.38), (0.95, 0.28), (1.0, 0.26)]
)
def test_distribution_below_the_reach(share, spread):
    mu = means("gaussian", MANY, SMALL.size, share * SMALL.reach)
    found = sample_statistics(mu, SMALL.encode(keys_of(MANY), mu)[1])
    assert found.bias == pytest.approx(0, abs=0.02 + 4.5 * spread / np.sqrt(MANY))
    assert found.spread == pytest.approx(spread, rel=0.15)
    assert found.variance == pytest.approx(1, abs=0.01)
    assert found.kurtosis == pytest.approx(3, abs=0.025)
    assert found.orthogonal_ks < 0.004


def test_beyond_the_reach_the_projection_stays():
    mu = means("gaussian", MANY, SMALL.size, 3 * SMALL.reach)
    found = sample_statistics(mu, SMALL.encode(keys_of(MANY), mu)[1])
    assert found.shift == pytest.approx(1 / 3, abs=0.004)


def test_nothing_to_say_is_a_random_path():
    indices, _ = SMALL.encode(keys_of(MANY), jnp.zeros((MANY, SMALL.size)))
    assert np.mean(np.unpackbits(indices)) == pytest.approx(0.5, abs=4.5 / np.sqrt(MANY * 32) / 2)


@pytest.mark.parametrize(("size", "path_bits", "memory"), [(768, 128, 6), (1000, 96, 7)])
def test_reach_holds_for_other_shapes(size, path_bits, memory):
    channel = TrellisChannel(size, path_bits, memory)
    mu = means("gaussian", 128, size, channel.reach)
    found = sample_statistics(mu, channel.encode(keys_of(128), mu)[1])
    assert found.shift == pytest.approx(1, abs=0.012)


@pytest.mark.parametrize(
    ("path_bits", "memory", "ratio"),
    [(32, 10, 1.16), (64, 10, 1.1), (256, 10, 1.085), (256, 12, 1.07)],
)
def test_bits_over_information(path_bits, memory, ratio):
    channel = TrellisChannel(12288, path_bits, memory)
    assert 1 < path_bits / channel.ideal_rate < ratio
    mu = means("gaussian", 1, 12288, channel.reach)
    np.testing.assert_allclose(ideal_rate(mu), channel.ideal_rate, rtol=1e-5)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.float16])
def test_ideal_rate_of_any_type(kind):
    mu = np.full((2, 1000), 100, kind)
    np.testing.assert_allclose(ideal_rate(mu), 1000 * 100**2 / (2 * np.log(2)), rtol=1e-6)


def test_nothing_to_send_is_told():
    with pytest.raises(ValueError, match=r"^mu has no messages$"):
        TrellisChannel(64, 32, 8).encode(keys_of(0), jnp.zeros((0, 64)))


def test_more_free_bits_and_more_memory_reach_farther():
    for memory in range(3, 16):
        projections = TrellisChannel(12288, 256, memory)._projections
        assert np.all(np.diff(projections) > 0)
    reaches = [TrellisChannel(12288, 256, memory).reach for memory in range(3, 16)]
    assert np.all(np.diff(reaches) > 0)


# ---------------------------------------------------------------- measures


def test_statistics_of_true_samples():
    random = np.random.default_rng(0)
    mu = random.normal(size=(2000, 200)) * 0.3
    found = sample_statistics(mu, mu + random.normal(size=mu.shape))
    assert found.shift == pytest.approx(1, abs=0.02)
    assert found.bias == pytest.approx(0, abs=0.1)
    assert found.spread == pytest.approx(1, abs=0.06)
    assert found.variance == pytest.approx(1, abs=0.01)
    assert found.kurtosis == pytest.approx(3, abs=0.03)
    assert found.correlation == pytest.approx(0, abs=0.006)
    assert found.projection_ks < 1.63 / np.sqrt(2000)
    assert found.orthogonal_ks < 1.63 / np.sqrt(400000)


def test_statistics_tell_what_is_wrong():
    random = np.random.default_rng(0)
    mu, noise = random.normal(size=(400, 300)), random.normal(size=(400, 300))
    assert sample_statistics(mu, 0.9 * mu + noise).shift == pytest.approx(0.9, abs=0.01)
    assert sample_statistics(mu, 1.1 * mu + noise).bias == pytest.approx(0.1 * 300**0.5, abs=0.2)
    assert sample_statistics(mu, mu + 2 * noise).spread == pytest.approx(2, abs=0.3)
    assert sample_statistics(mu, mu + 2 * noise).variance == pytest.approx(4, abs=0.1)
    assert sample_statistics(mu, mu + 2 * noise).orthogonal_ks > 0.1
    assert sample_statistics(mu, mu + 0.01 * noise).projection_ks == pytest.approx(0.5, abs=0.02)
    assert sample_statistics(mu, mu + np.sign(noise)).kurtosis == pytest.approx(1)
    smooth = noise + np.roll(noise, 1, axis=1)
    assert sample_statistics(mu, mu + smooth).correlation == pytest.approx(0.5, abs=0.02)
    found = sample_statistics(np.zeros((400, 300)), noise)
    assert np.isnan(found.shift)
    assert found.spread == pytest.approx(np.std(noise[:, 0]))


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 0, 8), "path_bits: 0; choose a multiple of 32 from 32 to 2048"),
        ((100, 40, 8), "path_bits: 40; choose a multiple of 32 from 32 to 2048"),
        ((9999, 2080, 8), "path_bits: 2080; choose a multiple of 32 from 32 to 2048"),
        ((63, 64, 8), "path_bits: 64 for 63 dimensions; choose at most a bit for each"),
        ((64, 32, 2), "memory: 2; choose 3 to 15 bits of shift register"),
        ((64, 32, 16), "memory: 16; choose 3 to 15 bits of shift register"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(UsageError) as error:
        TrellisChannel(*arguments)
    assert str(error.value) == message


def test_arrays_that_are_no_messages_are_refused():
    with pytest.raises(ValueError, match=r"^mu has 100 dimensions, messages have 1536$"):
        SMALL.encode(keys_of(1), jnp.zeros((1, 100)))
    with pytest.raises(ValueError, match=r"^mu is not finite$"):
        SMALL.encode(keys_of(1), jnp.full((1, SMALL.size), jnp.nan))
    with pytest.raises(ValueError, match=r"^paths have 5 bytes, messages have 4$"):
        SMALL.decode(keys_of(1), jnp.zeros((1, 5), jnp.uint8))
