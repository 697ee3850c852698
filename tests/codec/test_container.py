"""The `.diffc` container: what is written is read again, and a message for everything that is not."""

import random

import pytest

from diffc_jax.codec.container import (
    PATH_BITS,
    Header,
    Packet,
    Residual,
    StreamWriter,
    parse,
    write_stream,
)
from diffc_jax.codec.framing import crc8
from diffc_jax.errors import InputError

FINGERPRINT = bytes.fromhex("a1b2c3d4")


def header(**changes):
    values = {"width": 64, "height": 64, "tile": 64, "memory": 12, "seed": 7}
    return Header(**{**values, "fingerprint": FINGERPRINT, **changes})


def random_packet(rng):
    path_bits = rng.choice(PATH_BITS)
    n_steps = rng.randint(1, 32 if path_bits < 256 else 3)
    start = rng.randint(-80, 80)
    spread = rng.choice([0, 2, 9, 400])
    increments = tuple(
        min(max(start + rng.randint(-spread, spread), -512), 511) for _ in range(n_steps)
    )
    return Packet(
        path_bits, increments, rng.randbytes(n_steps * path_bits // 8), rng.randrange(256)
    )


def random_stream(rng, head, n_packets, lossless=False):
    writer = StreamWriter(head)
    packets = [[] for _ in range(head.n_tiles)]
    order, ends = [], []

    def append(packet):
        order.append(writer.next_tile)
        packets[writer.next_tile].append(packet)
        ends.append(writer.append(packet))

    while len(order) < n_packets or not all(packets):
        append(random_packet(rng))
    while lossless and writer.next_tile is not None:
        append(Residual(rng.randbytes(rng.choice([0, 5, 200])), rng.randrange(1 << 32)))
    return writer.to_bytes(), packets, order, ends


HEADERS = (
    header(),
    header(width=1, height=1, tile=1, memory=3, seed=0, grey=True),
    header(width=130, height=65, memory=15, seed=65535),
    header(width=65535, height=300, tile=65535, fingerprint=bytes(4)),
)


@pytest.mark.parametrize("head", HEADERS)
@pytest.mark.parametrize("lossless", [False, True])
def test_round_trip(head, lossless):
    for seed in range(10):
        data, packets, order, ends = random_stream(random.Random(seed), head, 12, lossless)
        stream = parse(data)
        assert stream.header == head
        assert stream.packets == packets
        assert stream.order == order
        assert stream.ends == ends
        assert stream.problem is None
        assert write_stream(head, packets) == data


def test_header_bytes():
    assert header().to_bytes().hex(" ") == "44 46 43 01 00 1c 07 00 a1 b2 c3 d4 40 40 40 a7"
    assert len(header(width=65535, height=65535, tile=65535).to_bytes()) == 22


def test_the_tile_with_least_signal_goes_next():
    head = header(width=192)
    writer = StreamWriter(head)
    order = []
    for code in (0, 16, 0, 0, 15, 0, -16, 0):
        order.append(writer.next_tile)
        writer.append(Packet(32, (code,), bytes(4), 0))
    # Signal-to-noise ratios: (0 0 0) (1 0 0) (1 2 0) (1 2 1) (2 2 1) (2 2 2.9) (3 2 2.9) (3 2.5 2.9)
    assert order == [0, 1, 2, 0, 2, 0, 1, 1]


def test_a_lossless_tile_has_no_further_turn():
    writer = StreamWriter(header(width=128))
    writer.append(Packet(32, (0,), bytes(4), 0))
    writer.append(Packet(32, (1,), bytes(4), 0))
    writer.append(Residual(b"", 0))
    assert writer.next_tile == 1
    writer.append(Packet(32, (100,), bytes(4), 0))
    writer.append(Residual(b"", 0))
    assert writer.next_tile is None
    with pytest.raises(ValueError, match=r"^all tiles are lossless: there is no room for another"):
        writer.append(Residual(b"", 0))


@pytest.mark.parametrize("head", [HEADERS[0], HEADERS[2]])
def test_every_cut_gives_the_packets_before_it(head):
    data, packets, order, ends = random_stream(random.Random(3), head, 9, lossless=True)
    enough = max(ends[order.index(tile)] for tile in range(head.n_tiles))
    for length in range(len(data)):
        if length < enough:
            with pytest.raises(InputError):
                parse(data[:length])
            continue
        stream = parse(data[:length])
        n_whole = sum(end <= length for end in ends)
        assert stream.ends == ends[:n_whole]
        assert stream.order == order[:n_whole]
        for tile in range(head.n_tiles):
            assert stream.packets[tile] == packets[tile][: order[:n_whole].count(tile)]
        if length in ends:
            assert stream.problem is None
        else:
            start, tile = ends[n_whole - 1], order[n_whole]
            assert stream.problem == (
                f"packet {n_whole + 1} (tile {tile}, from byte {start}) is cut off"
            )


def small_stream():
    """Bytes 16..23 and 24..31: packets of one step of 32 bits; a residual ends at byte 41."""
    packets = [
        Packet(32, (-88,), b"abcd", 1),
        Packet(32, (-76,), b"efgh", 2),
        Residual(b"xyz", 3),
    ]
    return write_stream(header(), [packets])


def with_checksums(data, *positions):
    """The data, with the CRC-8s at these (ascending) positions made right."""
    data = bytearray(data)
    others, checksum = 0, 0
    for position in positions:
        checksum = crc8(bytes(data[others:position]), checksum)
        data[position] = checksum
        others = position + 1
    return bytes(data)


def replaced(data, position, value):
    return data[:position] + bytes([value]) + data[position + 1 :]


def test_small_stream():
    stream = parse(small_stream())
    assert stream.ends == [24, 32, 42]
    assert with_checksums(small_stream(), 15, 23, 31, 41) == small_stream()


SMALL = small_stream()
TWO_TILES = write_stream(header(width=128), [[Packet(32, (0,), bytes(4), 0)]] * 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"DF", "is not a .diffc file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is not a .diffc file"),
        (b"DFC", "is cut off inside the header, after 3 bytes"),
        (b"DFC\x02", "has version 2 of the format; this program reads version 1"),
        (SMALL[:4], "is cut off inside the header, after 4 bytes"),
        (SMALL[:15], "is cut off inside the header, after 15 bytes"),
        (replaced(SMALL, 6, 8), "has a damaged header (checksum a7 instead of 8e)"),
        (
            SMALL[:12] + b"\xff" * 9,
            "has a damaged header (a number is longer than 5 bytes)",
        ),
        (
            SMALL[:12] + b"\xc0\x00" + SMALL[13:],
            "has a damaged header (a number is longer than it need be)",
        ),
        (
            with_checksums(replaced(SMALL, 4, 6), 15),
            "has unknown flags (0x06); it needs a newer version",
        ),
        (
            with_checksums(replaced(SMALL, 5, 0x2C), 15),
            "has the unknown coding scheme 2; it needs a newer version",
        ),
        (
            with_checksums(replaced(SMALL, 5, 0x12), 15),
            "trellis of memory 2; 3 to 15 are known to this version",
        ),
        (
            with_checksums(replaced(SMALL, 13, 0), 15),
            "height of 0 pixels; 1 to 65535 can be coded",
        ),
        (
            with_checksums(SMALL[:14] + b"\x80\x80\x04" + SMALL[15:], 17),
            "tile of 65536 pixels; 1 to 65535 can be coded",
        ),
        (
            header(width=65535, height=65535, tile=1).to_bytes() + bytes(1000),
            "is cut off or damaged: 1020 bytes cannot hold a packet for each tile of 1x1 of an image of "
            "65535x65535 pixels",
        ),
        (
            SMALL[:16],
            "is cut off or damaged: 16 bytes cannot hold a packet for each tile of 64x64 of an image of "
            "64x64 pixels",
        ),
        (
            TWO_TILES[:-1] + b"\0",
            "holds no packet for 1 of 2 tiles: packet 2 (tile 1, from byte 26) is damaged "
            "(checksum 00 instead of b2)",
        ),
        (
            replaced(SMALL, 16, 0xC0),
            "holds no packet for 1 of 1 tiles: packet 1 (tile 0, from byte 16) is cut off",
        ),
        (
            with_checksums(SMALL[:16] + SMALL[32:], 15, 25),
            "holds no packet for 1 of 1 tiles: packet 1 (tile 0, from byte 16) is damaged "
            "(a residual comes first)",
        ),
    ],
)
def test_what_cannot_be_read(data, message):
    with pytest.raises(InputError) as error:
        parse(data)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("data", "n_packets", "problem"),
    [
        (SMALL + b"more", 3, "4 bytes after the last packet are not used"),
        (
            replaced(SMALL, 26, 0),
            1,
            "packet 2 (tile 0, from byte 24) is damaged (checksum b7 instead of 36)",
        ),
        (
            SMALL[:25] + bytes(2) + SMALL[27:],
            1,
            "packet 2 (tile 0, from byte 24) is damaged (an increment is out of range)",
        ),
        (
            replaced(SMALL, 25, 0b10000001),
            1,
            "packet 2 (tile 0, from byte 24) is damaged (bits of the filling are not zero)",
        ),
        (
            replaced(SMALL, 32, 0xFF),
            2,
            "packet 3 (tile 0, from byte 32) is damaged (unknown head ff)",
        ),
        (
            SMALL[:33] + b"\x80\x80\x80\x80\x80" + SMALL[33:],
            2,
            "packet 3 (tile 0, from byte 32) is damaged (a number is longer than 5 bytes)",
        ),
        (
            SMALL[:33] + b"\xff\xff\xff\xff\x7f" + SMALL[34:],
            2,
            "packet 3 (tile 0, from byte 32) is cut off",
        ),
    ],
)
def test_what_can_be_read_in_part(data, n_packets, problem):
    stream = parse(data)
    assert len(stream.ends) == n_packets
    assert stream.problem == problem


