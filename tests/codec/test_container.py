"""The container: what is written is read, every prefix at a cut is a stream, and what is refused."""

import dataclasses
import math
import pathlib
import random
import tracemalloc

import pytest

from diffc_jax.channel_simulation.open_trellis_reach import MEMORIES
from diffc_jax.codec.container import StreamWriter, parse, write_stream
from diffc_jax.codec.header import CHECK_BITS, header_bytes
from diffc_jax.codec.stream import Header, Residual, snr_from_float, snr_to_float
from diffc_jax.errors import InputError
from tests.support.streams import random_steps, random_stream

USUAL = Header(64, 64, 64, 14, 7, b"ab")
HEADERS = (
    USUAL,
    Header(200, 70, 64, 14, 255, b"\0\xff"),
    Header(64, 64, 64, 8, 256, b"ab", grey=True),
    Header(1, 1, 64, 8, 65535, b"ab"),
    Header(65535, 1, 65535, 14, 0, b"ab"),
    Header(16, 16, 16, 14, 0, b"ab"),
    Header(30, 50, 48, 8, 300, b"ab", grey=True),
)


def places(stream, data):
    """Numbers of bytes around the ends of packets, and a few between."""
    near = {cut.n_bytes + i for cut in stream.cuts for i in (-2, -1, 0, 1)}
    return sorted({n for n in near if n < len(data)} | set(range(0, len(data), 37)))


def fails(job):
    with pytest.raises(InputError) as caught:
        job()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_headers_are_as_short_as_they_can_be():
    assert [len(header_bytes(one)) for one in HEADERS] == [5, 8, 7, 9, 12, 5, 10]
    assert header_bytes(USUAL).hex() == "d205076162"
    assert header_bytes(HEADERS[6]).hex() == "d2782c016162301e3208"


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("n_steps", [1, 2, 30])
def test_there_and_back(header, n_steps):
    n_steps = max(n_steps, header.n_tiles)
    data, steps = random_stream(header, n_steps, seed=n_steps)
    stream = parse(data)
    assert (stream.header, stream.problem, stream.damaged) == (header, None, False)
    assert (stream.n_bytes, stream.cuts[-1].n_items) == (len(data), n_steps)
    found = [item for _, item in stream.items]
    assert [(one.path, one.check is not None) for one in found] == [
        (step.path, i + 1 in {cut.n_items for cut in stream.cuts}) for i, step in enumerate(steps)
    ]
    checks = {one.n_items: steps[one.n_items - 1].check for one in stream.cuts}
    assert {one: found[one - 1].check for one in checks} == checks


def test_tiles_take_turns_by_noise_level():
    header = Header(200, 70, 64, 14, 1, b"ab")
    stream = parse(random_stream(header, 90)[0])
    snr = dict.fromkeys(range(header.n_tiles), 0)
    for tile, step in stream.items:
        assert (snr[tile], tile) == min((value, one) for one, value in snr.items())
        snr[tile] += step.delta
    assert sum(map(len, stream.steps())) == 90


@pytest.mark.parametrize(
    "header",
    [USUAL, Header(64, 64, 64, 8, 256, b"ab", grey=True), Header(128, 64, 64, 14, 0, b"ab")],
)
def test_every_beginning(header):
    """Up to its last whole packet, whatever follows, and nothing that was not sent."""
    data, _ = random_stream(header, 40 * header.n_tiles, seed=4)
    whole = parse(data)
    assert len(whole.cuts) > 2
    for n_bytes in places(whole, data):
        cuts = [cut for cut in whole.cuts if cut.n_bytes <= n_bytes]
        if not cuts or cuts[-1].n_bytes < whole.least.n_bytes:
            fails(lambda n_bytes=n_bytes: parse(data[:n_bytes]))
            continue
        found = parse(data[:n_bytes])
        assert found.items == whole.items[: cuts[-1].n_items]
        assert found.cuts == cuts
        assert not found.damaged
        is_whole = cuts[-1].n_bytes == n_bytes
        assert found.problem == (
            None if is_whole else f"packet {len(cuts) + 1} is cut off or damaged"
        )
        if is_whole:
            assert whole.prefix(8 * n_bytes) == found
    assert whole.prefix(8 * len(data) + 7) is whole
    assert whole.prefix(8 * whole.least.n_bytes - 1) is None


def test_the_writer_knows_its_size():
    for seed in range(3):
        writer = StreamWriter(USUAL)
        for step in random_steps(USUAL, 25, seed):
            writer.append(step)
            n_bits = 8 * len(writer.to_bytes())
            assert n_bits <= writer.bits_after() <= n_bits + 8


def test_side_information_is_little():
    """Header, cells and checks of 40 steps beside their paths."""
    data = write_stream(USUAL, random_steps(USUAL, 40, seed=1, other_sizes=0.0))
    stream = parse(data)
    paths = sum(step.path_bits for _, step in stream.items)
    checks = (CHECK_BITS + 8) * len(stream.cuts)
    assert 8 * len(data) - paths - checks - 40 < 2 * 40


def residuals(header, seed=0):
    rng = random.Random(seed)
    return [
        Residual(rng.randbytes(rng.randint(0, 40)), rng.randrange(1 << 32))
        for _ in range(header.n_tiles)
    ]


