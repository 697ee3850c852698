"""Sender and receiver of latents, with the exact denoiser of a Gaussian source."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.codec.chain import Chain, message_keys, standardised_mean
from diffc_jax.codec.codebooks import OpenCodebook
from diffc_jax.codec.container import parse, write_stream
from diffc_jax.codec.decoder import LatentDecoder
from diffc_jax.codec.header import CHECK_BITS
from diffc_jax.codec.stream import CHECK_TOLERANCE, Header, snr_from_float, snr_to_float
from diffc_jax.codec.tile_encoder import TileEncoder
from diffc_jax.diffusion import process
from diffc_jax.models.gaussian import independent_eps_hat
from diffc_jax.theory import gaussian

GAMMA_RANGE = (-9.0, 9.0)
N_TILES = 5
BATCH = 3


class Source:
    """Gaussian images whose eigenvalues fall like a power of their number, 0.25 on average."""

    def __init__(self, side, n_images):
        size = 3 * side**2
        values = np.arange(1, size + 1) ** -1.2
        self.variances = 0.25 * size * values / values.sum()
        self.shape = (side, side, 3)
        x = np.random.default_rng(0).normal(size=(n_images, size)) * np.sqrt(self.variances)
        self.x = x.reshape(n_images, *self.shape).astype(np.float32)
        variances = jnp.asarray(self.variances.reshape(self.shape), jnp.float32)
        self.variables = {"fixed": {"variances": variances}}
        self.keys = np.stack([np.arange(n_images) + 7, np.zeros(n_images)], 1).astype(np.uint32)

    def chain(self, memory, eps_hat=independent_eps_hat):
        codebook = OpenCodebook(int(np.prod(self.shape)), memory)
        return Chain(eps_hat, self.shape, GAMMA_RANGE, memory, codebook)

    def encoder(self, chain, end_gamma, batch_size):
        end = snr_from_float(np.exp(-end_gamma))
        return TileEncoder(chain, self.variables, self.x, self.keys, end, batch_size)

    def decode(self, chain, steps, batch_size):
        decoder = LatentDecoder(chain, self.variables, self.keys, batch_size, CHECK_BITS)
        decoder.advance(dict(enumerate(steps)))
        return decoder.latents()

    def parsed(self, chain, encoder, tile, n_steps=None):
        """The steps of a tile as a file says them, the last one with a check."""
        seed, number = self.keys[tile].tolist()
        assert number == 0
        side = self.shape[0]
        header = Header(side, side, side, chain.memory, seed, b"ab")
        stream = parse(write_stream(header, encoder.steps[tile][:n_steps]))
        assert stream.problem is None
        return stream.steps()[0]


@pytest.fixture(scope="module")
def source():
    return Source(16, N_TILES)


@pytest.fixture(scope="module")
def chain(source):
    return source.chain(memory=8)


def send_all(encoder):
    while behind := [tile for tile in range(N_TILES) if not encoder.finished(tile)]:
        encoder.advance(behind)
    return encoder


@pytest.fixture(scope="module")
def encoder(source, chain):
    """Everything sent, down to the end."""
    return send_all(source.encoder(chain, GAMMA_RANGE[0], BATCH))


@pytest.fixture(scope="module")
def steps(source, chain, encoder):
    return [source.parsed(chain, encoder, tile) for tile in range(N_TILES)]


def test_a_step_is_the_conditional_of_the_process(source):
    chain = source.chain(memory=8)
    keys = jax.random.split(jax.random.key(0), 4)
    n = N_TILES
    snr = np.array([1e-4, 0.02, 0.7, 30.0, 2e3])
    delta = snr * np.array([30.0, 0.1, 1.0, 0.01, 2.0])
    gamma_t, gamma_s = (jnp.asarray(-np.log(s), jnp.float32) for s in (snr, snr + delta))
    x, z, x_hat = (jax.random.normal(key, (n, *source.shape)) for key in keys[:3])
    noise = jax.random.normal(keys[3], (n, x[0].size))
    message = message_keys(source.keys, np.arange(n))
    mu = standardised_mean(x, x_hat, delta.astype(np.float32))

    def expected(about_x):
        eps = process.eps_from_x(z, about_x, gamma_t)
        mean, std = process.conditional(z, eps, gamma_t, gamma_s)
        return mean + std * noise.reshape(z.shape)

    sent, _ = chain.step(message, z, x_hat, mu + noise, snr, delta)
    np.testing.assert_allclose(sent, expected(x), rtol=1e-3, atol=3e-4)
    drawn, _ = chain.step(message, z, x_hat, noise, snr, delta)
    np.testing.assert_allclose(drawn, expected(x_hat), rtol=1e-3, atol=3e-4)


def test_the_first_step_begins_with_nothing(source, chain):
    """At SNR 0 the latent has no weight: the step is the prior's."""
    z = chain.start(source.keys)
    assert abs(np.mean(z)) < 0.05
    assert np.std(z) == pytest.approx(1.0, abs=0.03)
    assert len(np.unique(z)) > 0.99 * z.size
    delta = np.full(N_TILES, 0.5)
    keys = message_keys(source.keys, np.zeros(N_TILES, int))
    x = jnp.asarray(source.x)
    mu = standardised_mean(x, 0 * x, delta.astype(np.float32))
    after, _ = chain.step(keys, z, 0 * x, mu, np.zeros(N_TILES), delta)
    np.testing.assert_allclose(after, source.x * np.sqrt(0.5 / 1.5), rtol=1e-5, atol=1e-7)


