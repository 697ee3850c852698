"""Poisson functional representation, ordered and minimal random coding: distributions, candidates."""

import contextlib
import functools
import re

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

from diffc_jax.channel_simulation.candidate_schemes import (
    PoissonRace,
    later_winners,
    minimal_channel,
    ordered_channel,
    poisson_channel,
)
from diffc_jax.channel_simulation.candidates import CandidateChannel
from diffc_jax.channel_simulation.candidates_distribution import ordered_winner, poisson_winner
from diffc_jax.channel_simulation.index_codes import FixedCode, digits_code, zipf_code
from diffc_jax.channel_simulation.rotation import rotate, unrotate
from diffc_jax.errors import InputError, UsageError

CHUNKS, CHUNK_SIZE = 128, 32
SIZE = CHUNKS * CHUNK_SIZE
SCHEMES = {
    "poisson": poisson_channel(SIZE, CHUNKS, 2.0),
    "poisson zipf": poisson_channel(SIZE, CHUNKS, 2.0, code="zipf"),
    "truncated": poisson_channel(SIZE, CHUNKS, 5.0, tail=0.0, candidates=128),
    "ordered": ordered_channel(SIZE, CHUNKS, 5.0, 128),
    "minimal": minimal_channel(SIZE, CHUNKS, 7),
}
IDEAL_RATES = {"truncated": 5.0, "ordered": 5.0, "minimal": 5.0}


def keys_of(count, seed=0):
    words = np.random.default_rng(seed).integers(0, 1 << 32, (count, 2), dtype=np.uint32)
    return jnp.asarray(words)


def length_of(ideal_rate):
    return np.sqrt(2 * np.log(2) * ideal_rate)


@functools.cache
def run(name, count=4):
    """Messages whose rotated chunks are all equally long, and what became of them."""
    keys = keys_of(count)
    aims = np.random.default_rng(1).normal(size=(count, CHUNKS, CHUNK_SIZE))
    aims *= length_of(IDEAL_RATES.get(name, 2.0)) / np.linalg.norm(aims, axis=2, keepdims=True)
    mu = unrotate(keys, jnp.asarray(aims.reshape(count, SIZE), jnp.float32))
    indices, sample = SCHEMES[name].encode(keys, mu)
    noise = np.asarray(rotate(keys, sample)).reshape(aims.shape) - aims
    along = (noise * aims).sum(axis=2) / np.linalg.norm(aims, axis=2)
    return keys, mu, indices, sample, noise, along


@pytest.mark.parametrize("name", SCHEMES)
def test_bytes_give_back_the_sample_bit_for_bit(name):
    channel = SCHEMES[name]
    keys, _, indices, sample, *_ = run(name)
    assert indices.dtype == np.int64
    data = channel.to_bytes(indices)
    read = channel.from_bytes(data, len(keys))
    np.testing.assert_array_equal(read, indices)
    np.testing.assert_array_equal(channel.decode(keys, read), sample)
    for longer in (data + b"\0", data + bytes(4)):
        with pytest.raises(InputError):
            channel.from_bytes(longer, len(keys))
    for cut in (data[:-1], data[:-4]):
        # Now and then it is the stream of other messages.
        with contextlib.suppress(InputError):
            assert channel.to_bytes(channel.from_bytes(cut, len(keys))) == cut
    bits = channel.code.lengths(indices.reshape(-1)).sum()
    assert 8 * len(data) == pytest.approx(bits, rel=2e-3, abs=32)


@pytest.mark.parametrize("name", SCHEMES)
def test_a_message_does_not_depend_on_its_batch(name):
    keys, mu, indices, sample, *_ = run(name)
    for chosen in ([1], [3, 2, 1]):
        again = SCHEMES[name].encode(keys[np.array(chosen)], mu[np.array(chosen)])
        np.testing.assert_array_equal(again[0], indices[chosen])
        np.testing.assert_array_equal(again[1], np.asarray(sample)[chosen])


def test_near_exact_samples_are_distributed_as_by_the_target():
    _, _, _, _, noise, along = run("poisson")
    assert stats.kstest(along.ravel(), "norm").pvalue > 0.01
    assert stats.kstest(noise.ravel(), "norm").pvalue > 0.01
    assert np.corrcoef(noise.reshape(-1, CHUNK_SIZE)[:, :4].T)[0, 1] == pytest.approx(0, abs=0.1)


def test_samples_of_bounded_schemes_are_distributed_as_the_quadrature_says():
    length, number = length_of(5.0), 4 * CHUNKS
    for name, winner in (
        ("truncated", poisson_winner),
        ("ordered", ordered_winner),
        ("minimal", ordered_winner),
    ):
        expected, (*_, noise, along) = winner(5.0, 128.0), run(name)
        error = 4 * np.sqrt(expected.variance / number) + 0.01 * length
        assert along.mean() + length == pytest.approx(expected.shift * length, abs=error), name
        assert along.var() == pytest.approx(expected.variance, rel=0.25), name
        orthogonal = np.sum(noise**2) - np.sum(along**2)
        assert orthogonal / number / (CHUNK_SIZE - 1) == pytest.approx(1, abs=0.03), name


