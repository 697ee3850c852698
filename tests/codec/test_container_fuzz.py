"""Damaged streams: refused, or read up to the damage with a note, in little time and memory."""

import contextlib
import random
import tracemalloc

import pytest

from diffc_jax.codec.container import Header, Packet, Residual, StreamWriter, parse
from diffc_jax.errors import InputError


def make_stream(seed):
    rng = random.Random(seed)
    width, height = rng.choice([(64, 64), (100, 64), (130, 130)])
    writer = StreamWriter(Header(width, height, 64, 12, seed, rng.randbytes(4)))
    for _ in range(rng.randint(9, 20)):
        n_steps, path_bits = rng.randint(1, 4), rng.choice([32, 64, 128])
        increments = tuple(rng.randint(-90, -60) for _ in range(n_steps))
        paths = rng.randbytes(n_steps * path_bits // 8)
        writer.append(Packet(path_bits, increments, paths, rng.randrange(256)))
    while seed % 2 and writer.next_tile is not None:
        writer.append(Residual(rng.randbytes(rng.randint(0, 40)), rng.randrange(1 << 32)))
    return writer.to_bytes()


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
N_STREAMS = 3000


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
        n_intact = sum(end <= intact for end in true.ends)
        assert stream.ends[:n_intact] == true.ends[:n_intact]
        if len(stream.ends) == n_intact and stream.header == true.header:
            for tile, packets in enumerate(stream.packets):
                assert packets == true.packets[tile][: true.order[:n_intact].count(tile)]
            assert (stream.problem is None) == (len(damaged) == stream.ends[-1])
        else:
            unnoticed += 1
    # Eight bits of checksum miss one in 256. Cuts they never miss, and single bits only where the bit is one
    # of the few (less than a tenth) that change the length of a packet.
    share = {truncate: 0.0, flip_a_bit: 0.1}.get(mutate, 1.0)
    expected = share * N_STREAMS / 256
    assert unnoticed <= expected + 4 * expected**0.5


def test_noise_after_a_header():
    rng = random.Random(0)
    header = Header(64, 64, 64, 12, 0, bytes(4)).to_bytes()
    read = 0
    for _ in range(3000):
        with contextlib.suppress(InputError):
            parse(header + rng.randbytes(rng.randint(0, 600)))
            read += 1
    # What has the structure of a packet passes the checksum once in 256 times.
    assert read < 3000 / 256 + 4 * (3000 / 256) ** 0.5


def test_memory_is_proportional_to_the_data():
    writer = StreamWriter(Header(64, 64, 64, 12, 0, bytes(4)))
    for _ in range(2000):
        writer.append(Packet(32, (-80,), bytes(4), 0))
    data = writer.to_bytes()
    tracemalloc.start()
    stream = parse(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(stream.ends) == 2000
    assert peak < 64 * len(data)


@pytest.mark.parametrize(
    "claim",
    [
        Header(65535, 65535, 1, 12, 0, bytes(4)).to_bytes() + bytes(10_000),
        Header(1, 1, 65535, 12, 0, bytes(4)).to_bytes() + bytes(10_000),
        STREAMS[0] + b"\xe0\xff\xff\xff\xff\x7f" + bytes(10_000),
        STREAMS[0] + b"\xdf" + bytes(10_000),
    ],
)
def test_nothing_is_allocated_for_what_data_only_claim(claim):
    tracemalloc.start()
    with contextlib.suppress(InputError):
        parse(claim)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
