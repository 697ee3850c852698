"""A reader of `.diffc` files of version 2 in plain Python, written after docs/format.md alone.

Only of intact files and of their beginnings: what is damaged raises ValueError.
"""

import csv
import functools
import itertools
import math
import pathlib

import numpy as np
from scipy.special import gammaincinv, ndtr

from tests.support.reference_trellis import threefry

TABLES = pathlib.Path(__file__).parents[2] / "docs" / "format_reach.csv"
SIDES = (None, 4, 8, 16, 32, 64, 128, 256)
MOST_NUMBERS = 64


class EndOfDataError(Exception):
    """The data end before a symbol is certain."""


def varint(data, at):
    value = shift = 0
    while True:
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def varint_bytes(value):
    parts = [value & 127]
    while value := value >> 7:
        parts.append(value & 127)
    return bytes([*(part | 128 for part in parts[:-1]), parts[-1]])


def read_header(data):
    """What it says, and the index of the byte after it."""
    if data[0] not in (0xD2, 0xD3):
        raise ValueError("not of version 2")
    flags, at = data[1], 2
    n_seed = 2 if flags & 64 else 1
    seed, at = int.from_bytes(data[at : at + n_seed], "little"), at + n_seed
    fingerprint, at = data[at : at + 2], at + 2
    side, memory, n_steps = SIDES[flags & 7], 14, None
    if side is None:
        side, at = varint(data, at)
    width = height = side
    if flags & 16:
        width, at = varint(data, at)
        height, at = varint(data, at)
    if flags & 32:
        memory, at = data[at], at + 1
    if flags & 128:
        n_steps, at = varint(data, at)
    found = {"width": width, "height": height, "tile": side, "memory": memory, "seed": seed}
    found |= {"fingerprint": fingerprint, "grey": bool(flags & 8), "n_steps": n_steps}
    if data[0] == 0xD3:
        found["stride"], at = varint(data, at)
        found["octaves"], at = data[at], at + 1
    return found, at


def crc8(data):
    register = 0xFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register << 1 ^ (0x1D if register & 128 else 0)) & 0xFF
    return register ^ 0xFF


