"""What the format's numbers lead to: tables and example of docs/format.md, and streams that have to be read.

    python -m tests.support.golden_streams

writes all of it anew, which is a change of the format: docs/format_reach.csv, the example in docs/format.md,
and tests/codec/streams/v2_*.
"""

import csv
import json
import math
import pathlib
import zlib

import numpy as np

from diffc_jax.channel_simulation import open_trellis_reach as reach
from diffc_jax.channel_simulation.open_trellis_reach import MEMORIES
from diffc_jax.codec.container import CodedStep, parse, write_stream
from diffc_jax.codec.image_decoder import decode_stream
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.loading import EARLIER_WEIGHTS, load_codec
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.stream import Header
from diffc_jax.codec.targets import Target
from diffc_jax.models import gaussian
from tests.support import reference_container
from tests.support.streams import scene

ROOT = pathlib.Path(__file__).parents[2]
PAGE = ROOT / "docs" / "format.md"
STREAMS = ROOT / "tests" / "codec" / "streams"
BEGIN, END = "<!-- example -->\n", "<!-- end of example -->\n"

# Of the first weights that were shipped: image, and arguments of `encode_image`.
SAMPLES = {
    "v2_64x64": (scene(64, 64), Target(bpp=0.5), {}),
    "v2_100x50_grey": (
        scene(50, 100)[..., 1:2],
        Target(bpp=0.3),
        {"seed": 700, "memory": MEMORIES[0], "tiled": True},
    ),
    "v2_20x12_lossless": (scene(12, 20), Target(lossless=True), {}),
}


def toy_codec(side):
    """The exact denoiser of independent values of variances 4, 2, 4/3, 1, ..."""
    variances = (4 / np.arange(1, 3 * side**2 + 1)).reshape(side, side, 3).astype(np.float32)
    variables = {"fixed": {"variances": variances}}
    shape = (side, side, 3)
    return ProgramCache(gaussian.independent_eps_hat, variables, shape, (-10.0, 5.0), b"gold", 2)


def toy_image(height, width, channels):
    """Pixels of any values."""
    y, x, c = np.mgrid[:height, :width, :channels]
    return ((37 * y * y + 11 * x + 50 * c) % 256).astype(np.uint8)


# Side of the denoiser, image, and arguments of `encode_image`.
TOYS = {
    "v2_toy_tiles": (
        8,
        (6, 11, 3),
        Target(gamma=-1.0),
        {"memory": MEMORIES[-1], "seed": 258, "tiled": True},
    ),
    "v2_toy_exact": (8, (5, 7, 1), Target(lossless=True), {"memory": MEMORIES[0]}),
    "v2_toy_packets": (16, (16, 16, 3), Target(packets=2), {"seed": 2}),
    "v2_toy_picture": (8, (20, 27, 3), Target(gamma=-1.0), {"seed": 258}),
    "v2_toy_picture_exact": (8, (9, 17, 1), Target(lossless=True), {"memory": MEMORIES[0]}),
}

EXAMPLE_HEADER = Header(16, 8, 8, 14, 7, bytes.fromhex("a1b2"))
# Numbers that announce other sizes, how far from the most probable cell, and the latent check, by step.
EXAMPLE_STEPS = (((), 0, 10), ((), -1, 3), ((), -1, 0), ((30,), 0, 15), ((), 0, 7))