def test_latents_are_the_encoders(source, chain, encoder, steps):
    sent = np.stack([encoder.z[tile] for tile in range(N_TILES)])
    found = source.decode(chain, steps, BATCH)
    np.testing.assert_array_equal(found.z, sent)
    assert found.snr.tolist() == [snr_to_float(one.snr) for one in encoder.sizes]
    assert found.drift.tolist() == [0] * N_TILES
    found = source.decode(chain, steps, batch_size=2)
    np.testing.assert_allclose(found.z, sent, atol=1e-5)
    assert found.drift.max() <= CHECK_TOLERANCE


def test_latents_are_x_with_the_noise_of_their_level(source, chain, steps):
    for n_steps in (6, 20, len(steps[0])):
        found = source.decode(chain, [one[:n_steps] for one in steps], BATCH)
        alpha, sigma = (np.sqrt(s / (1 + found.snr)) for s in (found.snr, 1.0))
        noise = found.z - alpha[:, None, None, None] * source.x
        assert np.std(noise, axis=(1, 2, 3)) == pytest.approx(sigma, rel=0.1)


def test_files_may_end_after_any_step(source, chain, encoder, steps):
    for n_steps in (1, 2, 9, len(steps[0])):
        parsed = source.parsed(chain, encoder, 0, n_steps)
        assert len(parsed) == n_steps
        assert parsed[-1].check is not None
        found = source.decode(chain, [parsed, *[one[:1] for one in steps[1:]]], BATCH)
        assert found.drift[0] == 0
    np.testing.assert_array_equal(found.z[0], encoder.z[0])


@pytest.mark.parametrize("end_gamma", [GAMMA_RANGE[0], 1.5])
def test_the_noise_level_arrives(source, chain, encoder, end_gamma):
    """As near as an eighth of an octave of the last step leads."""
    one = encoder if end_gamma == GAMMA_RANGE[0] else source.encoder(chain, end_gamma, BATCH)
    send_all(one)
    for sizes, choices in zip(one.sizes, one.choices, strict=True):
        missing = np.exp(-end_gamma) - snr_to_float(sizes.snr)
        last = snr_to_float(choices[-1].offer.delta)
        # Half a sixteenth of an octave of the last step, or less than the smallest of the planned steps.
        assert abs(missing) < max(0.05 * last, snr_to_float(sizes.offer().delta) / 8)
        assert all(choice.sizes == () for choice in choices[:-2])


