"""The open trellis: bit for bit as the reference, the best of all paths, and what its samples are like."""

import hashlib
import itertools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.channel_simulation import host_scores, open_trellis
from diffc_jax.channel_simulation.open_trellis import OpenTrellis, stage_ends
from diffc_jax.channel_simulation.rotation import rotate
from diffc_jax.errors import UsageError
from tests.support import reference_open_trellis as reference
from tests.support.reference_trellis import bits, words

SMALL = OpenTrellis(size=1536, memory=8, most_bits=48)
KS = np.array([1, 2, 5, 17, 32, 47, 48])


def keys_of(number, first=0):
    return jnp.stack([jnp.full(number, 3), jnp.arange(first, first + number)], 1).astype(jnp.uint32)


def directions(number, size, seed=1):
    mu = np.random.default_rng(seed).normal(size=(number, size))
    return jnp.asarray(mu / np.linalg.norm(mu, axis=1, keepdims=True), jnp.float32)


def random_paths(trellis, ks, seed=0):
    paths = np.random.default_rng(seed).integers(0, 2, (len(ks), trellis.most_bits), np.uint8)
    return np.where(np.arange(trellis.most_bits) < ks[:, None], paths, 0).astype(np.uint8)


# ---------------------------------------------------------------- the format


@pytest.mark.parametrize(
    ("size", "memory", "ks"), [(1536, 8, KS), (1000, 12, KS[:5]), (70, 4, KS[1:4])]
)
def test_decoder_is_the_one_of_the_reference(size, memory, ks):
    trellis = OpenTrellis(size, memory, 48)
    paths = random_paths(trellis, ks)
    sample = trellis.decode(keys_of(len(ks)), jnp.asarray(paths), jnp.asarray(ks))
    for key, path, k, found in zip(np.asarray(keys_of(len(ks))), paths, ks, sample, strict=True):
        expected = reference.decode(size, memory, key, path[:k].tolist())
        np.testing.assert_allclose(
            np.float64(found), expected, atol=1e-12 if size == 1536 else 2e-6
        )


@pytest.mark.parametrize("size", [640, 12288, 3 * 512**2])
def test_stages_share_all_dimensions(size):
    ks = np.arange(1, 641)
    found = np.asarray(stage_ends(size, 640, jnp.asarray(ks)))
    for k, ends in zip(ks, found, strict=True):
        assert ends[: k + 1].tolist() == [0, *reference.stage_ends(size, k)]
        assert ends[k] == size
        assert np.all(np.diff(ends) >= 0)


def test_table_is_the_same_everywhere():
    """Part of every file: it may change with the version of the format only."""
    table = OpenTrellis(12288).table
    assert table.shape == (1024, 192)
    assert np.abs(table).max() < 100
    digest = hashlib.sha256(table.astype("<i2").tobytes()).hexdigest()
    assert digest == "816812fff891625a67168f96d84630f396058c5e8482860f978588116a3168e9"


def test_message_is_the_same_everywhere():
    """The mean is made of small integers and the sample of multiples of 2^-16, so both are exact."""
    mu = np.float32([words([1, i], 9, 768).ravel() % 17 for i in range(2)]) - 8
    ks = jnp.asarray([48, 31])
    paths = SMALL.search(keys_of(2), jnp.asarray(mu), ks)
    assert np.packbits(np.asarray(paths), axis=1).tobytes().hex() == "534208989fb0918a78d80000"
    sample = np.rint(np.float64(SMALL.decode(keys_of(2), paths, ks)) * 2**16)
    digest = hashlib.sha256(sample.astype("<i4").tobytes()).hexdigest()
    assert digest == "0663f5fed54d68cf0e3b8c6be45888422f7126686a85027ac8ef4ea30118bcce"


# ---------------------------------------------------------------- the search


@pytest.mark.parametrize("memory", [4, 11, 12])
def test_no_path_is_better_than_the_one_found(memory):
    """All paths of 10 bits, also where the table has fewer rows than there are states."""
    k, size = 10, 240
    trellis = OpenTrellis(size, memory, k)
    keys, mu = keys_of(6), directions(6, size)
    found = np.asarray(trellis.search(keys, mu, jnp.full(6, k)))
    everything = list(itertools.product((0, 1), repeat=k))
    samples = np.array([reference.labels(size, memory, path) for path in everything])
    for key, target, path in zip(keys, mu, found, strict=True):
        signs = 1.0 - 2.0 * bits(np.asarray(key), 1, size)
        scores = samples @ (np.float64(rotate(key[None], target[None])[0]) * signs)
        score = scores[everything.index(tuple(path.tolist()))]
        # Scores are rounded to 1 / 511 of the largest one of a stage.
        assert score > scores.max() - 0.01 * np.ptp(scores)
        assert np.mean(scores < score) > 0.99


def test_lengths_may_differ_in_a_batch():
    keys, mu = keys_of(len(KS)), directions(len(KS), SMALL.size)
    together = np.asarray(SMALL.search(keys, mu, jnp.asarray(KS)))
    samples = np.asarray(SMALL.decode(keys, jnp.asarray(together), jnp.asarray(KS)))
    for i, k in enumerate(KS):
        one = slice(i, i + 1)
        alone = SMALL.search(keys[one], mu[one], jnp.asarray(KS[one]))
        np.testing.assert_array_equal(alone[0], together[i])
        assert not together[i, k:].any()
        np.testing.assert_array_equal(
            SMALL.decode(keys[one], alone, jnp.asarray(KS[one]))[0], samples[i]
        )
    # What is behind the end of a path does not matter.
    filled = np.where(np.arange(48) < KS[:, None], together, 1).astype(np.uint8)
    np.testing.assert_array_equal(SMALL.decode(keys, filled, jnp.asarray(KS)), samples)


