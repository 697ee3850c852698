"""docs/format.md: its tables and example, and a second decoder that was written from it in plain NumPy."""

import csv
import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtri

from diffc_jax.channel_simulation.open_trellis_reach import MEMORIES, mean_projections, spreads
from diffc_jax.channel_simulation.trellis import TrellisChannel
from diffc_jax.codec import version1
from diffc_jax.codec.chain import Chain, check_distance
from diffc_jax.codec.codebooks import make_codebook
from diffc_jax.codec.container import parse
from diffc_jax.codec.decoder import LatentDecoder
from diffc_jax.codec.fixed_point import log2, normal_cdf, power_of_two
from diffc_jax.codec.header import header_bytes
from diffc_jax.codec.picture_chain import PictureChain
from diffc_jax.codec.picture_decoder import walk
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.stream import CHECK_TOLERANCE, Header, Residual, Step, Stream
from diffc_jax.codec.tiles import tile_keys
from diffc_jax.codec.windows import WindowedDenoiser
from diffc_jax.diffusion import process
from tests.support import (
    golden_streams,
    reference_container,
    reference_open_trellis,
    reference_picture,
)
from tests.support.reference_trellis import bits, threefry, words
from tests.support.reference_trellis import decode as decode_circular
from tests.support.streams import random_stream

DOCUMENT = golden_streams.PAGE.read_text()
HEADERS = (
    Header(64, 64, 64, 14, 7, b"ab"),
    Header(40, 24, 8, 14, 7, b"ab"),
    Header(100, 50, 64, MEMORIES[0], 700, b"\0\xff", grey=True),
    Header(5, 7, 48, MEMORIES[-1], 255, b"ab"),
    Header(20, 20, 20, MEMORIES[0], 65535, b"ab", n_steps=12),
    Header(130, 70, 64, 14, 1, b"ab", n_steps=30),
    Header(130, 70, 64, 14, 1, b"ab", stride=56, octaves=1),
    Header(300, 70, 20, MEMORIES[0], 700, b"ab", stride=20),
    # Of two messages a step.
    Header(9, 8, 8, MEMORIES[0], 700, b"ab", n_steps=60, stride=8),
    Header(3, 70, 8, MEMORIES[1], 1, b"ab", stride=1, octaves=3),
)


def test_tables():
    with reference_container.TABLES.open(newline="") as file:
        found = list(csv.reader(file))
    assert found == [list(map(str, row)) for row in golden_streams.tables()]
    for memory in MEMORIES:
        reach, spread = reference_container.tables(memory)
        assert list(reach.values()) == mean_projections(memory)[7:]
        assert list(spread.values()) == spreads(memory)[8:]


def test_worked_example():
    example = DOCUMENT.split(golden_streams.BEGIN)[1].split(golden_streams.END)[0]
    assert example == golden_streams.example()


def test_threefry_example():
    assert "it is (6b200159, 99ba4efe)" in DOCUMENT
    assert block([0, 0], [0, 0]).tolist() == [0x6B200159, 0x99BA4EFE]


def test_crc_example():
    assert "that of the text `123456789` is 4b" in DOCUMENT
    assert reference_container.crc8(b"123456789") == 0x4B


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("seed", [1, 2])
def test_second_reader(header, seed):
    residuals = [Residual(bytes(range(tile)), 0x12345678) for tile in range(header.n_tiles)] * bool(
        header.n_steps
    )
    data, steps = random_stream(header, header.n_steps or 40, seed, residuals)
    head, found, cuts, exact, whole = reference_container.read(data)
    assert (Header(**head), whole) == (header, True)
    assert reference_container.read_header(data)[1] == len(header_bytes(header))
    assert [(one["sizes"], one["cell"], one["path"]) for one in found] == [
        (one.sizes, one.cell, one.path) for one in steps
    ]
    assert [Residual(*one) for one in exact] == residuals
    compare(parse(data), found, cuts)


def compare(stream, found, cuts):
    own = [(tile, one) for tile, one in stream.items if isinstance(one, Step)]
    assert own == [
        (one["tile"], Step(one["delta"], one["k"], one["path"], one["check"])) for one in found
    ]
    assert [(cut.n_items, cut.n_bytes) for cut in stream.cuts][: len(cuts)] == cuts


def test_second_reader_of_beginnings():
    data, _ = random_stream(HEADERS[1], 60, 3)
    whole = parse(data)
    for n_bytes in [*range(whole.least.n_bytes, len(data), 7), *(c.n_bytes for c in whole.cuts)]:
        _, found, cuts, _, is_whole = reference_container.read(data[:n_bytes])
        stream = parse(data[:n_bytes])
        compare(stream, found, cuts)
        assert is_whole == (stream.problem is None)