def example_stream():
    """The bytes of the example: probable cells, and paths of the bytes 10 11 12 .. in hexadecimal."""
    header = EXAMPLE_HEADER
    tiles = [
        reference_container.Tile(header.seed, i, 3 * header.tile**2, header.memory)
        for i in range(header.n_tiles)
    ]
    steps, next_byte = [], 0x10
    for numbers, offset, check in EXAMPLE_STEPS:
        tile = min(tiles, key=lambda one: one.snr)
        offer = reference_container.Offer(tile, numbers)
        size = [offer.share(c + 1) - offer.share(c) for c in range(offer.n)]
        cell = size.index(max(size)) + offset
        k = offer.path_bits(cell)
        path = bytearray(range(next_byte, next_byte + -(-k // 8)))
        path[-1] &= 0xFF00 >> (k - 1) % 8 + 1
        steps.append(CodedStep(numbers, cell, bytes(path), check))
        next_byte += len(path)
        tile.take(offer, cell)
    return write_stream(header, steps)


def example():
    """The example as the page shows it."""
    data = example_stream()
    _, steps, cuts, _, whole = reference_container.read(data)
    assert whole
    head = reference_container.read_header(data)[1]
    lines = [
        f"An image of 16x8 pixels in two tiles of 8x8, {len(data)} bytes with {len(steps)} steps:",
        "",
        *("    " + data[i : i + 24].hex(" ") for i in range(0, len(data), 24)),
        "",
        f"The header is `{data[:head].hex(' ')}`: flags 2 and 16 (tiles of 8; width and height follow), seed",
        "7, fingerprint `a1 b2`, width 16, height 8. Then there are these symbols:",
        "",
        "| tile, step | numbers | level | A | code | h, U | cell of n | share | T, k | path |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    counts = {}
    for one in steps:
        offer, number = one["offer"], counts.get(one["tile"], 0)
        counts[one["tile"]] = number + 1
        lines.append(
            f"| {one['tile']}, {number} | {', '.join(map(str, one['sizes']))} | {one['level']} | "
            f"{one['variance']} | {offer.code} | {offer.h}, {offer.offset} | "
            f"{one['cell']} (j = {offer.first + one['cell']}) of {offer.n} | "
            f"{one['share'][0]} to {one['share'][1] - 1} | {offer.target(one['cell'])}, {one['k']} | "
            f"`{one['path'].hex(' ')}` |"
        )
    crc = reference_container.crc8(covered(data[:head], steps))
    lines += [
        "",
        f"and the check, latent check {steps[-1]['check']} and CRC-8 `{crc:02x}`, which covers",
        "",
        *("    " + row for row in wrapped(covered(data[:head], steps))),
    ]
    assert [count for count, _ in cuts] == [len(steps)]
    return "\n".join(lines) + "\n"


def covered(head, steps):
    """What the CRC-8 at the end of a stream of one packet is of."""
    found = bytearray(head)
    for one in steps:
        for number in one["sizes"]:
            found += bytes([0xFF, number])
        found += reference_container.varint_bytes(one["cell"]) + one["path"]
    return bytes([*found, steps[-1]["check"]])


def wrapped(data):
    """Rows of 24 bytes in hexadecimal."""
    return [data[i : i + 24].hex(" ") for i in range(0, len(data), 24)]


def tables():
    """Rows of docs/format_reach.csv."""
    names = [f"{name}{memory}" for name in ("gain", "variance") for memory in MEMORIES]
    columns = [table[memory] for table in (reach.GAINS, reach.VARIANCES) for memory in MEMORIES]
    return [["k", *names], *map(list, zip(reach.LADDER, *columns, strict=True))]


def sufficient_psnr(image, decoded):
    """A tenth of a dB below that of the decoded image; None if it is exact."""
    error = np.mean((decoded.astype(float) - image) ** 2)
    return math.floor(10 * (10 * math.log10(255**2 / error))) / 10 if error else None


def main():
    with reference_container.TABLES.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(tables())
    before, rest = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + example() + END + rest.split(END)[1])
    expected = {}
    for name, (side, shape, target, options) in TOYS.items():
        codec = toy_codec(side)
        data = encode_image(codec, toy_image(*shape), target, **options)
        (STREAMS / f"{name}.diffc").write_bytes(data)
        image = decode_stream(codec, parse(data), "mean").image
        expected[name] = zlib.crc32(image.tobytes())
    codec = load_codec(EARLIER_WEIGHTS[0]).programs
    for name, (image, target, options) in SAMPLES.items():
        data = encode_image(codec, image, target, **options)
        (STREAMS / f"{name}.diffc").write_bytes(data)
        expected[name] = sufficient_psnr(image, decode_stream(codec, parse(data)).image)
    (STREAMS / "v2_expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main()
