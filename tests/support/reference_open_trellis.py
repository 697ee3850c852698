"""A decoder of paths through the open trellis in plain Python, written after the description of it alone."""

import functools

import numpy as np
from scipy.special import ndtri

from tests.support.reference_trellis import bits, unrotate, words

PERIOD = 192


@functools.cache
def table(rows):
    """Labels in sixteenths."""
    uniform = (words([0, 0], 5, rows * PERIOD // 2).reshape(rows, PERIOD) + 0.5) / 2.0**32
    normal = ndtri(uniform)
    return np.rint(16 * normal / np.sqrt(np.mean(normal**2, axis=0)))


def stage_ends(size, k):
    """Dimension after the last one of each stage."""
    ramp, tail = min(max(k // 3, 1), 16), min(max(k // 6, 1), 6)
    lengths = [64] * k
    for j in range(ramp):
        lengths[j] = 6 + 58 * (2 * j + 1) // (2 * ramp)
    for j in range(tail):
        lengths[k - tail + j] += 128 * (2 * j + 1) // (2 * tail)
    total, ends, so_far = sum(lengths), [], 0
    for length in lengths:
        so_far += length
        ends.append((2 * size * so_far + total) // (2 * total))
    return ends


def labels(size, memory, path):
    """The label of every dimension, in sixteenths, before the shared signs."""
    rows = min(1024, 2 ** (memory - 1))
    values = table(rows)
    register = [0] * memory  # the newest bit first
    result, start = [], 0
    for bit, end in zip(path, stage_ends(size, len(path)), strict=True):
        state = int("".join(map(str, register[:-1])), 2)
        group, row = divmod(state, rows)
        sign = -1 if bit != register[-1] else 1
        if bin(row & (0x155 * group)).count("1") % 2:
            sign = -sign
        shifted = (row + group * (3 * rows // 8 + 5)) % rows
        result += [sign * values[shifted, i % PERIOD] for i in range(start, end)]
        register, start = [bit, *register[:-1]], end
    return np.array(result)


def decode(size, memory, key, path):
    """The sample of a path (a list of bits), in float64."""
    signs = 1.0 - 2.0 * bits(key, 1, size)
    return unrotate(key, labels(size, memory, path) / 16 * signs)