def test_undone_steps_leave_nothing_behind(source, chain):
    first, second = (source.encoder(chain, GAMMA_RANGE[0], BATCH) for _ in range(2))
    for _ in range(3):
        first.advance(range(N_TILES))
        second.advance(range(N_TILES))
    second.undo(1)
    assert len(second.steps[1]) == len(second.choices[1]) == 2
    second.advance([1])
    assert first.steps == second.steps
    np.testing.assert_allclose(first.z[1], second.z[1], atol=1e-6)


def test_a_changed_path_bit_is_noticed(source, chain, encoder):
    rng = np.random.default_rng(0)
    noticed = []
    sent = [source.parsed(chain, encoder, tile, 8) for tile in range(N_TILES)]
    for _ in range(12):
        damaged = []
        for tile in sent:
            at = rng.integers(tile[0].path_bits)
            path = bytearray(tile[0].path)
            path[at // 8] ^= 128 >> at % 8
            damaged.append([dataclasses.replace(tile[0], path=bytes(path)), *tile[1:]])
        found = source.decode(chain, damaged, BATCH)
        noticed += (found.drift > CHECK_TOLERANCE).tolist()
    # A bit changes a few stages of the sample, and the check has four bits with a tolerance.
    assert np.mean(noticed) > 0.4
    swapped = [*sent[1:], sent[0]]
    found = source.decode(
        chain, [[*one[:-1], s[-1]] for one, s in zip(swapped, sent, strict=True)], BATCH
    )
    assert np.mean(found.drift > CHECK_TOLERANCE) >= 0.6


def test_drift_is_noticed_if_it_matters(source, encoder, steps):
    def decode(factor):
        def eps_hat(variables, z, gamma):
            return factor * independent_eps_hat(variables, z, gamma)

        found = source.decode(source.chain(8, eps_hat), steps, BATCH)
        sent = np.stack([encoder.z[tile] for tile in range(N_TILES)])
        noise = 1 / np.sqrt(1 + found.snr).mean()
        return found.drift.max(), np.sqrt(np.mean((found.z - sent) ** 2)) / noise

    drift, harm = decode(1 + 1e-6)
    assert drift <= CHECK_TOLERANCE
    assert harm < 0.01
    drift, harm = decode(1.0002)
    assert drift > CHECK_TOLERANCE
    assert 0.1 < harm < 0.3


def test_rate_and_distortion_are_near_the_closed_form():
    """Small images and a small trellis cost some 10 %; benchmarks/codec_gaussian.py is the real thing."""
    source = Source(32, 16)
    variances = source.variances
    encoder = source.encoder(source.chain(memory=8), GAMMA_RANGE[0], 16)
    ratios = []
    for n_steps in (9, 7):
        for _ in range(n_steps):
            encoder.advance(range(16))
        squared_errors, ideal_errors, bits, rates = [], [], [], []
        for tile, x in enumerate(source.x):
            noise = 1 / snr_to_float(encoder.sizes[tile].snr)
            y = encoder.z[tile].ravel() * np.sqrt(1 + noise)
            decoded = gaussian.flow_gain(variances, noise) * y
            squared_errors.append(np.sum((decoded - x.ravel()) ** 2))
            ideal_errors.append(gaussian.distortions_flow(variances, noise).sum())
            bits.append(sum(one.bits for one in encoder.choices[tile]))
            rates.append(gaussian.rates(variances, noise).sum())
        ratios.append((np.sum(bits) / np.sum(rates), np.sum(squared_errors) / np.sum(ideal_errors)))
    for (rate, distortion), most in zip(ratios, (1.37, 1.3), strict=True):
        assert 1.0 < rate < most
        assert distortion == pytest.approx(1.0, abs=0.03)
