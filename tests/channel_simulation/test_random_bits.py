"""Shared randomness: the words of Threefry, bit for bit, and how fair they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.channel_simulation.bits import random_bits, random_signs, random_words
from tests.support import reference_trellis as reference

KEYS = jnp.array([[0, 0], [1, 2], [0xFFFFFFFF, 0x80000000]], jnp.uint32)


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_reference_knows_the_answers_of_random123(key, counter, expected):
    found = reference.threefry(np.array([key], np.uint32), np.array([counter], np.uint32))
    np.testing.assert_array_equal(found, [expected])


@pytest.mark.parametrize("stream", [0, 3, 2**32 - 1])
@pytest.mark.parametrize("count", [1, 7, 130])
def test_words_are_threefry_of_stream_and_place(stream, count):
    found = random_words(KEYS, stream, count)
    assert found.shape == (3, count, 2)
    assert found.dtype == np.uint32
    for key, words in zip(np.asarray(KEYS), found, strict=True):
        np.testing.assert_array_equal(words, reference.words(key, stream, count))


def test_stream_may_be_traced():
    traced = jax.jit(lambda stream: random_words(KEYS, stream, 5))(jnp.uint32(9))
    np.testing.assert_array_equal(traced, random_words(KEYS, 9, 5))


def test_more_words_begin_with_the_same():
    np.testing.assert_array_equal(random_words(KEYS, 1, 100)[:, :31], random_words(KEYS, 1, 31))


@pytest.mark.parametrize("count", [1, 64, 1000])
def test_bits_are_those_of_the_words_from_the_top(count):
    found = random_bits(KEYS, 4, count)
    assert found.shape == (3, count)
    for key, row in zip(np.asarray(KEYS), found, strict=True):
        np.testing.assert_array_equal(row, reference.bits(key, 4, count))
    np.testing.assert_array_equal(random_signs(KEYS, 4, count), 1.0 - 2.0 * np.asarray(found))


def test_bits_are_fair_and_independent_between_keys_and_streams():
    a, b = random_signs(KEYS, 0, 40000)[:2]
    c = random_signs(KEYS, 1, 40000)[0]
    for mean in (a.mean(), b.mean(), (a * b).mean(), (a * c).mean(), (a[1:] * a[:-1]).mean()):
        assert abs(mean) < 4.5 / 200