@pytest.mark.parametrize(
    ("name", "winner"),
    [
        ("poisson", poisson_winner(2.0)),
        ("truncated", poisson_winner(5.0, 128)),
        ("ordered", ordered_winner(5.0, 128)),
    ],
)
def test_indices_are_distributed_as_by_the_quadrature(name, winner):
    *_, indices, _, _, _ = run(name)
    digits = np.bincount([int(i).bit_length() - 1 for i in indices.ravel()], minlength=63)
    expected = winner.digits * digits.sum()
    shown = expected > 5
    assert (
        stats.chisquare(
            np.append(digits[shown], digits[~shown].sum()),
            np.append(expected[shown], digits.sum() - expected[shown].sum()),
        ).pvalue
        > 0.001
    )
    if name != "poisson":
        assert indices.max() <= 128


def test_indices_of_minimal_coding_are_uniform():
    *_, indices, _, _, _ = run("minimal")
    assert stats.kstest((indices.ravel() - 0.5) / 128, "uniform").pvalue > 0.001


@pytest.mark.parametrize(
    ("ideal_rate", "best", "zipf"),
    [(3.3, 0.80, 0.88), (5, 0.57, 0.64), (8, 0.39, 0.44), (10, 0.32, 0.38), (14, 0.25, 0.29)],
)
def test_known_overheads_of_exact_samples(ideal_rate, best, zipf):
    """Measured by simulation before: both codes, bits over KL less 1."""
    winner = poisson_winner(ideal_rate)
    entropy = special.entr(winner.digits).sum() / np.log(2) + winner.digits @ np.arange(63)
    assert entropy / ideal_rate - 1 == pytest.approx(best, abs=0.01)
    assert (winner.shift, winner.variance) == pytest.approx((1, 1), abs=1e-3)
    indices = exact_indices(ideal_rate, 40_000)
    bits = zipf_code(ideal_rate).lengths(indices).mean()
    assert bits / ideal_rate - 1 == pytest.approx(zipf, abs=0.015)
    bits = digits_code(winner.digits).lengths(indices).mean()
    assert bits / ideal_rate - 1 == pytest.approx(best, abs=0.015)


def exact_indices(ideal_rate, count):
    """Winners of the unlimited race: given score and arrival, a Poisson number came before."""
    random, length = np.random.default_rng(2), length_of(ideal_rate)
    score, g = random.exponential(size=count), length + random.normal(size=count)
    log_ratio = length * g - length**2 / 2
    arrival, edge = score * np.exp(log_ratio), length / 2 - log_ratio / length
    lost = arrival * special.ndtr(length - edge) - score * special.ndtr(-edge)
    return 1 + random.poisson(lost)


@pytest.mark.parametrize(("ideal_rate", "candidates"), [(40.0, 16), (40.0, 1024), (24.0, 1024)])
def test_few_candidates_for_the_rate(ideal_rate, candidates):
    """Against races: no candidate is near mu, and the best scores are far above those of many."""
    random, length = np.random.default_rng(3), length_of(ideal_rate)
    g = random.normal(size=(2000, candidates))
    arrivals = np.cumsum(random.exponential(size=g.shape), axis=1)
    rows, first = np.arange(len(g)), (np.log(arrivals) - length * g).argmin(axis=1)
    raced = g[rows, first] / length
    found = poisson_winner(ideal_rate, candidates).shift
    assert found == pytest.approx(raced.mean(), abs=4 * raced.std() / len(g) ** 0.5)


def test_distribution_of_a_bounded_race_known_from_simulation():
    """The public DiffC codec's setting: 14 bits, 2^16 candidates."""
    winner = poisson_winner(14.0, 2.0**16)
    assert winner.shift == pytest.approx(0.867, abs=0.004)
    assert winner.variance == pytest.approx(0.48, abs=0.01)


def test_later_winners_against_quadrature():
    log_score, elapsed, length = np.log(3.0), 40.0, 2.5

    def integrand(g):
        w = np.exp(length * g - length**2 / 2)
        return max(3.0 * w - elapsed, 0) * np.exp(-(g**2) / 2) / np.sqrt(2 * np.pi)

    edge = (np.log(elapsed / 3.0) + length**2 / 2) / length
    expected, _ = integrate.quad(integrand, edge, 20)
    found = later_winners(*map(np.asarray, (log_score, elapsed, length)))
    assert found == pytest.approx(expected, rel=1e-6)
    assert later_winners(np.log(2.0), np.asarray(5.0), np.zeros(())) == 0


