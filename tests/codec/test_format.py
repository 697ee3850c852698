"""docs/format.md: its example, and a second decoder that was written from it in plain NumPy."""

import math
import pathlib
import re

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtri

from diffc_jax.channel_simulation.trellis import TrellisChannel
from diffc_jax.codec.chain import CHECK_TOLERANCE, Chain, check_distance
from diffc_jax.codec.container import Header, Packet, Residual, parse, write_stream
from diffc_jax.codec.decoder import LatentDecoder
from diffc_jax.codec.tiles import tile_keys
from diffc_jax.diffusion import process

DOCUMENT = (pathlib.Path(__file__).parents[2] / "docs" / "format.md").read_text()


def test_worked_example():
    section = DOCUMENT.split("### Worked example")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([0-9a-f ]+)` \|", section, re.MULTILINE)
    data = bytes.fromhex(" ".join(rows))
    header = Header(100, 64, 64, 12, 7, bytes.fromhex("a1b2c3d4"))
    packets = [
        [
            Packet(32, (-88, -75), bytes(range(0x10, 0x18)), 0x2A),
            Residual(bytes.fromhex("150800a15e"), 0x12345678),
        ],
        [
            Packet(32, (-81,), bytes(range(0x20, 0x24)), 0xFE),
            Packet(64, (-49, -42), bytes(range(0x30, 0x40)), 0x05),
        ],
    ]
    assert write_stream(header, packets) == data
    stream = parse(data)
    assert (stream.header, stream.packets, stream.problem) == (header, packets, None)
    assert stream.order == [0, 1, 1, 0]


ROOTS = tuple(map(int, re.search(r"^    (65536( \d+){15})$", DOCUMENT, re.MULTILINE)[1].split()))


def increment(d):
    return ROOTS[d % 16] << (d // 16 + 32)


def threefry(key, counter):
    """Threefry-2x32-20 of the counter; any of the four numbers may be an array."""
    mask = 0xFFFFFFFF
    schedule = (key[0], key[1], key[0] ^ key[1] ^ 0x1BD11BDA)
    first, second = (counter[0] + schedule[0]) & mask, (counter[1] + schedule[1]) & mask
    for r in range(20):
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[r % 8]
        first = (first + second) & mask
        second = ((second << turn | second >> (32 - turn)) & mask) ^ first
        if r % 4 == 3:
            i = r // 4 + 1
            first = (first + schedule[i % 3]) & mask
            second = (second + schedule[(i + 1) % 3] + i) & mask
    return first, second


def words(key, stream, count):
    """The halves of the words in turn."""
    first, second = threefry(key, (stream, np.arange(count, dtype=np.int64)))
    return np.stack([first, second], axis=1).ravel()


def signs(key, stream, count):
    halves = words(key, stream, -(-count // 64))
    bits = halves[:, np.newaxis] >> np.arange(31, -1, -1) & 1
    return 1.0 - 2 * bits.ravel()[:count]


def hadamard(vector):
    n, half = len(vector), 1
    while half < n:
        pairs = vector.reshape(-1, 2, half)
        vector = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).ravel()
        half *= 2
    return vector / math.sqrt(n)


def transform(vector):
    size = len(vector)
    block = max(4**i for i in range(7) if 3 * 4**i <= size)
    if size % block:
        vector = np.concatenate([vector[:-block], hadamard(vector[-block:])])
    whole = size // block * block
    blocks = [hadamard(vector[i : i + block]) for i in range(0, whole, block)]
    return np.concatenate([*blocks, vector[whole:]])


def sample(key, path, size, memory):
    n_stages, d = 8 * len(path), -(-size // (8 * len(path)))
    rows = 1 << (memory - 1)
    uniform = (words((0, 0), 2, -(-rows * d // 2))[: rows * d].reshape(rows, d) + 0.5) / 2**32
    table = ndtri(uniform)
    table = np.rint(16 * table / np.sqrt(np.mean(table**2, axis=0)))
    bits = np.unpackbits(np.frombuffer(path, np.uint8))
    labels = []
    for k in range(n_stages):
        row = 0
        for age in range(1, memory):
            row = 2 * row + int(bits[(k - age) % n_stages])
        sign = -1 if bits[k] != bits[(k - memory) % n_stages] else 1
        length = d if k < size - n_stages * (d - 1) else d - 1
        labels.extend(sign * table[row, :length] / 16)
    vector = np.array(labels) * signs(key, 1, size)
    rotation = signs(key, 0, 2 * size)
    step = int(size * (math.sqrt(5) - 1) / 2) + 1
    while math.gcd(step, size) > 1:
        step += 1
    turned = np.empty(size)
    turned[np.arange(size) * step % size] = transform(vector) * rotation[size:]
    return transform(turned) * rotation[:size]


GAMMA_RANGE = (-13.3, 5.0)


def x_hat(z, snr):
    """What the denoiser below estimates."""
    gamma = min(max(-math.log(snr) if snr else math.inf, GAMMA_RANGE[0]), GAMMA_RANGE[1])
    return z / math.sqrt(1 + math.exp(gamma))


def eps_hat(variables, z, gamma):
    """Exact for standard normal images."""
    del variables
    return process.per_image(process.sigma(gamma), z) * z


def decode_tile(seed, tile, packets, size, memory):
    """z in the end, and the check after each packet."""
    start = threefry((seed, tile), (1, 0))
    z = ndtri(((words(start, 0, size)[::2] >> 9) + 0.5) / 2**23)
    snr, checks, i = 0, [], 0
    for packet in packets:
        n_bytes = packet.path_bits // 8
        for step, d in enumerate(packet.increments):
            key = threefry((seed, tile), (0, i))
            path = packet.paths[step * n_bytes : (step + 1) * n_bytes]
            y = sample(key, path, size, memory)
            before, delta, after = (v / 2**48 for v in (snr, increment(d), snr + increment(d)))
            z = (
                math.sqrt(before * (1 + before)) * z
                + delta * x_hat(z, before)
                + math.sqrt(delta) * y
            ) / math.sqrt(after * (1 + after))
            snr, i = snr + increment(d), i + 1
        projection = z @ signs(key, 0x43484543, size) / math.sqrt(size)
        checks.append(round(16 * math.sqrt(1 + snr / 2**48) * projection) % 256)
    return z, checks


def test_threefry_example():
    assert "it is (6b200159, 99ba4efe)" in DOCUMENT
    assert threefry((0, 0), (0, 0)) == (0x6B200159, 0x99BA4EFE)


@pytest.mark.parametrize(
    ("size", "path_bits", "memory"), [(12288, 64, 8), (300, 32, 5), (192, 64, 3)]
)
def test_samples(size, path_bits, memory):
    path = np.random.default_rng(0).integers(0, 256, path_bits // 8, np.uint8)
    key = (123, 2**32 - 1)
    found = TrellisChannel(size, path_bits, memory).decode(
        jnp.array([key], jnp.uint32), jnp.asarray(path[np.newaxis])
    )
    expected = sample(key, path.tobytes(), size, memory)
    if size == 12288:
        np.testing.assert_array_equal(found[0], expected)
    else:
        np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_chain():
    rng = np.random.default_rng(1)
    packets = [
        [
            Packet(32, (-79, -70), rng.bytes(8), 0),
            Packet(64, (-20, 4), rng.bytes(16), 0),
        ],
        [Packet(32, (-75,), rng.bytes(4), 0)],
    ]
    chain = Chain(eps_hat, (8, 8, 3), GAMMA_RANGE, memory=5)
    decoder = LatentDecoder(chain, {}, tile_keys(7, 2), batch_size=2)
    expected = [decode_tile(7, tile, packets[tile], 192, 5) for tile in range(2)]
    sent = [
        [
            Packet(p.path_bits, p.increments, p.paths, check)
            for p, check in zip(one, checks, strict=True)
        ]
        for one, (_, checks) in zip(packets, expected, strict=True)
    ]
    decoder.advance({0: sent[0][:1], 1: sent[1]})
    decoder.advance({0: sent[0][1:]})
    found = decoder.latents()
    for tile in range(2):
        np.testing.assert_allclose(found.z[tile].ravel(), expected[tile][0], atol=1e-4)
        assert found.snr[tile] == sum(
            increment(d) / 2**48 for packet in packets[tile] for d in packet.increments
        )
    # Another order of additions may round a check to its neighbour, not further.
    assert found.drift.max() <= CHECK_TOLERANCE
    assert check_distance(np.array([255, 3], np.uint8), np.array([1, 2], np.uint8)).tolist() == [
        2,
        1,
    ]
