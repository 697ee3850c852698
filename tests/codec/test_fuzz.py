"""Damaged streams all the way to pixels: no crash, no hang, and no wrong image without a warning.

What parsing alone does with damage is in test_container_fuzz.py.
"""

import contextlib
import random
import tracemalloc

import numpy as np
import pytest

from diffc_jax.codec.container import Header, Packet, Residual, StreamWriter, parse
from diffc_jax.codec.framing import crc8
from diffc_jax.codec.image_decoder import decode_stream
from diffc_jax.codec.image_encoder import Target, encode_image
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.errors import InputError
from diffc_jax.models.gaussian import independent_eps_hat

SIDE = 8
MEMORY = 3
FINGERPRINT = b"fuzz"
VARIANCES = 4 / np.arange(1, 3 * SIDE**2 + 1).reshape(SIDE, SIDE, 3)
N_STREAMS, N_FORGED = 600, 40
NOTICED = "are not the sender's"


@pytest.fixture(scope="module")
def codec():
    variables = {"fixed": {"variances": VARIANCES.astype(np.float32)}}
    return ProgramCache(
        independent_eps_hat, variables, (SIDE, SIDE, 3), (-8.0, 5.0), FINGERPRINT, 2
    )


def make_image(seed, height, width):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 2, SIDE, SIDE, 3)) * np.sqrt(VARIANCES)
    x = x.swapaxes(1, 2).reshape(2 * SIDE, 2 * SIDE, 3)[:height, :width]
    return np.clip(128 + 60 * x, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def streams(codec):
    """Streams of two tiles each, lossless and lossy."""
    images = (make_image(0, 8, 16), make_image(1, 7, 10), make_image(2, 5, 9), make_image(3, 16, 8))
    targets = (Target(lossless=True), Target(packets=5), Target(packets=3), Target(gamma=-3.0))
    return [
        encode_image(codec, image, target, memory=MEMORY, seed=seed)
        for seed, (image, target) in enumerate(zip(images, targets, strict=True))
    ]


def flip_a_bit(rng, data, streams):
    del streams
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def overwrite(rng, data, streams):
    del streams
    at, length = rng.randrange(len(data)), rng.randint(1, 30)
    return (data[:at] + rng.randbytes(length) + data[at + length :])[: len(data)]


def delete(rng, data, streams):
    del streams
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randint(1, 30) :]


def insert(rng, data, streams):
    del streams
    at = rng.randrange(len(data))
    return data[:at] + rng.randbytes(rng.randint(1, 30)) + data[at:]


def splice(rng, data, streams):
    other = rng.choice(streams)
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def truncate(rng, data, streams):
    del streams
    return data[: rng.randrange(len(data))]


MUTATIONS = (flip_a_bit, overwrite, delete, insert, splice, truncate)


def intact_packets(true, data, damaged):
    """How many packets of the true stream are there as they were, from the first on."""
    same = next((i for i, (a, b) in enumerate(zip(data, damaged, strict=False)) if a != b), None)
    same = min(len(data), len(damaged)) if same is None else same
    return sum(end <= same for end in true.ends)


def true_image(codec, data, n_packets, cache):
    key = data, n_packets
    if key not in cache:
        end = parse(data).ends[n_packets - 1]
        cache[key] = decode_stream(codec, parse(data[:end]), n_steps=4).image
    return cache[key]


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_damage_is_told(codec, streams, mutate):
    rng = random.Random(mutate.__name__)
    cache = {}
    n_streams = n_decoded = n_silent = 0
    while n_streams < N_STREAMS:
        data = rng.choice(streams)
        damaged = mutate(rng, data, streams)
        if damaged == data:
            continue
        n_streams += 1
        try:
            stream = parse(damaged)
        except InputError:
            continue
        true = parse(data)
        n_intact = intact_packets(true, data, damaged)
        is_prefix = len(stream.ends) == n_intact and stream.header == true.header
        # Prefixes are all alike: some are enough.
        if is_prefix and n_decoded > 20:
            assert (stream.problem is None) == (damaged == data[: stream.ends[-1]])
            continue
        n_decoded += 1
        try:
            decoded = decode_stream(codec, stream, n_steps=4)
        except InputError:
            continue
        if is_prefix:
            np.testing.assert_array_equal(decoded.image, true_image(codec, data, n_intact, cache))
            assert (decoded.warnings == []) == (damaged == data[: stream.ends[-1]])
        else:
            n_silent += not decoded.warnings
    assert n_decoded > 5
    # Eight bits of checksum miss one in 256, but never single bits and cuts; then there is the latent check.
    most = 0 if mutate in (flip_a_bit, truncate) else n_streams / 256
    assert n_silent <= most


