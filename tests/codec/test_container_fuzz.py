"""Damaged streams: refused, or read up to the damage with a note, in little time and memory."""

import contextlib
import dataclasses
import random
import tracemalloc

import pytest

from diffc_jax.codec.container import parse
from diffc_jax.codec.header import header_bytes
from diffc_jax.codec.stream import Header, Residual
from diffc_jax.errors import InputError
from tests.support.streams import random_stream


def make_stream(seed):
    rng = random.Random(seed)
    width, height = rng.choice([(64, 64), (100, 64), (130, 64)])
    header = Header(width, height, 64, rng.choice([8, 14]), seed, rng.randbytes(2))
    n_steps = rng.randint(25, 40)
    residuals = ()
    if seed % 2:
        header = dataclasses.replace(header, n_steps=n_steps)
        residuals = [
            Residual(rng.randbytes(rng.randint(0, 40)), rng.randrange(1 << 32))
            for _ in range(header.n_tiles)
        ]
    return random_stream(header, n_steps, seed, residuals)[0]


STREAMS = [make_stream(seed) for seed in range(8)]


def flip_a_bit(rng, data):
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def overwrite(rng, data):
    at, length = rng.randrange(len(data)), rng.randint(1, 30)
    return (data[:at] + rng.randbytes(length) + data[at + length :])[: len(data)]


def delete(rng, data):
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 30) :]


def insert(rng, data):
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randint(1, 30)) + data[at:]


def splice(rng, data):
    other = rng.choice(STREAMS)
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def truncate(rng, data):
    return data[: rng.randrange(len(data))]


def fill(rng, data):
    at = rng.randrange(len(data))
    return data[:at] + rng.choice([b"\0", b"\xff"]) * (len(data) - at)


def swap(rng, data):
    a, b, c = sorted(rng.sample(range(len(data) + 1), 3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def several(rng, data):
    for _ in range(rng.randint(2, 4)):
        data = rng.choice([flip_a_bit, overwrite, delete, insert, swap])(rng, data)
    return data


MUTATIONS = (flip_a_bit, overwrite, delete, insert, splice, truncate, fill, swap, several)
N_STREAMS = 200


def first_difference(first, second):
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    return min(len(first), len(second))


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_damage_is_noticed(mutate):
    rng = random.Random(mutate.__name__)
    truth = [parse(data) for data in STREAMS]
    unnoticed = 0
    for _ in range(N_STREAMS):
        which = rng.randrange(len(STREAMS))
        data, true = STREAMS[which], truth[which]
        damaged = mutate(rng, data)
        if damaged == data:
            continue
        try:
            stream = parse(damaged)
        except InputError:
            continue
        intact = first_difference(data, damaged)
        n_intact = sum(cut.n_bytes <= intact for cut in true.cuts)
        assert stream.cuts[:n_intact] == true.cuts[:n_intact]
        if len(stream.cuts) == n_intact and stream.header == true.header:
            assert stream.items == true.items[: stream.cuts[-1].n_items]
            # A file of exact pixels says how much there should be.
            is_all = true.header.n_steps is None or n_intact == len(true.cuts)
            assert (stream.problem is None) == (len(damaged) == stream.n_bytes and is_all)
        else:
            # Residuals have a checksum of their pixels.
            unnoticed += not isinstance(stream.items[-1][1], Residual)
    # Eight bits of checksum miss one in 256, and single bits no more than others. Cuts they never miss.
    expected = 0.0 if mutate is truncate else N_STREAMS / 256
    assert unnoticed <= expected + 4 * expected**0.5


def test_noise_after_a_header():
    rng = random.Random(0)
    header = header_bytes(Header(64, 64, 64, 14, 0, b"ab"))
    read = 0
    for _ in range(300):
        with contextlib.suppress(InputError):
            parse(header + rng.randbytes(rng.randint(0, 300)))
            read += 1
    # What has the structure of a packet passes the checksum once in 256 times.
    assert read < 300 / 256 + 4 * (300 / 256) ** 0.5


def test_memory_is_proportional_to_the_data():
    data, _ = random_stream(Header(64, 64, 64, 14, 0, b"ab"), 60)
    tracemalloc.start()
    parse(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * len(data)


@pytest.mark.parametrize(
    "claim",
    [
        header_bytes(Header(65535, 65535, 1, 14, 0, b"ab")) + bytes(10_000),
        header_bytes(Header(1, 1, 65535, 14, 0, b"ab")) + bytes(10_000),
        STREAMS[1] + b"\xff\xff\xff\xff\x7f" + bytes(10_000),
    ],
)
def test_nothing_is_allocated_for_what_data_only_claim(claim):
    tracemalloc.start()
    with contextlib.suppress(InputError):
        parse(claim)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
