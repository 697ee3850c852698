"""Sizes of steps: the prediction beside a Kalman filter of matrices, cells, chains of a Gaussian source."""

import itertools
import math
import random

import numpy as np
import pytest

from diffc_jax.channel_simulation.open_trellis_reach import mean_projections, spreads
from diffc_jax.codec.announced_sizes import MOST_SIZES, OTHER_SIZE, SYMBOL_BITS
from diffc_jax.codec.step_sizes import (
    StepSizes,
    most_bits,
    packet_end,
    planned_bits,
    planned_steps,
)
from diffc_jax.codec.stream import snr_to_float

SIZE, MEMORY = 12288, 14
OCTAVES = 1 / math.log(2)
LOG_UNIT = 2.0**-20


class Filter:
    """The same as `StepSizes` predicts, as the textbook has it, of ln |x - x_hat|^2 and its slope."""

    def __init__(self):
        self.state = np.array([8.1, 0.36])
        self.covariance = np.diag([0.7**2, 0.2**2])

    def observe(self, level, target, half_width):
        """ln |x - x_hat|^2 from a target whose error is uniform in +- half_width."""
        variance = (2 / target) ** 2 * half_width**2 / 3
        gain = self.covariance[:, 0] / (self.covariance[0, 0] + variance)
        self.state = self.state + gain * (level - self.state[0])
        self.covariance = self.covariance - np.outer(gain, self.covariance[0])

    def predict(self, before, after):
        if not before:
            self.state[0] -= 1.3
            self.covariance[0, 0] += 0.55**2
            return
        change = math.log(after / before)
        transition = np.array([[1.0, -change], [0.0, 1.0]])
        self.state = transition @ self.state + [0, 0.01]
        noise = np.diag([(0.005 + 0.05 * change) ** 2, 0.03**2])
        self.covariance = transition @ self.covariance @ transition.T + noise


def test_prediction():
    rng = np.random.default_rng(0)
    sizes, textbook = StepSizes((5, 0), SIZE, MEMORY), Filter()
    for _ in range(40):
        offer = sizes.offer()
        assert offer.level * LOG_UNIT / OCTAVES == pytest.approx(textbook.state[0], abs=1e-4)
        assert offer.level_sd * LOG_UNIT / OCTAVES == pytest.approx(
            math.sqrt(textbook.covariance[0, 0]), rel=1e-3
        )
        level = textbook.state[0] + 0.1 * rng.normal()
        delta = snr_to_float(offer.delta)
        cell = min(offer.cell(math.sqrt(delta * math.exp(level))), offer.n_cells - 1)
        half_width = offer.grid.half_width / 65536
        length = max(offer.target(cell) / 65536, half_width)
        textbook.observe(math.log(length**2 / delta), length, half_width)
        before = snr_to_float(sizes.snr)
        sizes.advance(offer, cell)
        textbook.predict(before, snr_to_float(sizes.snr))