def test_packets_of_another_stream_are_noticed():
    """The checksum covers everything before it, so that packets cannot be swapped either."""
    first, second = (random_stream(random.Random(seed), header(), 6) for seed in (1, 2))
    spliced = first[0][: first[3][2]] + second[0][second[3][2] :]
    stream = parse(spliced)
    assert stream.ends == first[3][:3]
    assert "is damaged (" in stream.problem


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            (33, (0,), bytes(4), 0),
            "33 path bits; must be one of (32, 64, 128, 256, 512, 1024, 2048)",
        ),
        ((32, (), b"", 0), "0 steps; a packet holds 1 to 32"),
        ((32, (0,) * 33, bytes(132), 0), "33 steps; a packet holds 1 to 32"),
        ((32, (512,), bytes(4), 0), "increments out of range: (512,)"),
        ((32, (0, 1), bytes(7), 0), "7 bytes of paths for 2 steps of 32 bits"),
        ((32, (0,), bytes(4), 256), "latent check 256 is not a byte"),
    ],
)
def test_packets_that_cannot_be_written(values, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Packet(*values)
    assert str(error.value) == message


def test_residuals_that_cannot_be_written():
    with pytest.raises(ValueError, match=r"^4294967296 is not a CRC-32$"):
        Residual(b"", 1 << 32)
    with pytest.raises(ValueError, match=r"^the first packet of tile 0 is a residual$"):
        write_stream(header(), [[Residual(b"", 0)]])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 65536}, "width of 65536 pixels; 1 to 65535 can be coded"),
        ({"height": 0}, "height of 0 pixels; 1 to 65535 can be coded"),
        ({"tile": -1}, "tile of -1 pixels; 1 to 65535 can be coded"),
        ({"memory": 16}, "trellis of memory 16; 3 to 15 are known to this version"),
        ({"seed": 65536}, "seed 65536; it must be 0 to 65535"),
        ({"fingerprint": b"abc"}, "fingerprint of 3 bytes instead of 4"),
    ],
)
def test_headers_that_cannot_be_written(changes, message):
    with pytest.raises(InputError) as error:
        header(**changes)
    assert str(error.value) == message


def test_streams_that_cannot_be_written():
    packet, residual = Packet(32, (0,), bytes(4), 0), Residual(b"", 0)
    for packets, message in (
        ([[packet]], "packets of 1 tiles; the image has 2"),
        ([[packet], []], "it is the turn of tile 1, which has no packet left"),
        ([[packet] * 3, [packet]], "it is the turn of tile 1, which has no packet left"),
        ([[packet, residual, packet], [packet, residual]], "there are packets after a residual"),
    ):
        with pytest.raises(ValueError) as error:  # noqa: PT011
            write_stream(header(width=128), packets)
        assert str(error.value) == message
