"""The lossless last mile: exact for any estimate, robust against drift, near the ideal cost."""

import bisect
import itertools
import math
import zlib

import numpy as np
import pytest

from diffc_jax.codec import residual
from diffc_jax.codec.framing import decode_varint
from diffc_jax.codec.residual import TOLERANCE, decode_residual, encode_residual
from diffc_jax.errors import InputError


def tile(error, seed=0, side=32, dtype=np.float32):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    return pixels, (pixels + error * rng.standard_normal(pixels.shape)).astype(dtype)


@pytest.mark.parametrize("error", [0.0, 0.1, 0.3, 1.0, 3.0, 20.0, 150.0])
def test_lossless_and_robust_below_the_margin(error):
    pixels, estimate = tile(error)
    payload, margin = encode_residual(pixels, estimate)
    assert margin >= TOLERANCE
    np.testing.assert_array_equal(decode_residual(payload, estimate), pixels)
    signs = np.random.default_rng(1).choice([-1, 1], pixels.shape)
    drifted = estimate + 0.9999 * margin * signs
    np.testing.assert_array_equal(decode_residual(payload, drifted), pixels)
    # Without the shift and the pixels sent as they are, the same drift would have done harm.
    if error >= 0.3:
        assert (np.round(drifted) != np.round(estimate.astype(float))).any()


def test_drift_above_the_margin_is_seen_by_the_crc():
    pixels, estimate = tile(1.0)
    payload, margin = encode_residual(pixels, estimate)
    crc = zlib.crc32(pixels.tobytes())
    for sign in (-1, 1):
        wrong = [
            decode_residual(payload, estimate + sign * factor * margin) for factor in (1.01, 30)
        ]
        # A drift of just the margin moves the nearest value over its boundary in one direction.
        assert (wrong[1] != pixels).any()
        for image in wrong:
            assert (zlib.crc32(image.tobytes()) == crc) == (image == pixels).all()
            assert np.abs(image.astype(int) - pixels).max() <= 1
    assert any(
        (decode_residual(payload, estimate + sign * 1.01 * margin) != pixels).any()
        for sign in (-1, 1)
    )


@pytest.mark.parametrize("tolerance", [0.0, 2.0**-12, 2.0**-6, 0.3, 1.0])
def test_tolerance_costs_values_sent_as_they_are(tolerance):
    pixels, estimate = tile(2.0)
    payload, margin = encode_residual(pixels, estimate, tolerance)
    assert margin >= tolerance
    expected = pixels.size * min(2 * tolerance, 1)
    n_literals = decode_varint(payload, 2)[0]
    assert 0.5 * expected - 1 <= n_literals <= expected
    np.testing.assert_array_equal(decode_residual(payload, estimate), pixels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, -0.5, 254.5, 255.0, 100.5])
@pytest.mark.parametrize("everywhere", [True, False])
def test_any_estimate_will_do(value, everywhere):
    pixels, estimate = tile(1.0, dtype=np.float64)
    estimate[(slice(None) if everywhere else slice(5, 7)), 3:] = value
    payload, _ = encode_residual(pixels, estimate)
    np.testing.assert_array_equal(decode_residual(payload, estimate), pixels)
    # Never much more than the pixels themselves: 512 symbols take at most 24 bits, and are chosen to fit.
    assert len(payload) < 1.3 * pixels.size + 40


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 3), (5, 3, 1)])
def test_small_and_single_channel(shape):
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    payload, _ = encode_residual(pixels, pixels + 0.25)
    np.testing.assert_array_equal(decode_residual(payload, pixels + 0.25), pixels)


def test_every_residual_can_be_coded():
    pixels = np.array([0, 255] * 256, np.uint8).reshape(16, 16, 2)
    estimate = np.where(pixels == 0, 255.0, 0.0)
    payload, _ = encode_residual(pixels, estimate)
    np.testing.assert_array_equal(decode_residual(payload, estimate), pixels)
    for n_literals in (0, 1, 511, 512):
        for scale_index in range(residual.N_SCALES):
            table = residual._table(scale_index, n_literals, 512)
            assert table.shape == (512,)
            assert table.min() >= 1
            assert table.sum() == 2**24


def test_tables_are_the_same_on_every_machine():
    scales = np.array([residual.scale(i) for i in range(residual.N_SCALES)])[:, np.newaxis]
    edges = (np.arange(257) - 0.5) / scales / np.sqrt(2)
    mass = -np.diff(np.vectorize(math.erfc)(edges), axis=1)
    mass /= 2 * mass.sum(axis=1, keepdims=True) - mass[:, :1]
    units = mass * 2**24
    masses = residual._masses()
    np.testing.assert_array_equal(masses[:, 255:], np.floor(units))
    np.testing.assert_array_equal(masses[:, :256], np.floor(units)[:, ::-1])
    # No value before rounding down is nearer than this to the next integer (and the largest is 2^24), so
    # whoever knows the normal distribution to 13 digits gets the same table.
    distance = np.abs(units - np.round(units))[np.round(units) >= 1]
    assert distance.min() > 1e-5
    assert zlib.crc32(masses.astype("<i4").tobytes()) == 2943239491


