"""Valid files made wrong in what they say, under checksums and lengths that still hold; see `mutations`."""

import contextlib
import io
import pickletools
import random
import re
import tarfile
import zipfile
import zlib

from mutations import TEXTS, in_bytes, in_json

from diffc_jax.channel_simulation.open_trellis_reach import MEMORIES
from diffc_jax.codec.container import CodedStep, StreamWriter
from diffc_jax.codec.framing import crc8
from diffc_jax.codec.stream import Header


def in_zip(rng: random.Random, data: bytes) -> bytes:
    """An archive with another member, whole itself: with its checksum, and as a zip file."""
    if rng.random() < 0.3:
        return in_bytes(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
        kind = archive.infolist()[0].compress_type
    name = rng.choice(list(members))
    choice = rng.random()
    if choice < 0.1:
        del members[name]
    elif choice < 0.2:
        members[rng.choice((*TEXTS[1:4], "a/b", name + "x"))] = members.pop(name)
    elif name.endswith(".npy"):
        members[name] = in_npy(rng, members[name])
    else:
        members[name] = (in_pickle if name.endswith(".pkl") else in_bytes)(rng, members[name])
    stream = io.BytesIO()
    method = rng.choice((kind, kind, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(stream, "w", method) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return in_bytes(rng, stream.getvalue()) if rng.random() < 0.1 else stream.getvalue()


def in_npy(rng: random.Random, data: bytes) -> bytes:
    """An array with another shape, type or order in its header than its data have, or other data."""
    match = re.search(rb"\{.*\}", data[:2000])
    if not match or rng.random() < 0.3:
        return in_bytes(rng, data)
    header = match[0].decode("latin1")
    kind = rng.randrange(4)
    if kind == 0:
        types = (
            "<f8",
            "<f4",
            "|u1",
            "<i8",
            "<c16",
            "<U3",
            "|O",
            "<M8[s]",
            "|V3",
            "|b1",
            ">f8",
            "f2,i4",
            "x",
            "<U99999999",
        )
        header = re.sub(r"'descr': [^,]*", f"'descr': {rng.choice(types)!r}", header)
    elif kind == 1:
        sizes = [
            rng.choice((0, 1, 2, 3, 7, 64, -1, 2**31, 2**62, 2**70, 1.5, None))
            for _ in range(rng.randrange(5))
        ]
        header = re.sub(r"'shape': \([^)]*\)", f"'shape': {tuple(sizes)}", header)
    elif kind == 2:
        header = header.replace("False", rng.choice(("True", "None", "0")))
    else:
        header = in_bytes(rng, header.encode("latin1")).decode("latin1")
    start = data[:8] + (len(header) + 1).to_bytes(2, "little")
    return start + header.encode("latin1") + b"\n" + data[match.end() :].lstrip(b" ")[1:]


def in_pickle(rng: random.Random, data: bytes) -> bytes:
    """A pickle one of whose values is another one, or with other bytes."""
    if rng.random() < 0.3:
        return in_bytes(rng, data)
    values = {
        *(
            "NONE",
            "BININT",
            "BININT1",
            "BININT2",
            "LONG1",
            "BINFLOAT",
            "NEWTRUE",
            "NEWFALSE",
            "MARK",
        ),
        *("BINUNICODE", "SHORT_BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_DICT", "EMPTY_LIST", "BINGET", "REDUCE", "BUILD", "SETITEM", "SETITEMS"),
    }
    try:
        ops = list(pickletools.genops(data))
    except Exception:  # one that was changed before
        return in_bytes(rng, data)
    spots = [(op, pos) for op, _, pos in ops if op.name in values]
    if not spots:
        return in_bytes(rng, data)
    _, start = rng.choice(spots)
    end = next((pos for _, _, pos in ops if pos > start), len(data))
    new = (
        *(
            b"N",
            b"\x88",
            b")",
            b"}",
            b"]",
            b"K\x00",
            b"K\x02",
            b"J\xff\xff\xff\xff",
            b"J\xff\xff\xff\x7f",
            b"",
        ),
        *(
            b"G?\xf8\0\0\0\0\0\0",
            b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
            b"X\x01\0\0\0x",
            b"NN\x86",
        ),
        *(
            b"J\x02\0\0\0J\xff\xff\xff\xff\x86",
            b"K\x02G?\xf8\0\0\0\0\0\0\x86",
            b"h\x00",
            b"(",
            b"R",
            b"0",
        ),
    )
    return data[:start] + rng.choice(new) + data[end:]


def in_tar(rng: random.Random, data: bytes) -> bytes:
    """An archive with another header, under a checksum that holds, or with other bytes."""
    if rng.random() < 0.2:
        return in_bytes(rng, data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        heads = [member.offset for member in archive.getmembers()]
    at = rng.choice(heads)
    head = bytearray(data[at : at + 512])
    # Name, mode, size, time, kind, target of a link, magic, numbers of a device, prefix of the name.
    start, size = rng.choice(
        (
            (0, 100),
            (100, 8),
            (124, 12),
            (124, 12),
            (136, 12),
            (156, 1),
            (157, 100),
            (257, 8),
            (329, 8),
            (345, 155),
        )
    )
    texts = (
        b"\0",
        b"7" * 11,
        b"\x80" + b"\xff" * 11,
        b"\xff" * 12,
        b"\x80\0\0\0\x7f" + b"\xff" * 7,
        b"-1",
        b"x",
        b"../a.png",
        b".a.png",
    )
    kinds = (b"0", b"1", b"2", b"3", b"5", b"S", b"L", b"K", b"x", b"g", b"V", b"\0")
    text = rng.choice(kinds if start == 156 else (*texts, rng.randbytes(size)))[:size]
    head[start : start + size] = text.ljust(size, b"\0")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return data[:at] + bytes(head) + data[at + 512 :]


def in_png(rng: random.Random, data: bytes) -> bytes:
    """A picture with another chunk, under a checksum that holds, or with other bytes."""
    if rng.random() < 0.3:
        return in_bytes(rng, data)
    chunks, at = [], 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    number = rng.randrange(len(chunks))
    kind, content = chunks[number]
    if kind == b"IDAT" and rng.random() < 0.5:
        content = zlib.compress(in_bytes(rng, zlib.decompress(content)))
    else:
        content = in_bytes(rng, content)
    chunks[number] = kind, content
    if rng.random() < 0.2:
        kinds = (b"iCCP", b"gAMA", b"cICP", b"PLTE", b"tRNS", b"acTL", b"eXIf", b"zTXt", b"sRGB")
        chunks.insert(
            rng.randrange(len(chunks) + 1), (rng.choice(kinds), rng.randbytes(rng.randrange(20)))
        )
    return data[:8] + b"".join(
        len(one).to_bytes(4, "big") + name + one + zlib.crc32(name + one).to_bytes(4, "big")
        for name, one in chunks
    )


def in_safetensors(rng: random.Random, data: bytes) -> bytes:
    """A file with another header, as long as it says, or with other bytes."""
    if rng.random() < 0.3:
        return in_bytes(rng, data)
    size = int.from_bytes(data[:8], "little")
    header = in_json(rng, data[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def in_stream(rng: random.Random, data: bytes) -> bytes:
    """A `.diffc` stream of other steps than a sender takes, under checksums that hold; or other bytes."""
    if rng.random() < 0.5:
        return in_bytes(rng, data)
    side = rng.choice((1, 2, 4, 8, 64, 300))
    n_tiles = rng.choice((1, 1, 2, 6))
    header = Header(side * n_tiles, side, side, rng.choice(MEMORIES), rng.randrange(65536), b"dc")
    writer = StreamWriter(header)
    for _ in range(rng.randint(0, 3 * n_tiles)):
        numbers = tuple(rng.randrange(32) for _ in range(rng.choice((0, 0, 0, 1, 2))))
        with contextlib.suppress(ValueError):  # sizes that no step can have
            offer = writer.next_sizes.offer(numbers)
            if offer.n_cells:
                cell = rng.randrange(offer.n_cells)
                n_bits = offer.path_bits(cell)
                path = rng.getrandbits(n_bits) << -n_bits % 8
                path_bytes = path.to_bytes(-(-n_bits // 8), "big")
                writer.append(CodedStep(numbers, cell, path_bytes, rng.randrange(16)))
    forged = writer.to_bytes() if writer.all_started else data
    return forged if rng.random() < 0.5 else in_bytes(rng, forged)


def in_stream_1(rng: random.Random, data: bytes) -> bytes:
    """A `.diffc` stream of version 1 with another header, under a checksum that holds; or other bytes."""
    if rng.random() < 0.6:
        return in_bytes(rng, data)
    head = bytearray(data[:12])
    for _ in range(rng.choice((1, 1, 2))):
        head[rng.randrange(4, len(head))] = rng.randrange(256)
    sides = bytearray()
    for _ in range(3):
        side = rng.choice((0, 1, 4, 8, 16, 64, 4096, 2**20, 2**32))
        while side > 127:
            sides.append(side & 127 | 128)
            side >>= 7
        sides.append(side)
    whole = bytes((*head, *(sides if rng.random() < 0.7 else data[12:15])))
    return whole + bytes((crc8(whole),)) + data[16:]