def test_cells():
    """Shares fill 2^24, the share of a number is found, and probable cells are those that come."""
    rng = random.Random(0)
    for seed in range(30):
        size = rng.choice([12, 192, 12288])
        sizes = StepSizes((seed, 1), size, MEMORY)
        for _ in range(rng.randrange(6)):
            offer = sizes.offer()
            if offer.n_cells > 0:
                sizes.advance(offer, rng.randrange(offer.n_cells))
        offer = sizes.offer((rng.randrange(32),) * rng.randrange(2))
        if offer.n_cells < 1:
            continue
        starts = [offer.start(cell) for cell in range(offer.n_cells + 1)]
        assert (starts[0], starts[-1]) == (OTHER_SIZE, 1 << SYMBOL_BITS)
        assert all(low < high for low, high in itertools.pairwise(starts))
        for cell in {0, offer.n_cells // 2, offer.n_cells - 1}:
            assert offer.find(starts[cell]) == offer.find(starts[cell + 1] - 1) == cell
            share = starts[cell + 1] - starts[cell]
            assert offer.bits(cell) == pytest.approx(SYMBOL_BITS - math.log2(share))
            assert 8 <= offer.path_bits(cell) <= most_bits(size)
        # A length in the middle of a cell is in it.
        inside = max(offer.target(0), 0) / 65536
        assert offer.cell(inside) == 0 or offer.target(0) < 0


def test_other_sizes_scale_the_step():
    sizes = StepSizes((1, 0), SIZE, MEMORY)
    planned = sizes.offer()
    for number in range(32):
        other = sizes.offer((number,))
        assert other.delta_code - planned.delta_code == 32 * (number - 24)
        assert sizes.offer((number, 24)).delta_code == other.delta_code
    with pytest.raises(ValueError, match=r"^a step is out of range$"):
        sizes.offer((0,) * 20)
    with pytest.raises(ValueError, match=r"^too many other sizes$"):
        sizes.offer((24,) * (MOST_SIZES + 1))


def test_plans():
    assert [planned_bits(bits, SIZE) for bits in (0, 384, 400, 3584, 9999)] == [
        48,
        48,
        50,
        448,
        448,
    ]
    assert [planned_bits(10_000, size) for size in (12, 192, 3072)] == [8, 24, 384]
    assert [most_bits(size) for size in (3, 192, 3072, 12288)] == [8, 48, 640, 640]
    for bits in (1, 500, 5000, 123_456):
        n_steps = sent = 0
        while sent < bits:
            n_steps, sent = n_steps + 1, sent + planned_bits(sent, SIZE)
        assert planned_steps(bits, SIZE) == n_steps
    assert [packet_end(number) for number in (0, 1, 2, 3)] == [0, 640, 1280, 2240]


def test_copies_go_on_by_themselves():
    sizes = StepSizes((1, 0), SIZE, MEMORY)
    sizes.advance(sizes.offer(), 1)
    before, other = sizes.offer(), sizes.copy()
    other.advance(other.offer(), 2)
    assert sizes.offer() == before != other.offer()


def gaussian_chain(seed, total):
    """Path bits, side bits and ideal rate of one source whose variances fall as i^-1.2."""
    rng = np.random.default_rng(seed)
    variance = np.arange(1, SIZE + 1) ** -1.2
    variance *= 0.25 * SIZE / variance.sum()
    x = rng.normal(size=SIZE) * np.sqrt(variance)
    sizes, natural, snr, side = StepSizes((seed, 0), SIZE, MEMORY), np.zeros(SIZE), 0.0, 0.0
    while sizes.bits < total:
        x_hat = variance * natural / (1 + snr * variance)
        error = math.sqrt(np.sum((x - x_hat) ** 2))
        offer = sizes.offer()
        delta = snr_to_float(offer.delta)
        cell = offer.cell(math.sqrt(delta) * error)
        assert cell < offer.n_cells
        side += offer.bits(cell)
        k = offer.path_bits(cell)
        # A sample that goes as far as the best of k bits, of the right variance otherwise.
        along = (x - x_hat) / error
        sample = rng.normal(size=SIZE)
        spread = math.sqrt(1 - (spreads(MEMORY)[k] / 65536) ** 2)
        reach = mean_projections(MEMORY)[k] / 65536 + spread * rng.normal()
        sample += (reach - np.sum(sample * along)) * along
        natural += delta * x_hat + math.sqrt(delta) * sample
        snr += delta
        sizes.advance(offer, cell)
    return sizes.bits, side, 0.5 * np.sum(np.log2(1 + snr * variance))


def test_chains_of_a_gaussian_source():
    """Steps are as large as planned, cells take a bit or so, and paths what the trellis needs."""
    found = np.array([gaussian_chain(seed, 1024) for seed in range(3)])
    bits, side, ideal = found.mean(axis=0)
    assert 1024 <= bits < 1024 + 448
    assert side < 20
    assert bits / ideal < 1.25
