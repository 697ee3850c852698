"""A decoder of trellis messages in plain NumPy, written after the description of the format alone."""

import math

import numpy as np
from scipy.special import ndtri

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key, counter):
    """Threefry-2x32 with 20 rounds; uint32 arrays (..., 2)."""
    key = [np.asarray(key, np.uint32)[..., i] for i in (0, 1)]
    key.append(key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x0 = np.asarray(counter, np.uint32)[..., 0] + key[0]
    x1 = np.asarray(counter, np.uint32)[..., 1] + key[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = ((x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))) ^ x0
        x0 = x0 + key[(group + 1) % 3]
        x1 = x1 + key[(group + 2) % 3] + np.uint32(group + 1)
    return np.stack([x0, x1], axis=-1)


def words(key, stream, count):
    """`count` words of two halves each."""
    counters = [(stream, i) for i in range(count)]
    return threefry(np.asarray(key, np.uint32), np.array(counters, np.uint32))


def bits(key, stream, count):
    """Most significant bits first."""
    halves = words(key, stream, -(-count // 64)).ravel()
    return np.unpackbits(halves.astype(">u4").view(np.uint8))[:count]


def hadamard(v):
    """Recursive, orthonormal."""
    n = len(v)
    if n == 1:
        return v
    low, high = hadamard(v[: n // 2]), hadamard(v[n // 2 :])
    return np.concatenate([low + high, low - high]) / math.sqrt(2)


def unrotate(key, v):
    """Undoes the rotation of a key, in float64."""
    m = len(v)
    block = 1
    while 12 * block <= m and block < 4096:
        block *= 4
    step = math.floor(m * (math.sqrt(5) - 1) / 2) + 1
    while math.gcd(step, m) > 1:
        step += 1

    def blocks(v):
        v = v.copy()
        starts = list(range(0, m - block + 1, block))
        if m % block:
            starts.insert(0, m - block)
        for start in starts:
            v[start : start + block] = hadamard(v[start : start + block])
        return v

    signs = 1.0 - 2.0 * bits(key, 0, 2 * m)
    v = blocks(v) * signs[m:]
    mixed = np.empty(m)
    for place in range(m):
        mixed[place * step % m] = v[place]
    return blocks(mixed) * signs[:m]


def table(memory, d):
    """Labels in sixteenths."""
    rows = 2 ** (memory - 1)
    uniform = (words([0, 0], 2, -(-rows * d // 2)).ravel()[: rows * d] + 0.5) / 2.0**32
    normal = ndtri(uniform.reshape(rows, d))
    return np.rint(16 * normal / np.sqrt(np.mean(normal**2, axis=0)))


def decode(size, memory, key, path):
    """The sample of a path (a list of bits), in float64."""
    k, d = len(path), -(-size // len(path))
    rows = table(memory, d)
    n_long = size - k * (d - 1)
    sample = []
    for stage in range(k):
        row = 0
        for age in range(1, memory):
            row = 2 * row + path[stage - age]
        label = rows[row] if path[stage] == path[stage - memory] else -rows[row]
        sample.extend(label[: d if stage < n_long else d - 1] / 16)
    signs = 1.0 - 2.0 * bits(key, 1, size)
    return unrotate(key, np.array(sample) * signs)
