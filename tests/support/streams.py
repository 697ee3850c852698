"""Streams of the container without a denoiser: steps of made-up tiles with random paths."""

import random

from diffc_jax.codec.container import CodedStep, StreamWriter, Turns
from diffc_jax.codec.stream import snr_to_float


def random_steps(header, n_steps, seed=0, other_sizes=0.1):
    """Steps as a sender might take them, of tiles whose error falls as that of photographs."""
    rng, turns, steps = random.Random(seed), Turns(header), []
    for _ in range(n_steps):
        numbers = (rng.randrange(32),) if rng.random() < other_sizes else ()
        offer = turns.sizes.offer(numbers)
        error = 0.25 * 3 * header.tile**2 / (1 + 50 * snr_to_float(turns.sizes.snr)) ** 0.5
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
