"""Codes for indices: round trips through bytes, lengths, tables that are the same everywhere."""

import hashlib
import re

import numpy as np
import pytest
from scipy import special

from diffc_jax.channel_simulation.candidates_distribution import ordered_winner, poisson_winner
from diffc_jax.channel_simulation.index_codes import (
    FixedCode,
    PlacesCode,
    digits_code,
    integer_frequencies,
    zipf_code,
)
from diffc_jax.errors import InputError, UsageError


def log_uniform(count, digits):
    """Indices of all sizes, among them the smallest and the largest with so many digits."""
    exponents = np.random.default_rng(0).random(count) * digits
    indices = np.clip((2.0**exponents).astype(np.int64), 1, (1 << digits) - 1)
    indices[:2] = 1, (1 << digits) - 1
    return indices


CODES = {
    "zipf": (zipf_code(8.0), 62),
    "zipf of nothing": (zipf_code(0.0), 62),
    "digits": (digits_code(poisson_winner(8.0).digits), 63),
    "few digits": (digits_code(np.array([1.0, 3.0, 2.0])), 3),
    "fixed": (FixedCode(13), 13),
}


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("count", [0, 1, 2, 999])
def test_bytes_give_back_the_indices_and_are_as_long_as_said(name, count):
    code, digits = CODES[name]
    indices = log_uniform(max(count, 2), digits)[:count]
    data = code.encode(indices)
    assert isinstance(data, bytes)
    np.testing.assert_array_equal(code.decode(data, count), indices)
    bits = code.lengths(indices).sum()
    assert bits * 0.997 - 16 < 8 * len(data) < bits * 1.001 + 40


def test_zeros_at_the_end_of_a_stream_may_be_left_out():
    code = digits_code(np.ones(3))
    for first in range(1, 8):
        for count in range(1, 40):
            indices = np.ones(count, np.int64)
            indices[0] = first
            np.testing.assert_array_equal(code.decode(code.encode(indices), count), indices)


def test_zipf_lengths_are_those_of_the_zipf_law():
    information = 6.0
    exponent = 1 + 1 / (information + np.log2(np.e) / np.e + 1)
    indices = np.concatenate([np.arange(1, 300), [2**20, 3 * 2**30 + 1, 2**61 - 1]])
    expected = np.log2(special.zeta(exponent)) + exponent * np.log2(indices)
    np.testing.assert_allclose(zipf_code(information).lengths(indices), expected, atol=0.02)


def test_lengths_are_those_of_a_prefix_code():
    indices = np.arange(1, 1 << 14)
    total = np.sum(2.0 ** -zipf_code(8.0).lengths(indices))
    beyond = special.zeta(1 + 1 / (8 + np.log2(np.e) / np.e + 1), 1 << 14)
    norm = special.zeta(1 + 1 / (8 + np.log2(np.e) / np.e + 1))
    assert total == pytest.approx(1 - beyond / norm, abs=1e-4)
    for winner in (poisson_winner(3.0), ordered_winner(3.0, 64)):
        assert np.sum(2.0 ** -digits_code(winner.digits).lengths(indices)) <= 1


def test_frequencies_are_positive_integers_with_a_fixed_sum():
    probabilities = np.array([[1.0, 0.0, 3.0], [0.2, 1e-300, 0.0]])
    frequencies = integer_frequencies(probabilities)
    assert frequencies.min() >= 1
    np.testing.assert_array_equal(frequencies.sum(axis=1), [1 << 20, 1 << 20])
    np.testing.assert_allclose(frequencies[0] / 2**20, [0.25, 0, 0.75], atol=2e-6)


def test_tables_and_streams_are_the_same_on_every_machine():
    """What a decoder elsewhere has to find; they change only with the format."""
    tables = [
        zipf_code(8.0).digits,
        *zipf_code(8.0).leading,
        digits_code(poisson_winner(8.0).digits).digits,
    ]
    digest = hashlib.sha256(b"".join(t.astype("<i8").tobytes() for t in tables)).hexdigest()
    assert digest[:16] == "a33d03138172c7da"
    indices = log_uniform(6, 30)
    assert zipf_code(8.0).encode(indices).hex() == "b6036f167f9c2c5e0930932a940a35dd"
    assert (
        digits_code(poisson_winner(8.0).digits).encode(indices).hex()
        == "82f9e712679b1d24b2de5edd1c73692f00c00c06"
    )
    assert FixedCode(5).encode(np.array([1, 32, 7])).hex() == "07cc"


def test_places_have_tables_of_their_own():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.full(4, 0.3), size=50)
    symbols = np.array(
        [[random.choice(4, p=row) for row in probabilities] for _ in range(20)], np.int32
    )
    code = PlacesCode(integer_frequencies(probabilities))
    data = code.encode(symbols)
    np.testing.assert_array_equal(code.decode(data, 20), symbols)
    assert 8 * len(data) == pytest.approx(code.lengths(symbols).sum(), abs=40)
    assert PlacesCode(np.asfortranarray(code.frequencies)).encode(symbols) == data
    message = "symbols from 0 to 4 are not in 0 to 3"
    with pytest.raises(ValueError, match=f"^{message}$"):
        code.encode(np.where(symbols == 3, 4, symbols))


def test_damaged_streams_give_indices_or_one_message():
    code, places = zipf_code(8.0), PlacesCode(integer_frequencies(np.ones((50, 3))))
    failures = 0
    for seed in range(300):
        data = np.random.default_rng(seed).bytes(40)
        for decode in (
            lambda data=data: code.decode(data, 100),
            lambda data=data: places.decode(data, 4),
        ):
            try:
                decode()
            except InputError as error:
                failures += str(error) == "the indices are damaged: no message has this stream"
    assert failures > 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: digits_code(np.ones(3)).encode(np.array([1, 8])),
            ValueError,
            "indices from 1 to 8 are not in 1 to 2^3 - 1",
        ),
        (
            lambda: digits_code(np.ones(3)).encode(np.array([0, 2])),
            ValueError,
            "indices from 0 to 2 are not in 1 to 2^3 - 1",
        ),
        (
            lambda: FixedCode(3).encode(np.array([9])),
            ValueError,
            "indices from 9 to 9 are not in 1 to 8",
        ),
        (
            lambda: FixedCode(3).decode(b"ab", 2),
            InputError,
            "the indices take 1 bytes, not 2",
        ),
        (lambda: FixedCode(64), UsageError, "bits: 64; choose 0 to 62"),
        (
            lambda: zipf_code(-1.0),
            UsageError,
            "ideal_rate: -1.0 bits; it is finite and not negative",
        ),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


def test_digits_below_the_first_are_raw():
    code = digits_code(np.array([1.0, 1.0]))
    assert code.lengths(np.array([1, 2, 3])) == pytest.approx([1, 2, 2], abs=1e-5)