def slow_decode(payload, estimate):
    """docs/format.md in plain Python, apart from the table."""
    scale_index, offset_index = payload[0], payload[1]
    n_literals, start = decode_varint(payload, 2)
    literals = iter(payload[start : start + n_literals])
    table = residual._table(scale_index, n_literals, estimate.size).tolist()
    cumulative = [0, *itertools.accumulate(table)]
    tail = payload[start + n_literals :]
    data = itertools.chain(tail, itertools.repeat(0))

    def word():
        return int.from_bytes(bytes(itertools.islice(data, 4)), "big")

    point, width = word() << 32 | word(), 2**64 - 1
    pixels = []
    for value in estimate.ravel().tolist():
        unit = width >> 24
        symbol = bisect.bisect_right(cumulative, point // unit) - 1
        point, width = point - unit * cumulative[symbol], unit * table[symbol]
        if width < 1 << 32:
            point, width = point << 32 | word(), width << 32
        whole = int(np.floor(value + (offset_index - 8) / 256 + 0.5))
        rounded = min(max(whole, 0), 255)
        pixels.append(next(literals) if symbol == 0 else rounded + symbol - 256)
    return np.array(pixels, np.uint8).reshape(estimate.shape)


@pytest.mark.parametrize("error", [0.2, 1.0, 6.0, 60.0])
def test_a_decoder_written_from_the_format_agrees(error):
    pixels, estimate = tile(error, side=16)
    payload, _ = encode_residual(pixels, estimate)
    np.testing.assert_array_equal(slow_decode(payload, estimate), pixels)


def ideal_bits(pixels, estimate, error):
    """Bits for each value of the discretised likelihood, normalised over 0..255."""
    squares = (np.arange(256) - estimate.reshape(-1, 1).astype(float)) ** 2 / (2 * error**2)
    least = squares.min(axis=1)
    partition = np.exp(least[:, np.newaxis] - squares).sum(axis=1)
    own = squares[np.arange(pixels.size), pixels.ravel()]
    return np.mean(own - least + np.log(partition)) / np.log(2)


@pytest.mark.parametrize(
    ("error", "excess"), [(0.25, 0.16), (0.5, 0.23), (1.0, 0.087), (2.0, 0.045), (4.0, 0.032)]
)
def test_cost_beside_the_ideal(error, excess):
    costs = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(30, 226, (64, 64, 3), dtype=np.uint8)
        estimate = pixels + error * rng.standard_normal(pixels.shape)
        payload, _ = encode_residual(pixels, estimate, tolerance=2.0**-10)
        costs.append(8 * len(payload) / pixels.size - ideal_bits(pixels, estimate, error))
    assert 0 < np.mean(costs) < excess


def test_malformed_payloads():
    pixels, estimate = tile(1.0, side=8)
    payload, _ = encode_residual(pixels, estimate)
    malformed = [
        *(payload[:length] for length in (0, 1, 2, 3)),
        bytes([64]) + payload[1:],
        payload[:1] + bytes([16]) + payload[2:],
        payload[:2] + b"\xff\xff\xff\xff\x0f" + payload[3:],
        payload[:2] + b"\xff\xff\xff\xff\xff\xff" + payload[3:],
        payload[:2] + b"\xc1\x01" + payload[3:],
        payload + b"\1\2\3\4\5\6\7\x08",
        payload[: len(payload) // 2],
        payload[:5] + b"\xff" * len(payload),
    ]
    for data in malformed:
        with pytest.raises(InputError) as error:
            decode_residual(data, estimate)
        assert str(error.value) == "the lossless residual is damaged"


def test_mutated_payloads_are_refused_or_seen_by_the_crc():
    pixels, estimate = tile(1.0, side=16)
    payload, _ = encode_residual(pixels, estimate)
    crc = zlib.crc32(pixels.tobytes())
    rng = np.random.default_rng(0)
    outcomes = {"refused": 0, "seen": 0, "harmless": 0}
    for _ in range(2000):
        data = bytearray(payload)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(256)
        try:
            image = decode_residual(bytes(data[: rng.integers(1, 2 * len(data))]), estimate)
        except InputError:
            outcomes["refused"] += 1
            continue
        assert image.shape == pixels.shape
        same = (image == pixels).all()
        assert (zlib.crc32(image.tobytes()) == crc) == same
        outcomes["harmless" if same else "seen"] += 1
    assert outcomes["refused"] > 1000
    assert outcomes["seen"] > 0
