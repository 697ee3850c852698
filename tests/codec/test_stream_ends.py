"""Where streams end: a reader finds the end that the writer made, and no other."""

import copy
import random

import pytest

from diffc_jax.codec import container
from diffc_jax.codec.container import CodedStep, StreamWriter, Turns, parse
from diffc_jax.codec.header import header_bytes
from diffc_jax.codec.range_coder import RangeDecoder, RangeEncoder
from diffc_jax.codec.stream import Header
from tests.support.streams import random_steps

TINY = Header(8, 8, 8, 14, 7, b"ab")
# Its steps have hardly more bits than a check.
SMALLEST = Header(4, 4, 4, 14, 7, b"ab")


def likely_step(turns, rng, check=0):
    """The next step with its most probable cell and any path."""
    offer = turns.sizes.offer()
    shares = [offer.start(cell + 1) - offer.start(cell) for cell in range(offer.n_cells)]
    return make_step(offer, shares.index(max(shares)), rng.getrandbits(640), check)


def make_step(offer, cell, bits, check):
    k = offer.path_bits(cell)
    n_bytes = -(-k // 8)
    number = (bits & ((1 << k) - 1)) << (8 * n_bytes - k)
    return CodedStep((), cell, number.to_bytes(n_bytes, "big"), check)


def last_of_all(turns):
    """The next step with the last of all cells, paths and checks: the end of the interval before it."""
    offer = turns.sizes.offer()
    return make_step(offer, offer.n_cells - 1, (1 << 640) - 1, 15)


def test_streams_that_look_shorter(monkeypatch):
    """Such are written with another check; with a checksum of ff they are not as rare as usual."""
    monkeypatch.setattr(container, "crc8", lambda data, before=0: 0xFF)
    rng = random.Random(0)
    writer, turns = StreamWriter(SMALLEST), Turns(SMALLEST)
    while not writer.n_packets:
        step = likely_step(turns, rng)
        before = copy.deepcopy((writer, turns))
        writer.append(step)
        turns.advance(turns.sizes.offer(), step.cell)
    n_changed = n_streams = 0
    for check in range(16):
        writer, turns = copy.deepcopy(before)
        step = likely_step(turns, rng, check)
        writer.append(step)
        turns.advance(turns.sizes.offer(), step.cell)
        if not writer.n_packets:
            continue
        n_streams += 1
        writer.append(last_of_all(turns))
        with monkeypatch.context() as patched:
            patched.setattr(StreamWriter, "_is_read_whole", lambda writer, data: True)
            looks_shorter = parse(writer.to_bytes()).items[-1][1].check != 15
        stream = parse(writer.to_bytes())
        assert len(stream.items) == writer._n_steps
        assert stream.problem is None
        assert stream.items[-1][1].check == ((15 + 1) % 16 if looks_shorter else 15)
        n_changed += looks_shorter
    assert 0 < n_changed < n_streams


@pytest.mark.parametrize("side", [3, 8, 64])
def test_ends_of_short_steps(side):
    """After any step, also with planned steps of few bits, and paths of zeros or ones."""
    header = Header(2 * side, side, side, 14, 300, b"ab")
    writer, turns, rng = StreamWriter(header), Turns(header), random.Random(side)
    for number in range(60):
        try:
            offer = turns.sizes.offer()
        except ValueError:  # What is predicted of random cells may be out of range.
            break
        if offer.n_cells < 1:
            break
        cell = rng.randrange(offer.n_cells)
        bits = rng.choice([0, (1 << 640) - 1, rng.getrandbits(640)])
        step = make_step(offer, cell, bits, rng.choice([0, 15, 7]))
        writer.append(step)
        turns.advance(offer, cell)
        if writer.all_started:
            stream = parse(writer.to_bytes())
            assert (len(stream.items), stream.problem) == (number + 1, None)
    assert number > 20


def test_a_check_and_the_last_bytes_take_three_bytes():
    """What `_at_end` relies on."""
    rng = random.Random(0)
    for _ in range(1000):
        coder = RangeEncoder()
        coder.encode_bits(0, rng.randrange(64))
        start = rng.randrange(1 << 24)
        coder.encode(start, rng.randint(start + 1, 1 << 24), 24)
        before = len(coder.data)
        coder.encode_bits(rng.randrange(16), 4)
        coder.encode_bits(rng.randrange(256), 8)
        assert len(coder.to_bytes()) - before <= 3


def test_numbers_and_cells_that_cannot_be_written():
    writer, offer = StreamWriter(TINY), Turns(TINY).sizes.offer()
    for cell in (-1, offer.n_cells):
        with pytest.raises(ValueError, match=rf"^cell {cell} of {offer.n_cells}$"):
            writer.append(CodedStep((), cell, b"", 0))
    with pytest.raises(ValueError, match=r"^a step is out of range$"):
        writer.append(CodedStep((0,) * 30, 0, b"", 0))
    with pytest.raises(ValueError, match=r"^too many other sizes$"):
        writer.append(CodedStep((24,) * 65, 0, b"", 0))
    # Nothing was written.
    steps = random_steps(TINY, 1)
    writer.append(steps[0])
    assert len(parse(writer.to_bytes()).items) == 1


def test_endless_announcements():
    """A step whose size is announced without end is refused, however long the data are."""
    coder = RangeEncoder()
    for _ in range(20_000):
        coder.encode(0, 1 << 16, 24)
        coder.encode_bits(24, 5)
    head = header_bytes(TINY)
    with pytest.raises(
        container.InputError, match=r"packet 1 is damaged \(too many other sizes\)$"
    ):
        parse(head + coder.to_bytes())


def test_a_tile_without_cells():
    """In tiles of few values a step may be out of reach altogether."""
    for seed in range(2000):
        header = Header(2, 2, 2, 14, seed, b"ab")
        if Turns(header).sizes.offer().n_cells < 1:
            break
    data = header_bytes(header) + b"\xff" * 50
    with pytest.raises(container.InputError, match=r"\(no path is long enough for a step\)$"):
        parse(data)
    assert RangeDecoder(data, 5).peek(24) > 1 << 16
