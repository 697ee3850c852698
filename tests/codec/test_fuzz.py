"""Damaged streams all the way to pixels: no crash, no hang, and no wrong image without a warning.

What parsing alone does with damage is in test_container_fuzz.py.
"""

import contextlib
import dataclasses
import random
import tracemalloc

import numpy as np
import pytest

from diffc_jax.codec.container import CodedStep, StreamWriter, parse
from diffc_jax.codec.image_decoder import decode_stream
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.stream import Cut, Header, Residual, Step, Stream
from diffc_jax.codec.targets import Target
from diffc_jax.errors import InputError
from diffc_jax.models.gaussian import independent_eps_hat

SIDE = 8
MEMORY = 8
FINGERPRINT = b"fuzz"
VARIANCES = 4 / np.arange(1, 3 * SIDE**2 + 1).reshape(SIDE, SIDE, 3)
N_STREAMS, N_FORGED = 150, 30
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
    """Streams of two tiles each, lossless and lossy, and the last one of a picture."""
    images = (make_image(0, 8, 16), make_image(1, 7, 10), make_image(2, 5, 9), make_image(3, 16, 8))
    targets = (Target(lossless=True), Target(packets=3), Target(gamma=-1.0), Target(gamma=-3.0))
    return [
        encode_image(codec, image, target, memory=MEMORY, seed=seed, tiled=seed < 3)
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
    return sum(cut.n_bytes <= same for cut in true.cuts)


def true_image(codec, data, n_packets, cache):
    key = data, n_packets
    if key not in cache:
        end = parse(data).cuts[n_packets - 1].n_bytes
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
        is_prefix = len(stream.cuts) == n_intact and stream.header == true.header
        # Prefixes are all alike: some are enough.
        if is_prefix and n_decoded > 20:
            assert (stream.problem is None) == (damaged == data[: stream.n_bytes])
            continue
        n_decoded += 1
        try:
            decoded = decode_stream(codec, stream, n_steps=4)
        except InputError:
            continue
        if is_prefix:
            np.testing.assert_array_equal(decoded.image, true_image(codec, data, n_intact, cache))
            assert (decoded.warnings == []) == (damaged == data[: stream.n_bytes])
        else:
            n_silent += not decoded.warnings
    assert n_decoded > 2
    # Eight bits of checksum miss one in 256, but never cuts; then there is the latent check.
    most = 0 if mutate is truncate else n_streams / 256
    assert n_silent <= most


def forged(rng, data):
    """Steps that were tampered with, but with correct checksums and in their right places."""
    true = parse(data)
    writer = StreamWriter(dataclasses.replace(true.header, n_steps=None))
    least = rng.randint(true.header.n_tiles, 40)
    for number in range(1000):
        if number >= least and writer.between_steps:
            break
        sizes = writer.next_sizes
        numbers = tuple(rng.randrange(32) for _ in range(rng.choice([0, 0, 0, 1, 2])))
        with contextlib.suppress(ValueError):
            offer = sizes.offer(numbers)
            if offer.n_cells < 1:
                continue
            cell = rng.randrange(offer.n_cells)
            path_bits = offer.path_bits(cell)
            path = bytearray(rng.randbytes(-(-path_bits // 8)))
            path[-1] &= 0xFF << -path_bits % 8 & 0xFF
            writer.append(CodedStep(numbers, cell, bytes(path), rng.randrange(16)))
    return writer.to_bytes()


def test_forged_steps(codec, streams):
    """Any steps decode to some image, and most of them with a warning."""
    rng = random.Random(0)
    tracemalloc.start()
    noticed, expected = [], []
    while len(noticed) < N_FORGED:
        with contextlib.suppress(InputError):
            stream = parse(forged(rng, rng.choice(streams)))
            decoded = decode_stream(codec, stream, n_steps=4)
            header = stream.header
            assert decoded.image.shape == (header.height, header.width, 3)
            noticed.append(any(NOTICED in warning for warning in decoded.warnings))
            checks = [
                one for _, one in stream.items if isinstance(one, Step) and one.check is not None
            ]
            # Three of 16 checks agree by chance; one that does not is enough.
            expected.append(1 - (3 / 16) ** len(checks))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    deviation = np.sqrt(sum(p * (1 - p) for p in expected))
    assert abs(sum(noticed) - sum(expected)) < 3 * deviation
    assert peak < 20_000_000


@pytest.mark.parametrize("payload", [b"", b"\x00", bytes(40), b"\xff" * 40, b"\x10\x02\x05abc"])
def test_forged_residuals(codec, streams, payload):
    stream = parse(streams[0])
    items = [
        (tile, Residual(payload, 0) if isinstance(item, Residual) and tile == 0 else item)
        for tile, item in stream.items
    ]
    decoded = decode_stream(codec, Stream(stream.header, items, stream.cuts), n_steps=4)
    assert not decoded.lossless
    assert len(decoded.warnings) == 1
    assert decoded.warnings[0].startswith("tile 0 is not exact: ")


def test_longer_paths_than_a_tile_has_values(codec):
    """Files of version 1 say how long their paths are."""
    items = [(0, Step(1 << 47, 256, bytes(32), 0))]
    header = Header(8, 8, SIDE, 12, 0, FINGERPRINT, version=1)
    with pytest.raises(InputError) as caught:
        decode_stream(codec, Stream(header, items, [Cut(1, 40)]))
    assert str(caught.value) == "has steps of 256 path bits, but tiles of 192 values"