def test_a_smaller_tail_finds_the_few_later_winners():
    keys, mu, *_ = run("ordered")
    mu = mu[:1] * np.sqrt(4.0 / 5.0)
    late, _ = poisson_channel(SIZE, CHUNKS, 4.0).encode(keys[:1], mu)
    early, _ = poisson_channel(SIZE, CHUNKS, 4.0, tail=0.2).encode(keys[:1], mu)
    changed = early != late
    assert 0 < changed.mean() < 0.2
    assert (late[changed] > early[changed]).all()


def test_without_information_the_first_candidate_wins():
    channel, keys = SCHEMES["poisson"], keys_of(4, seed=3)
    indices, sample = channel.encode(keys, jnp.zeros((4, SIZE)))
    assert (indices == 1).all()
    assert stats.kstest(np.asarray(sample).ravel(), "norm").pvalue > 0.01


def threefry(key, counter):
    """Threefry-2x32 with 20 rounds, from its paper."""
    mask = 0xFFFFFFFF
    ks = [int(key[0]), int(key[1]), 0x1BD11BDA ^ int(key[0]) ^ int(key[1])]
    x0, x1 = (counter[0] + ks[0]) & mask, (counter[1] + ks[1]) & mask
    for group in range(5):
        for r in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x0 = (x0 + x1) & mask
            x1 = ((x1 << r) | (x1 >> (32 - r))) & mask
            x1 ^= x0
        x0 = (x0 + ks[(group + 1) % 3]) & mask
        x1 = (x1 + ks[(group + 2) % 3] + group + 1) & mask
    return x0, x1


@pytest.mark.parametrize("number", [0, 1, 999, (1 << 32) - 1, (5 << 32) + 7, (1 << 40) - 1])
def test_candidates_as_another_decoder_draws_them(number):
    """Also numbers that need more than 32 bits."""
    channel, keys = (
        CandidateChannel(70, 2, PoissonRace(64, tail=0.0), FixedCode(41)),
        keys_of(1, seed=4),
    )
    indices = np.array([[number + 1, 3]])
    found = np.asarray(rotate(keys, channel.decode(keys, indices)))[0]
    values = stats.norm.ppf((np.arange(65536) + 0.5) / 65536)
    values /= values.std()
    for chunk, n in enumerate((number, 2)):
        chunk_key = threefry(np.asarray(keys[0]), (16, chunk))
        page_key = threefry(chunk_key, (n >> 32, 0))
        words = [threefry(page_key, (n % (1 << 32), i)) for i in range(9)]
        halves = [half for pair in words for word in pair for half in (word & 0xFFFF, word >> 16)]
        expected = values[halves[:35]]
        np.testing.assert_allclose(found[chunk * 35 : chunk * 35 + 35], expected, atol=2e-6)
    np.testing.assert_array_equal(channel.from_bytes(channel.to_bytes(indices), 1), indices)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: poisson_channel(100, 3, 2.0), "chunks: 3 do not divide 100 dimensions evenly"),
        (lambda: poisson_channel(64, 0, 2.0), "chunks: 0 do not divide 64 dimensions evenly"),
        (
            lambda: minimal_channel(64, 4, 5),
            "chunks: 4 leave 16 dimensions each; 32 are needed, so at most 2 chunks",
        ),
        (lambda: minimal_channel(64, 1, -1), "candidate_bits: -1 is negative"),
        (lambda: minimal_channel(64, 1, 41), f"candidates: {2**41}; choose 1 to 2^40"),
        (lambda: ordered_channel(64, 1, 2.0, 0), "candidates: 0; choose 1 to 2^40"),
        (lambda: poisson_channel(64, 1, 2.0, tail=1.0), "tail: 1.0; a probability in [0, 1)"),
        (
            lambda: poisson_channel(64, 1, 0.0),
            "chunk_bits: 0.0 is not above 0 and at most 40",
        ),
        (
            lambda: ordered_channel(64, 1, 2.0, 64, code="huffman"),
            "code: unknown 'huffman'; choose digits or zipf",
        ),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        make()


def test_arrays_that_do_not_fit_are_refused():
    channel, keys = SCHEMES["minimal"], keys_of(1)
    for call, message in (
        (
            lambda: channel.encode(keys, jnp.zeros((1, 5))),
            "mu has 5 dimensions, messages have 4096",
        ),
        (lambda: channel.encode(keys, jnp.full((1, SIZE), jnp.nan)), "mu is not finite"),
        (
            lambda: channel.decode(keys, np.ones((1, 127), int)),
            "indices are (1, 127), not (1, 128)",
        ),
        (lambda: channel.decode(keys, np.zeros((1, 128), int)), "index 0 is not positive"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()