def test_integer_functions():
    rng = np.random.default_rng(0)
    for bits_ in range(1, 120):
        number = int.from_bytes(rng.bytes(15), "big") >> (120 - bits_) | 1
        assert log2(number) == reference_container.log2(number)
        code = int(rng.integers(-10240, 10241))
        for after in (16, 48):
            assert power_of_two(code, after) == reference_container.power(code, after)
    for sigmas in [*rng.integers(-(9 << 16), 9 << 16, 500).tolist(), -(8 << 16), 0, 8 << 16]:
        assert normal_cdf(sigmas) == reference_container.normal(sigmas)


GAMMA_RANGE = (-13.3, 5.0)


def x_hat(z, snr):
    """What the denoiser below estimates."""
    gamma = min(max(-math.log(snr) if snr else math.inf, GAMMA_RANGE[0]), GAMMA_RANGE[1])
    return z / math.sqrt(1 + math.exp(gamma))


def eps_hat(variables, z, gamma):
    """Exact for standard normal images."""
    del variables
    return process.per_image(process.sigma(gamma), z) * z


def block(key, counter):
    return threefry([key], [counter])[0]


def decode_tile(seed, tile, steps, size, sample):
    """z in the end, and the check after each step, not reduced; steps are (delta, bits of a path)."""
    start = block([seed, tile], [1, 0])
    z = ndtri(((words(start, 0, size)[:, 0] >> 9) + 0.5) / 2**23)
    snr, checks = 0, []
    for i, (delta, path) in enumerate(steps):
        key = block([seed, tile], [0, i])
        before, d, after = (v / 2**48 for v in (snr, delta, snr + delta))
        z = (
            math.sqrt(before * (1 + before)) * z
            + d * x_hat(z, before)
            + math.sqrt(d) * sample(key, path)
        ) / math.sqrt(after * (1 + after))
        snr += delta
        projection = z @ (1.0 - 2.0 * bits(key, 0x43484543, size)) / math.sqrt(size)
        checks.append(round(16 * math.sqrt(1 + snr / 2**48) * projection))
    return z, checks


def path_bits(path, k):
    return np.unpackbits(np.frombuffer(path, np.uint8), count=k).tolist()


def compare_latents(header, steps, samples):
    """The decoder of the codec and the one above, of the steps of each tile."""
    size = 3 * header.tile**2
    expected = [
        decode_tile(
            header.seed,
            tile,
            [(one.delta, path_bits(one.path, one.path_bits)) for one in own],
            size,
            samples,
        )
        for tile, own in enumerate(steps)
    ]
    sent = {
        tile: [
            Step(one.delta, one.path_bits, one.path, check % (1 << header.check_bits))
            for one, check in zip(own, checks, strict=True)
        ]
        for tile, (own, (_, checks)) in enumerate(zip(steps, expected, strict=True))
    }
    codebook = make_codebook(header.version, size, header.memory)
    shape = (header.tile, header.tile, 3)
    chain = Chain(eps_hat, shape, GAMMA_RANGE, header.memory, codebook)
    keys = tile_keys(header.seed, header.n_tiles)
    decoder = LatentDecoder(chain, {}, keys, 2, header.check_bits)
    decoder.advance({tile: own[:2] for tile, own in sent.items()})
    decoder.advance({tile: own[2:] for tile, own in sent.items()})
    found = decoder.latents()
    for tile, (z, _) in enumerate(expected):
        np.testing.assert_allclose(found.z[tile].ravel(), z, atol=1e-4)
        assert found.snr[tile] == sum(one.delta for one in steps[tile]) / 2**48
    # Another order of additions may round a check to its neighbour, not further.
    assert found.drift.max() <= CHECK_TOLERANCE


def test_latents():
    header = Header(16, 8, 8, MEMORIES[0], 7, b"ab")
    data, _ = random_stream(header, 9, 5)
    steps = parse(data).steps()
    compare_latents(
        header,
        steps,
        lambda key, path: reference_open_trellis.decode(192, header.memory, key, path),
    )


