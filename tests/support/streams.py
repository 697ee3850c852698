"""Made-up streams and the images of the streams in tests/codec/streams."""

import math
import random

import numpy as np

from diffc_jax.codec.container import CodedStep, StreamWriter, turns_of
from diffc_jax.codec.stream import snr_to_float


def random_steps(header, n_steps, seed=0, other_sizes=0.1):
    """Steps as a sender might take them where errors fall as in photographs.

    Those of pictures are messages, and as many more as make the last step whole.
    """
    rng, turns, steps = random.Random(seed), turns_of(header), []
    while len(steps) < n_steps or not turns.between_steps:
        numbers, size = (), 3 * header.tile**2
        if turns.between_steps and rng.random() < other_sizes:
            numbers = (rng.randrange(1 << turns.size_bits),)
        if header.stride is not None:
            size = 3 * math.prod(header.coded_shape) / turns.sizes.n_messages
        offer = turns.sizes.offer(numbers)
        error = 0.25 * size / (1 + 50 * snr_to_float(turns.sizes.snr)) ** 0.5
        length = (error * rng.lognormvariate(0, 0.1) * snr_to_float(offer.delta)) ** 0.5
        cell = min(offer.cell(length), offer.n_cells - 1)
        path_bits = offer.path_bits(cell)
        n_bytes = -(-path_bits // 8)
        path = rng.getrandbits(path_bits) << (8 * n_bytes - path_bits)
        steps.append(CodedStep(numbers, cell, path.to_bytes(n_bytes, "big"), rng.randrange(16)))
        turns.advance(offer, cell)
    return steps


def random_stream(header, n_steps, seed=0, residuals=()):
    """The bytes of such steps, and the steps."""
    writer, steps = StreamWriter(header), random_steps(header, n_steps, seed)
    for step in steps:
        writer.append(step)
    return writer.to_bytes(residuals), steps


def scene(height, width):
    """An RGB image: a disc before a gradient, and a wave over both."""
    y, x = np.mgrid[:height, :width] / 64.0
    r = np.hypot(x - 0.45, y - 0.5)
    ground = np.stack([90 + 80 * x, 120 + 60 * y, 200 - 90 * y], -1)
    disc = np.stack([220 - 60 * r, 80 + 120 * r, 60 + 40 * x], -1)
    share = 1 / (1 + np.exp((r - 0.28) * 60))[..., None]
    wave = 12 * np.sin(2 * np.pi * (3 * x + 5 * y))[..., None]
    return np.clip(np.rint(ground * (1 - share) + disc * share + wave), 0, 255).astype(np.uint8)
