"""Universal quantisation: the distribution of its noise, its rate, bytes."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from diffc_jax.channel_simulation.channel import sample_statistics
from diffc_jax.channel_simulation.dithered import DitheredChannel
from diffc_jax.channel_simulation.rotation import rotate
from diffc_jax.errors import InputError, UsageError

STEP = np.sqrt(12)
SIZE, MESSAGES = 1000, 24


def run(ideal_rate):
    random = np.random.default_rng(0)
    mu = random.normal(size=(MESSAGES, SIZE))
    mu *= np.sqrt(2 * np.log(2) * ideal_rate) / np.linalg.norm(mu, axis=1, keepdims=True)
    keys = jnp.asarray(random.integers(0, 1 << 32, (MESSAGES, 2), dtype=np.uint32))
    channel, mu = DitheredChannel(SIZE, ideal_rate), jnp.asarray(mu, jnp.float32)
    return channel, keys, mu, *channel.encode(keys, mu)


@pytest.mark.parametrize("ideal_rate", [2.0, 100.0, 20_000.0])
def test_bytes_give_back_the_sample_bit_for_bit(ideal_rate):
    channel, keys, mu, indices, sample = run(ideal_rate)
    data = channel.to_bytes(indices)
    read = channel.from_bytes(data, MESSAGES)
    np.testing.assert_array_equal(read, indices)
    np.testing.assert_array_equal(channel.decode(keys, read), sample)
    one = channel.encode(keys[3:4], mu[3:4])
    np.testing.assert_array_equal(one[0], indices[3:4])
    np.testing.assert_array_equal(one[1], sample[3:4])


@pytest.mark.parametrize("ideal_rate", [100.0, 20_000.0])
def test_noise_is_uniform_after_the_rotation_and_looks_normal_before(ideal_rate):
    _, keys, mu, _, sample = run(ideal_rate)
    noise = np.asarray(rotate(keys, sample)) - np.asarray(rotate(keys, mu))
    assert abs(noise).max() < STEP / 2 + 1e-3
    assert stats.kstest(noise.ravel() / STEP + 0.5, "uniform").pvalue > 0.01
    found = sample_statistics(mu, sample)
    assert found.bias == pytest.approx(0, abs=4 / np.sqrt(MESSAGES))
    assert found.spread == pytest.approx(1, abs=0.5)
    assert found.variance == pytest.approx(1, abs=0.03)
    assert found.kurtosis == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("ideal_rate", [20.0, 100.0, 1000.0, 20_000.0])
def test_the_rate_is_the_information_of_uniform_noise(ideal_rate):
    """Order of the dithers instead of the dithers, which costs up to 5 % in so few dimensions."""
    channel, _, _, indices, _ = run(ideal_rate)
    deviation = np.sqrt(2 * np.log(2) * ideal_rate / SIZE) / STEP
    dither = (np.arange(4000) + 0.5) / 4000 - 0.5
    numbers = np.arange(-40, 41)[:, None]
    upper, lower = ((numbers + dither + shift) / deviation for shift in (0.5, -0.5))
    p = special.ndtr(upper) - special.ndtr(lower)
    information = special.entr(p).sum(axis=0).mean() / np.log(2) * SIZE
    bits = 8 * len(channel.to_bytes(indices)) / MESSAGES
    assert 0.98 < bits / information < 1.06


def test_little_information_costs_many_times_its_kl():
    channel, _, _, indices, _ = run(20.0)
    assert 8 * len(channel.to_bytes(indices)) / MESSAGES > 5 * 20.0


def test_mistakes_are_named():
    channel, keys, mu, indices, _ = run(100.0)
    whole = channel.to_bytes(indices)
    for call, error, message in (
        (
            lambda: DitheredChannel(0, 1.0),
            UsageError,
            "size: 0 dimensions; a message has at least one",
        ),
        (lambda: DitheredChannel(9, 0.0), UsageError, "ideal_rate: 0.0 is not above 0 and finite"),
        (
            lambda: channel.encode(keys, mu[:, :5]),
            ValueError,
            "mu has 5 dimensions, messages have 1000",
        ),
        (lambda: channel.encode(keys, mu.at[0, 3].set(jnp.nan)), ValueError, "mu is not finite"),
        (
            lambda: channel.decode(keys, indices[:, :5]),
            ValueError,
            "indices are (24, 5), not (24, 1000)",
        ),
        (
            lambda: channel.to_bytes(np.asarray(indices) * 0 + 2),
            ValueError,
            "symbols from 3 to 3 are not in 0 to 2",
        ),
        (
            lambda: channel.from_bytes(b"\xff" * 200, MESSAGES),
            InputError,
            "the indices are damaged: no message has this stream",
        ),
        *(
            (
                lambda data=data: channel.from_bytes(data, MESSAGES),
                InputError,
                "the indices are damaged: no message has this stream",
            )
            for data in (whole[:-4], whole + bytes(4))
        ),
    ):
        with pytest.raises(error, match=f"^{re.escape(message)}$"):
            call()