@pytest.mark.parametrize(("height", "width"), [(9, 8), (21, 30)])
def test_latents_of_pictures(height, width):
    """Through windows of a denoiser that looks at one value at a time, which make no difference."""
    header = Header(width, height, 8, MEMORIES[0], 7, b"ab", stride=6)
    steps = parse(random_stream(header, 14, 5)[0]).picture_steps()
    assert len(steps) > 2
    sizes = {}
    for step in steps:
        sizes[len(step)] = 192
        while -(-3 * height * width // sizes[len(step)]) > len(step):
            sizes[len(step)] *= 2
    z, checks = reference_picture.decode(
        header.seed,
        (height, width),
        [(one[0].delta, [path_bits(m.path, m.path_bits) for m in one]) for one in steps],
        x_hat,
        lambda key, path, n: reference_open_trellis.decode(sizes[n], header.memory, key, path),
    )
    sent = [
        [dataclasses.replace(message, check=check % 16) for message in step]
        for step, check in zip(steps, checks, strict=True)
    ]
    chain = PictureChain(ProgramCache(eps_hat, {}, (8, 8, 3), GAMMA_RANGE, b"abcd", 4), header)
    assert not walk(chain, header, sent)
    np.testing.assert_allclose(chain.z, z, atol=1e-4)


def test_windows():
    """The denoiser depends on where in a window it looks."""
    bumps = np.random.default_rng(0).uniform(0.5, 1.5, (8, 8, 1)).astype(np.float32)
    programs = ProgramCache(
        lambda _, z, gamma: eps_hat(_, z, gamma) * bumps[None],
        {},
        (8, 8, 3),
        GAMMA_RANGE,
        b"abcd",
        4,
    )
    z = np.random.default_rng(1).normal(size=(21, 5, 3)).astype(np.float32)

    def look(window):
        gamma = jnp.float32(2.0)
        eps = process.sigma(gamma) * jnp.asarray(window * bumps)[None]
        return np.asarray(process.x_from_eps(jnp.asarray(window)[None], eps, gamma))[0]

    found = WindowedDenoiser(programs, 6, 0).at_gamma(z, 2.0)
    np.testing.assert_allclose(found, reference_picture.windowed(z, 8, 6, look), atol=1e-4)


def test_check_distance():
    found, expected = np.array([[255, 3], [15, 3]], np.uint8), np.array([1, 2], np.uint8)
    assert check_distance(found[0], expected, 8).tolist() == [2, 1]
    assert check_distance(found[1], expected, 4).tolist() == [2, 1]


# Version 1.

PAGE_1 = golden_streams.PAGE.with_name("format_1.md").read_text()


def example_1():
    section = PAGE_1.split("### Worked example")[1].split("\n## ")[0]
    rows = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
    return bytes.fromhex(" ".join(rows))


ROOTS = next(
    list(map(int, line.split())) for line in PAGE_1.splitlines() if line.startswith("    65536 ")
)


def increment(d):
    return ROOTS[d % 16] << (d // 16 + 32)


def test_worked_example_of_version_1():
    stream = parse(example_1())
    fingerprint = bytes.fromhex("a1b2c3d4")
    expected = [
        (0, Step(increment(-88), 32, bytes(range(0x10, 0x14)))),
        (0, Step(increment(-75), 32, bytes(range(0x14, 0x18)), 0x2A)),
        (1, Step(increment(-81), 32, bytes(range(0x20, 0x24)), 0xFE)),
        (1, Step(increment(-49), 64, bytes(range(0x30, 0x38)))),
        (1, Step(increment(-42), 64, bytes(range(0x38, 0x40)), 0x05)),
        (0, Residual(bytes.fromhex("150800a15e"), 0x12345678)),
    ]
    assert isinstance(stream, Stream)
    assert stream.header == Header(100, 64, 64, 12, 7, fingerprint, version=1)
    assert (stream.items, stream.problem) == (expected, None)
    assert [cut.n_bytes for cut in stream.cuts] == [28, 36, 56, 68]
    assert version1.parse(example_1()) == stream


@pytest.mark.parametrize(("size", "k", "memory"), [(12288, 64, 8), (300, 32, 5), (192, 64, 3)])
def test_samples_of_version_1(size, k, memory):
    path = np.random.default_rng(0).integers(0, 256, k // 8, np.uint8)
    key = (123, 2**32 - 1)
    found = TrellisChannel(size, k, memory).decode(
        jnp.array([key], jnp.uint32), jnp.asarray(path[np.newaxis])
    )
    expected = decode_circular(size, memory, key, np.unpackbits(path).tolist())
    np.testing.assert_allclose(found[0], expected, atol=0 if size == 12288 else 1e-5)


def test_latents_of_version_1():
    header = Header(16, 8, 8, 5, 7, b"abcd", version=1)
    rng = np.random.default_rng(1)
    steps = [
        [Step(increment(d), k, rng.bytes(k // 8)) for d, k in own]
        for own in ([(-79, 32), (-70, 32), (-20, 64), (4, 64)], [(-75, 32)])
    ]
    compare_latents(header, steps, lambda key, path: decode_circular(192, 5, key, path))