def forged(rng, data):
    """Packets that were tampered with, but with correct checksums and in their right places."""
    true = parse(data)
    left = [list(reversed(packets)) for packets in true.packets]
    writer = StreamWriter(true.header)
    changed_at = rng.randrange(len(true.ends))
    for number in range(rng.randint(changed_at + 1, len(true.ends) + 3)):
        if writer.next_tile is None:
            break
        packet = left[writer.next_tile].pop() if left[writer.next_tile] else None
        if not isinstance(packet, Packet) or number >= changed_at:
            increments = tuple(
                rng.choice([rng.randint(-512, 511), rng.randint(-60, 30)])
                for _ in range(rng.randint(1, 4))
            )
            path_bits = rng.choice([32, 64])
            paths = rng.randbytes(len(increments) * path_bits // 8)
            packet = Packet(path_bits, increments, paths, rng.randrange(256))
        writer.append(packet)
    return writer.to_bytes()


def test_forged_packets(codec, streams):
    """Any increments and paths decode to some image, and nearly all of them with a warning."""
    rng = random.Random(0)
    tracemalloc.start()
    noticed = []
    while len(noticed) < N_FORGED:
        with contextlib.suppress(InputError):
            stream = parse(forged(rng, rng.choice(streams)))
            decoded = decode_stream(codec, stream, n_steps=4)
            header = stream.header
            assert decoded.image.shape == (header.height, header.width, 3)
            noticed.append(any(NOTICED in warning for warning in decoded.warnings))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Three of 256 checks agree by chance, more of those of the largest steps, which leave little noise.
    assert np.mean(noticed) > 0.85
    assert peak < 20_000_000


@pytest.mark.parametrize("payload", [b"", b"\x00", bytes(40), b"\xff" * 40, b"\x10\x02\x05abc"])
def test_forged_residuals(codec, streams, payload):
    stream = parse(streams[0])
    assert isinstance(stream.packets[0][-1], Residual)
    stream.packets[0][-1] = Residual(payload, 0)
    decoded = decode_stream(codec, stream, n_steps=4)
    assert not decoded.lossless
    assert len(decoded.warnings) == 1
    assert decoded.warnings[0].startswith("tile 0 is not exact: ")


def test_longer_paths_than_a_tile_has_values(codec):
    writer = StreamWriter(Header(8, 8, SIDE, MEMORY, 0, FINGERPRINT))
    writer.append(Packet(256, (-80,), bytes(32), 0))
    with pytest.raises(InputError) as caught:
        decode_stream(codec, parse(writer.to_bytes()))
    assert str(caught.value) == "has steps of 256 path bits, but tiles of 192 values"


def test_repaired_headers(streams):
    """A header with any value and a right checksum is refused, or it describes a stream of this size."""
    rng = random.Random(0)
    length = len(Header(8, 16, SIDE, MEMORY, 0, FINGERPRINT).to_bytes())
    for _ in range(300):
        data = bytearray(streams[1])
        data[rng.randrange(3, length - 1)] = rng.randrange(256)
        data[length - 1] = crc8(bytes(data[: length - 1]))
        with contextlib.suppress(InputError):
            stream = parse(bytes(data))
            assert stream.header.n_tiles <= len(stream.ends)
            assert len(data) >= 8 * stream.header.n_tiles
