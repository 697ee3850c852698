"""Pictures as docs/format.md has them, in plain Python and NumPy: the state of a stream, and the latents."""

import math
import types

import numpy as np
from scipy.special import ndtri

from tests.support.reference_container import WIDTH, Offer, Tile, log2, power, tables
from tests.support.reference_trellis import bits, threefry, words

SPREAD = 104858**2


class Message(Offer):
    """What both sides know of a message before its cell."""

    def __init__(self, picture, numbers):
        reach, spread = tables(picture.memory)
        if len(numbers) > 64 or (numbers and picture.j):
            raise ValueError("another size within a step")
        level = picture.level + log2(picture.size // picture.n) - log2(picture.size)
        if picture.j == 0:
            picture.u = sum(number - 192 for number in numbers)
            wanted = log2(reach[picture.q] ** 2 - 2**32) - 32 * 2**20 - level
            picture.code = (wanted + 2048) // 4096 + 8 * picture.u
        self.code = picture.code
        if not -10240 <= self.code <= 10240:
            raise ValueError("a step is out of range")
        self.delta = power(self.code, 48)
        a = int(threefry([(picture.seed, picture.j)], [(2 + len(numbers), picture.i)])[0, 0])
        change = max(min(8 * picture.u, 2048), -2048)
        own = min(max(picture.q * power(change, 16) >> 16, 8), 448)
        self.offset = a % 2**16
        self.h = max(WIDTH[(a >> 16) % 4096] * spread[own] >> 16, 1)
        self.first = -1 if self.begin(0) > 0 else 0
        longest = min(640, max(picture.message_size // 4, 8))
        last = ((reach[longest] << 16) // (2 * self.h) - self.offset) >> 16
        self.n = last - self.first + 1
        self.tile = types.SimpleNamespace(level=level, A=picture.A + SPREAD)
        self.reach = reach


class Picture(Tile):
    """A picture of N values whose windows have M."""

    number_bits = 8

    def __init__(self, seed, size, window, memory):
        super().__init__(seed, 0, size, memory)
        self.seed, self.window = seed, window
        self.begin_step()

    def begin_step(self):
        size, window = self.size, self.window
        m = min(448, max(window // 8, 8))
        w = -(-size // window)
        small = min(self.b // 2, 192 * w, m * w)
        p = min(max(small, self.b // 8, 48, size // window), m * w)
        self.message_size = window
        for _ in range(6):
            if self.message_size < size and 2 * self.message_size * p <= 3 * m // 4 * size:
                self.message_size *= 2
        self.n = -(-size // self.message_size)
        self.q = min(max(p // self.n, 8), m)
        self.j = self.number = self.path_bits = 0

    @property
    def between_steps(self):
        return self.j == 0

    def offer(self, numbers):
        return Message(self, numbers)

    def take(self, offer, c):
        """Whether the message ends a packet."""
        self.observe(offer, c, SPREAD)
        self.path_bits += offer.path_bits(c)
        self.j = self.number = self.j + 1
        if self.j < self.n:
            return False
        self.predict(offer.delta)
        self.i += 1
        self.b += self.path_bits
        ends = self.b >= self.e
        if ends:
            self.e = self.b + max(640, self.b // 8)
        self.begin_step()
        return ends


def order(size):
    """The values of a picture as they are dealt out."""
    g = ((math.isqrt(5 * size**2) - size) >> 1) + 1
    while math.gcd(g, size) > 1:
        g += 1
    return [g * v % size for v in range(size)]


def decode(seed, shape, steps, x_hat, sample):
    """z in the end, and the check after each step, not reduced.

    `steps` are pairs of delta and the paths of messages; `x_hat` is a function of z and the signal-to-noise
    ratio, `sample` one of a key, a path and the number of values, at least.
    """
    height, width = shape
    size, z = 3 * height * width, []
    for row in range(height):
        start = threefry([(seed, row)], [(1, 0)])[0]
        z.append(ndtri(((words(start, 0, 3 * width)[:, 0] >> 9) + 0.5) / 2**23))
    z, snr, checks, places = np.concatenate(z), 0.0, [], order(size)
    for i, (delta, paths) in enumerate(steps):
        y, signs = np.empty(size), np.empty(size)
        for j, path in enumerate(paths):
            own = places[j * size // len(paths) : (j + 1) * size // len(paths)]
            key = threefry([(seed, j)], [(0, i)])[0]
            y[own] = sample(key, path, len(paths))[: len(own)]
            signs[own] = 1.0 - 2.0 * bits(key, 0x43484543, len(own))
        d = delta / 2**48
        z = (
            math.sqrt(snr * (1 + snr)) * z
            + d * x_hat(z.reshape(height, width, 3), snr).ravel()
            + math.sqrt(d) * y
        ) / math.sqrt((snr + d) * (1 + snr + d))
        snr += d
        checks.append(round(16 * math.sqrt(1 + snr) * float(z @ signs) / math.sqrt(size)))
    return z.reshape(height, width, 3), checks


def windowed(z, side, stride, look):
    """x_hat of a picture, pixel by pixel, where `look` is x_hat of one window."""

    def places(length):
        if length <= side:
            return [0]
        c = math.ceil((length - side) / stride)
        return [j * (length - side) // c for j in range(c + 1)]

    def weight(k):
        return math.sin(math.pi * (k + 0.5) / side) ** 2 + 1 / 1000

    height, width, _ = z.shape
    z = np.pad(z, ((0, max(side - height, 0)), (0, max(side - width, 0)), (0, 0)), "symmetric")
    total, found = np.zeros(z.shape[:2]), np.zeros(z.shape)
    for top in places(height):
        for left in places(width):
            window = look(z[top : top + side, left : left + side])
            for r in range(side):
                for c in range(side):
                    both = weight(r) * weight(c)
                    total[top + r, left + c] += both
                    found[top + r, left + c] += both * window[r, c]
    return (found / total[..., None])[:height, :width]