@pytest.mark.parametrize("n_steps", [1, 9, 30])
@pytest.mark.parametrize("width", [64, 130])
def test_exact_images(n_steps, width):
    n_tiles = -(-width // 64)
    header = Header(width, 64, 64, 14, 3, b"ab", n_steps=max(n_steps, n_tiles))
    own = residuals(header)
    data, _ = random_stream(header, header.n_steps, residuals=own)
    stream = parse(data)
    assert (stream.header, stream.problem, stream.n_bytes) == (header, None, len(data))
    assert stream.residuals() == dict(enumerate(own))
    for n_bytes in places(stream, data):
        cuts = [cut for cut in stream.cuts if cut.n_bytes <= n_bytes]
        if cuts and cuts[-1].n_bytes >= stream.least.n_bytes:
            found = parse(data[:n_bytes])
            assert found.items == stream.items[: cuts[-1].n_items]
            assert (found.problem is None) == (found.cuts == stream.cuts)
            assert not found.damaged
    assert parse(data + b"abc").problem == "3 bytes after the end are not used"


def test_a_stream_ends_where_its_writer_stopped():
    """Though the next step might be as short as a check: streams of single steps of few bits."""
    for seed in range(300):
        steps = random_steps(USUAL, 1 + seed % 4, seed, other_sizes=0.9)
        stream = parse(write_stream(USUAL, steps))
        assert (len(stream.items), stream.problem) == (len(steps), None)


def test_damage_is_noticed_at_the_next_check():
    data, _ = random_stream(USUAL, 25, seed=4)
    whole = parse(data)
    unnoticed = 0
    changed = range(8 * whole.cuts[0].n_bytes, 8 * whole.cuts[-2].n_bytes, 7)
    for place in changed:
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        stream = parse(bytes(damaged))
        n_before = sum(8 * cut.n_bytes <= place for cut in whole.cuts)
        assert (
            stream.items[: whole.cuts[n_before - 1].n_items]
            == (whole.items[: whole.cuts[n_before - 1].n_items])
        )
        # The first bits of the next packet may be in the last byte that this one needs.
        unnoticed += len(stream.cuts) > n_before + 1
    # A checksum of eight bits lets one in 256 pass.
    expected = len(changed) / 256
    assert unnoticed < expected + 4 * math.sqrt(expected)


def test_what_is_refused():
    assert fails(lambda: parse(b"")) == "is empty"
    assert fails(lambda: parse(b"GIF89a")) == "is not a .diffc file"
    for n_bytes in range(1, 5):
        message = fails(lambda n_bytes=n_bytes: parse(header_bytes(USUAL)[:n_bytes]))
        assert message == f"is cut off inside the header, after {n_bytes} bytes"
    assert fails(lambda: parse(header_bytes(USUAL))) == (
        "is cut off or damaged: 5 bytes cannot hold a step for each tile of 64x64 of an image of 64x64 pixels"
    )
    assert fails(lambda: parse(bytes.fromhex("d22505616207") + bytes(99))) == (
        "has a trellis of memory 7, which this version does not know, or is damaged"
    )
    assert fails(lambda: parse(bytes.fromhex("d20005616280808080808001") + bytes(99))) == (
        "has a damaged header (a number is longer than 5 bytes)"
    )
    assert fails(lambda: parse(bytes.fromhex("d2000561620000") + bytes(99))) == (
        "width of 0 pixels; 1 to 65535 can be coded"
    )
    for n_steps in (0, 1):
        claim = header_bytes(Header(128, 64, 64, 14, 0, b"ab", n_steps=n_steps))
        assert fails(lambda data=claim + bytes(999): parse(data)) == (
            f"has a damaged header ({n_steps} steps before the residuals of 2 tiles)"
        )
    assert fails(lambda: Header(1, 1, 1, 14, 65536, b"ab")) == "seed 65536; it must be 0 to 65535"


def test_memory_follows_the_data_and_not_what_they_claim():
    claims = (
        header_bytes(Header(65535, 65535, 1, 14, 0, b"ab")),
        header_bytes(Header(65535, 65535, 65535, 14, 0, b"ab")),
        header_bytes(Header(64, 64, 64, 14, 0, b"ab", n_steps=1 << 34)),
    )
    rng = random.Random(0)
    for claim in claims:
        data = claim + rng.randbytes(20_000)
        tracemalloc.start()
        with pytest.raises(InputError):
            parse(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100 * len(data)


def test_noise_levels_as_numbers():
    assert snr_to_float(1 << 48) == 1.0
    assert snr_from_float(0.25) == 1 << 46


def test_the_longest_headers_and_the_memories_are_those_of_the_page():
    fields = 65535, 65534, 65533, 8, 65535, b"ab"
    tiles = Header(*fields, n_steps=(1 << 35) - 1)
    sizes = [len(header_bytes(one)) for one in (tiles, dataclasses.replace(tiles, stride=65533))]
    page = (pathlib.Path(__file__).parents[2] / "docs" / "format.md").read_text()
    assert f"5 bytes for an image of one tile, at most {sizes[0]}." in page
    assert f"A header takes at most {sizes[1]} bytes." in page
    *others, last = map(str, MEMORIES)
    assert f"memory nu of the trellis, {', '.join(others)} or {last}, if flag 32 is set" in page