class Coder:
    """The range decoder."""

    def __init__(self, data, position):
        self.data, self.position = data, position
        self.low, self.width = 0, 1 << 48
        self.x = int.from_bytes(data[position : position + 6].ljust(6, b"\0"), "big")

    def symbol(self, bits, shares):
        """`shares` finds s and t of the symbol to which a number belongs."""
        unit = self.width >> bits
        s, t = shares(min((self.x - self.low) // unit, (1 << bits) - 1))
        low = self.low + s * unit
        width = self.width - s * unit if t == 1 << bits else (t - s) * unit
        missing = min(max(self.position + 6 - len(self.data), 0), 6)
        if not low <= self.x or self.x + 256**missing > low + width:
            raise EndOfDataError
        self.low, self.width = low, width
        while self.width < 1 << 40:
            after = self.position + 6
            # Dropping the same byte of both, low may have one more than x before a carry.
            base = self.low >> 40 << 40
            self.low, self.x = self.low - base << 8, self.x - base << 8
            self.x += self.data[after] if after < len(self.data) else 0
            self.width <<= 8
            self.position += 1
        return s

    def uniform(self, bits):
        value = 0
        while bits:
            part = min(bits, 16)
            value = value << part | self.symbol(part, lambda number: (number, number + 1))
            bits -= part
        return value

    def needed(self):
        """Bytes of the file up to the one with which the symbols become certain."""
        for count in range(7):
            unit = 256 ** (6 - count)
            known = self.x // unit * unit
            if known >= self.low and known + unit <= self.low + self.width:
                return self.position + count
        raise AssertionError

    def last_bytes(self):
        for count in range(7):
            unit = 256 ** (6 - count)
            f = -(-self.low // unit) * unit
            if f + unit <= self.low + self.width:
                return (f % 2**48).to_bytes(6, "big")[:count]
        raise AssertionError


def log2(n):
    whole = n.bit_length() - 1
    m = n << 40 - whole if whole <= 40 else n >> whole - 40
    digits = whole
    for _ in range(20):
        m = m * m >> 40
        digits *= 2
        if m >= 1 << 41:
            m, digits = m >> 1, digits + 1
    return digits


@functools.cache
def root(i):
    value = 1 << (7680 + i)
    for _ in range(8):
        value = math.isqrt(value)
    return value


def power(c, b):
    q, i = divmod(c, 256)
    e = q + b - 30
    return root(i) << e if e >= 0 else root(i) >> -e


NORMAL = [round(2**24 * p) for p in ndtr(np.arange(-2048, 2049) / 256).tolist()]
WIDTH = [
    round(2**16 * math.sqrt(q))
    for q in (2 * gammaincinv(1.5, (np.arange(4096) + 0.5) / 4096)).tolist()
]


def normal(y):
    if y <= -8 << 16:
        return 0
    if y >= 8 << 16:
        return 1 << 24
    i, r = divmod(y + (8 << 16), 256)
    return NORMAL[i] + ((NORMAL[i + 1] - NORMAL[i]) * r >> 8)


@functools.cache
def tables(memory):
    """R and S, by k."""
    with TABLES.open(newline="") as file:
        rows = list(csv.DictReader(file))

    def between(name, k):
        for row, after in itertools.pairwise(rows):
            low, high = int(row["k"]), int(after["k"])
            if k <= high:
                first, second = int(row[f"{name}{memory}"]), int(after[f"{name}{memory}"])
                return first * (high - k) + second * (k - low), 10**5 * (high - low)
        raise AssertionError

    reach, spread = {}, {}
    for k in range(7, 641):
        g, w = between("gain", max(k, 8))
        reach[k] = math.isqrt((k * g**2 << 32) // w**2)
    for k in range(8, 641):
        v, w = between("variance", k)
        spread[k] = math.isqrt(2**32 - (v << 32) // w - (reach[k] - reach[k - 1]) ** 2 // 12)
    return reach, spread


class Offer:
    """A step that both sides know before its cell."""

    def __init__(self, tile, numbers):
        reach, spread = tables(tile.memory)
        u, r = sum(number - 24 for number in numbers), len(numbers)
        p = min(max(tile.b // 8, 48), min(448, max(tile.size // 8, 8)))
        self.longest = min(640, max(tile.size // 4, 8))
        wanted = log2(reach[p] ** 2 - 2**32) - 32 * 2**20 - tile.level
        self.code = (wanted + 2048) // 4096 + 32 * u
        if r > MOST_NUMBERS or not -10240 <= self.code <= 10240:
            raise ValueError("a step is out of range")
        self.delta = power(self.code, 48)
        a = int(threefry([tile.key], [(2 + r, tile.i)])[0, 0])
        q = min(max(p * power(32 * min(max(u, -64), 64), 16) >> 16, 8), 448)
        self.offset = a % 2**16
        self.h = max(WIDTH[(a >> 16) % 4096] * spread[q] >> 16, 1)
        self.first = -1 if self.begin(0) > 0 else 0
        last = ((reach[self.longest] << 16) // (2 * self.h) - self.offset) >> 16
        self.n = last - self.first + 1
        self.tile, self.reach = tile, reach

    def target(self, c):
        return self.h * ((self.first + c << 16) + self.offset) >> 15

    def begin(self, j):
        return self.h * ((2 * j - 1 << 16) + 2 * self.offset) >> 16

    def level_at(self, length):
        return 2 * (log2(length) - 16 * 2**20) - 4096 * self.code

    @functools.cache  # noqa: B019
    def share(self, c):
        """Where it begins."""
        if c == 0:
            return 65536
        if c == self.n:
            return 1 << 24
        level = self.level_at(self.begin(self.first + c))
        y = ((level - self.tile.level) << 16) // max(math.isqrt(self.tile.A), 1)
        f = (9 * normal(y) + normal(y // 3)) // 10
        return 65536 + c + ((2**24 - 65536 - self.n) * f >> 24)

    def shares(self, number):
        c = next(c for c in range(self.n) if number < self.share(c + 1))
        return self.share(c), self.share(c + 1)

    def path_bits(self, c):
        reach, target = self.reach, self.target(c)
        return 8 + sum((reach[k] + reach[k + 1]) // 2 < target for k in range(8, 640))


class Tile:
    number_bits = 5
    between_steps = True

    def __init__(self, seed, number, size, memory):
        self.number = number
        self.key, self.size, self.memory = (seed, number), size, memory
        self.level, self.slope = 12253481 + log2(size) - log2(12288), 377487
        self.A, self.B, self.C = 1058943**2, 0, 209715**2
        self.snr = self.i = self.b = 0
        self.e = 640

    def offer(self, numbers):
        return Offer(self, numbers)

    def observe(self, offer, c, more=0):
        t = max(offer.target(c), offer.h)
        v = (offer.h**2 * 8729894 << 20) // (3 * t**2) + more
        error, total = offer.level_at(t) - offer.tile.level, self.A + v
        self.level += error * self.A // total
        self.slope += error * self.B // total
        a, b = self.A, self.B
        self.A, self.B, self.C = a - a * a // total, b - a * b // total, self.C - b * b // total

    def predict(self, delta):
        before, self.snr = self.snr, self.snr + delta
        if not before:
            self.level -= 1966608
            self.A += 832026**2
            return
        o = log2(self.snr) - log2(before)
        self.level -= self.slope * o >> 20
        noise = 7564 + (52429 * o >> 20)
        self.A += noise**2 - (2 * o * self.B >> 20) + (o**2 * self.C >> 40)
        self.B -= o * self.C >> 20
        self.C += 31457**2
        self.slope += 10486

    def take(self, offer, c):
        """Whether the step ends a packet."""
        k = offer.path_bits(c)
        self.observe(offer, c)
        self.predict(offer.delta)
        self.i += 1
        self.b += k
        if self.b < self.e:
            return False
        self.e = self.b + max(640, 3 * self.b // 4)
        return True


def read(data):
    """The header; steps, each a dict with what led to it; where packets end; residuals; whether all is used.

    `cuts` are pairs of a number of steps and of bytes. Without its last packet, of what is cut off.
    """
    header, at = read_header(data)
    covered = bytearray(data[:at])
    n_tiles = -(-header["width"] // header["tile"]) * -(-header["height"] // header["tile"])
    size = 3 * header["tile"] ** 2
    if "stride" in header:
        from tests.support.reference_picture import Picture

        sides = (max(header[side], header["tile"]) for side in ("width", "height"))
        tiles = [Picture(header["seed"], 3 * math.prod(sides), size, header["memory"])]
    else:
        tiles = [Tile(header["seed"], i, size, header["memory"]) for i in range(n_tiles)]
    coder, steps, cuts, residuals, whole = Coder(data, at), [], [], [], False

    def check():
        value = coder.uniform(4)
        covered.append(value)
        if coder.uniform(8) != crc8(covered):
            raise ValueError("wrong CRC")
        steps[-1]["check"] = value

    def at_end():
        """After a step that does not end a packet."""
        nonlocal coder
        if len(data) - coder.position > 3:
            return False
        before, coder = coder, Coder(data, at)
        coder.position, coder.low = before.position, before.low
        coder.width, coder.x = before.width, before.x
        n_covered = len(covered)
        try:
            check()
            if data[coder.position :] == coder.last_bytes():
                return True
        except (EndOfDataError, ValueError):
            pass
        coder = before
        del covered[n_covered:]
        steps[-1]["check"] = None
        return False

    try:
        while len(steps) != header["n_steps"] and not whole:
            tile, numbers = min(tiles, key=lambda one: (one.snr, one.number)), ()
            offer = tile.offer(numbers)
            while (
                s := coder.symbol(24, lambda x, o=offer: (0, 65536) if x < 65536 else o.shares(x))
            ) == 0:
                numbers += (coder.uniform(tile.number_bits),)
                offer = tile.offer(numbers)
            c = next(c for c in range(offer.n) if offer.share(c) == s)
            k = offer.path_bits(c)
            path = coder.uniform(k)
            step = {"tile": tile.number, "sizes": numbers, "cell": c, "k": k, "check": None}
            n_bytes = -(-k // 8)
            step["path"] = (path << 8 * n_bytes - k).to_bytes(n_bytes, "big")
            step["offer"], step["delta"] = offer, offer.delta
            step["level"], step["variance"] = tile.level, tile.A
            step["share"] = offer.share(c), offer.share(c + 1)
            steps.append(step)
            for one in numbers:
                covered += bytes([0xFF, one])
            covered += varint_bytes(c) + step["path"]
            if tile.take(offer, c):
                check()
                cuts.append((len(steps), coder.needed()))
                whole = header["n_steps"] is None and cuts[-1][1] == len(data)
            elif header["n_steps"] is None and tile.between_steps and at_end():
                cuts.append((len(steps), len(data)))
                whole = True
        if header["n_steps"] is not None:
            if not cuts or cuts[-1][0] < len(steps):
                check()
                cuts.append((len(steps), coder.needed()))
            place = coder.position + len(coder.last_bytes())
            for _ in range(n_tiles):
                length, place = varint(data, place)
                payload, crc = data[place : place + length], data[place + length :][:4]
                if len(crc) < 4:
                    raise EndOfDataError
                place += length + 4
                residuals.append((payload, int.from_bytes(crc, "little")))
            whole = place == len(data)
    except (EndOfDataError, IndexError):
        pass
    return header, steps[: cuts[-1][0]] if cuts else [], cuts, residuals, whole