@pytest.mark.parametrize(("memory", "size"), [(8, 1536), (12, 3072)])
def test_both_programs_find_the_same_paths(memory, size):
    trellis, ks = OpenTrellis(size, memory, 200), jnp.asarray([8, 63, 64, 65, 200])
    keys, mu = keys_of(5), directions(5, size)
    expected = open_trellis._search(trellis, keys, mu, ks)
    np.testing.assert_array_equal(trellis.search(keys, mu, ks), expected)
    inside = jax.jit(trellis.search)(keys, mu, ks)
    np.testing.assert_array_equal(inside, expected)


@pytest.mark.parametrize(("memory", "size", "most"), [(12, 3072, 200), (11, 1000, 48), (4, 8, 8)])
def test_scores_on_a_host_are_those_of_the_other_program(memory, size, most):
    """Also where dimensions are no whole blocks of the rotation, nor whole words of signs."""
    number = 16
    trellis, ks = OpenTrellis(size, memory, most), np.arange(number) * 7 % most + 1
    keys, mu = keys_of(number), directions(number, size).at[0].set(0)
    ends = stage_ends(size, most, jnp.asarray(ks))
    target = jax.jit(open_trellis._targets, static_argnums=0)(trellis, keys, mu)
    found = open_trellis._correlations(trellis, target, ends, jnp.asarray(most))
    expected = np.asarray(open_trellis._rounded(found))
    tables = trellis._host_tables
    for i, k in enumerate(ks):
        scores = host_scores.scores_of_stages(
            np.asarray(keys)[i], np.asarray(mu)[i], np.asarray(ends)[i, : k + 1], tables
        )
        np.testing.assert_array_equal(scores, expected[:k, i])


@pytest.mark.parametrize(("memory", "size", "most"), [(12, 3072, 200), (11, 1000, 48), (4, 8, 8)])
def test_samples_on_a_host_are_those_of_the_other_program(memory, size, most):
    trellis, ks = OpenTrellis(size, memory, most), np.arange(16) * 7 % most + 1
    keys, paths = keys_of(16), random_paths(trellis, ks)
    expected = open_trellis._decode(trellis, keys, paths, jnp.asarray(ks))
    np.testing.assert_array_equal(trellis.decode(keys, paths, ks), expected)


def test_without_numba_other_programs_search_and_decode(monkeypatch):
    keys, mu, ks = keys_of(3), directions(3, SMALL.size), np.array([8, 40, 48])
    expected = SMALL.search(keys, mu, ks)
    sample = SMALL.decode(keys, expected, ks)
    for name in ("host_scores", "host_samples"):
        monkeypatch.setitem(sys.modules, f"diffc_jax.channel_simulation.{name}", None)
    np.testing.assert_array_equal(SMALL.search(keys, mu, ks), expected)
    np.testing.assert_array_equal(SMALL.decode(keys, expected, ks), sample)


def test_large_batches_are_searched_in_groups(monkeypatch):
    keys, mu, ks = keys_of(12), directions(12, SMALL.size), jnp.arange(37, 49)
    paths = open_trellis._search(SMALL, keys, mu, ks)
    monkeypatch.setattr(open_trellis, "_STATES_ON_CPU", 3 << SMALL.memory)
    found = open_trellis._search(SMALL, keys[:6], mu[:6], ks[:6])
    np.testing.assert_array_equal(found, paths[:6])


@pytest.mark.parametrize("memory", [8, 16])
def test_scores_that_wrap_around_are_compared_correctly(memory):
    """A mean that one path follows exactly: scores rise far beyond what 16 bits hold."""
    trellis = OpenTrellis(3072, memory, 300)
    k = 300
    path = random_paths(trellis, np.array([k]))
    keys = keys_of(1)
    sample = trellis.decode(keys, jnp.asarray(path), jnp.array([k]))
    np.testing.assert_array_equal(trellis.search(keys, sample, jnp.array([k])), path)


# ---------------------------------------------------------------- the distribution of the sample


def test_best_sample_goes_as_far_as_calibrated_and_is_normal_otherwise():
    number = 256
    trellis = OpenTrellis(size=12288, memory=8, most_bits=64)
    keys, mu = keys_of(number), directions(number, trellis.size)
    ks = jnp.full(number, 64)
    sample = np.float64(trellis.decode(keys, trellis.search(keys, mu, ks), ks))
    projection = np.sum(sample * mu, axis=1)
    noise = sample - projection[:, None] * np.asarray(mu)
    # Memory 8 reaches 8.6 of the 9.42 of an ideal code.
    assert 8.4 < projection.mean() < 8.8
    assert projection.std() < 0.4
    assert np.mean(noise**2) == pytest.approx(1, abs=0.01)
    assert np.mean(noise**4) / np.mean(noise**2) ** 2 == pytest.approx(3, abs=0.03)
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1])
    assert neighbours == pytest.approx(0, abs=0.005)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1536, 3), r"^memory: 3; choose 4 to 16 bits of shift register$"),
        ((1536, 12, 641), r"^most_bits: 641; choose 1 to 640 for 1536 dimensions$"),
        ((100, 12, 101), r"^most_bits: 101; choose 1 to 100 for 100 dimensions$"),
    ],
)
def test_attributes_out_of_range_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        OpenTrellis(*arguments)
