"""The range coder: there and back, carries, as few bytes as possible, nothing that is not certain."""

import contextlib
import random

import pytest

from diffc_jax.codec.range_coder import RangeDecoder, RangeEncoder, closing_bytes

HEAD = b"xy"


def random_symbols(rng, count):
    """Shares of 2^24 and of less, up to the last ones and down to a single number; or whole numbers."""
    for _ in range(count):
        bits = rng.choice([1, 4, 12, 24])
        if rng.random() < 0.4:
            k = rng.choice([1, 8, 16, 17, 70])
            yield rng.choice([0, (1 << k) - 1, rng.getrandbits(k)]), k
            continue
        start = rng.choice([0, rng.randrange(1 << bits), (1 << bits) - 1])
        stop = rng.choice([start + 1, 1 << bits, rng.randint(start + 1, 1 << bits)])
        yield start, stop, bits


def encode(symbols):
    coder = RangeEncoder()
    for symbol in symbols:
        if len(symbol) == 2:
            coder.encode_bits(*symbol)
        else:
            coder.encode(*symbol)
    return coder


def decode(coder, symbols):
    """Whether the data are of these symbols.

    Raises:
        EOFError: they end before it is certain.
    """
    for symbol in symbols:
        if len(symbol) == 2:
            if coder.take_bits(symbol[1]) != symbol[0]:
                return False
            continue
        start, stop, bits = symbol
        if not start <= coder.peek(bits) < stop:
            return False
        coder.take(*symbol)
    return True


def is_enough(data, symbols):
    try:
        return decode(RangeDecoder(data, len(HEAD)), symbols)
    except EOFError:
        return False


@pytest.mark.parametrize("seed", range(60))
def test_there_and_back(seed):
    rng = random.Random(seed)
    symbols = list(random_symbols(rng, rng.randrange(30)))
    coder = encode(symbols)
    data = HEAD + coder.to_bytes()
    assert coder.bits() <= 8 * (len(data) - len(HEAD)) < coder.bits() + 9
    for tail in (b"", bytes(9), b"\xff" * 9, rng.randbytes(9)):
        decoder = RangeDecoder(data + tail, len(HEAD))
        assert decode(decoder, symbols)
        assert decoder.end <= len(data)
        assert decoder.closing_end == len(data)
        # `end` is where what has been read becomes certain.
        assert is_enough((data + tail)[: decoder.end], symbols)
        assert decoder.end == len(HEAD) or not is_enough((data + tail)[: decoder.end - 1], symbols)


def test_no_fewer_bytes_would_do():
    rng = random.Random(1)
    for _ in range(100):
        symbols = list(random_symbols(rng, 5))
        data = encode(symbols).to_bytes()
        for change in (0, 1):
            shorter = int.from_bytes(data[:-1], "big") + change
            if data and shorter < 256 ** (len(data) - 1):
                fewer = shorter.to_bytes(len(data) - 1, "big")
                assert not is_enough(HEAD + fewer, symbols)


@pytest.mark.parametrize("n_bytes", [2, 5, 9])
def test_carries(n_bytes):
    """A last symbol lifts the number over a row of ff, while encoding and with the last bytes."""
    # The upper half of [1/2 - 2^-n, 1/2 + 2^-n) begins at 1/2.
    below = [(0, 1, 1), *[(1, 2, 1)] * (8 * n_bytes - 2)]
    coder = encode(below)
    # In units of the interval that ends at 1/2, the same again is above it.
    coder.width *= 2
    before = bytes(coder.data)
    coder.encode(1, 2, 1)
    coder.encode_bits(0, 64)
    assert before == b"\x7f" + b"\xff" * (len(before) - 1)
    assert coder.to_bytes()[:n_bytes] == b"\x80" + bytes(n_bytes - 1)


def test_other_last_bytes_are_told():
    symbols = [(3, 7, 4), (12345, 16), (9, 4)]
    data = HEAD + encode(symbols).to_bytes()
    for last in range(256):
        other = data[:-1] + bytes([last])
        decoder = RangeDecoder(other, len(HEAD))
        with contextlib.suppress(EOFError):
            if decode(decoder, symbols):
                assert (decoder.closing_end == len(data)) == (other == data)


def test_closing_bytes():
    assert closing_bytes(0, 1 << 48) == b""
    assert closing_bytes(1, 1 << 47) == b"\x01"
    assert closing_bytes(0, 1 << 40) == b"\x00"
    assert closing_bytes(1, 1 << 40) == b"\x00\x01"
    # Beyond the last number of as many bytes: a carry.
    assert closing_bytes((1 << 48) - 1, 1 << 41) == b"\x00"


def test_coming_back():
    symbols = [(5, 6, 4), (77, 70), (0, 3, 2)]
    decoder = RangeDecoder(encode(symbols).to_bytes())
    state = decoder.state
    assert decode(decoder, symbols)
    decoder.state = state
    assert decode(decoder, symbols)


def test_a_copy_goes_on_by_itself():
    coder = encode([(5, 6, 4)])
    before = coder.to_bytes()
    other = coder.copy()
    other.encode_bits(12345, 70)
    assert coder.to_bytes() == before != other.to_bytes()
