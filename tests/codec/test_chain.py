"""Sender and receiver of latents, with the exact denoiser of a Gaussian source."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.codec import noise_levels
from diffc_jax.codec.chain import CHECK_TOLERANCE, Chain, message_keys, standardised_mean
from diffc_jax.codec.container import Packet
from diffc_jax.codec.decoder import LatentDecoder
from diffc_jax.codec.encoder import TileEncoder, cut_packets
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
        self.keys = np.stack([np.arange(n_images), np.arange(n_images) + 7], 1).astype(np.uint32)

    def chain(self, memory, eps_hat=independent_eps_hat):
        return Chain(eps_hat, self.shape, GAMMA_RANGE, memory)

    def encoder(self, chain, end_gamma, batch_size):
        end = noise_levels.from_float(np.exp(-end_gamma))
        return TileEncoder(chain, self.variables, self.x, self.keys, end, batch_size)

    def decode(self, chain, packets, batch_size):
        decoder = LatentDecoder(chain, self.variables, self.keys, batch_size)
        decoder.advance(dict(enumerate(packets)))
        return decoder.latents()


@pytest.fixture(scope="module")
def source():
    return Source(16, N_TILES)


@pytest.fixture(scope="module")
def chain(source):
    return source.chain(memory=5)


@pytest.fixture(scope="module")
def encoder(source, chain):
    """Everything sent, down to the end."""
    encoder = source.encoder(chain, GAMMA_RANGE[0], BATCH)
    while not encoder.finished.all():
        encoder.advance(np.flatnonzero(~encoder.finished).tolist())
    return encoder


@pytest.fixture(scope="module")
def packets(encoder):
    return [[one.cut() for one in packets] for packets in encoder.packets]


def test_a_step_is_the_conditional_of_the_process(source):
    chain = source.chain(memory=5)
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


def test_latents_are_the_encoders(source, chain, encoder, packets):
    sent = np.stack([encoder.latent(tile) for tile in range(N_TILES)])
    found = source.decode(chain, packets, BATCH)
    np.testing.assert_array_equal(found.z, sent)
    assert found.snr.tolist() == [noise_levels.to_float(snr) for snr in encoder.snr]
    assert found.drift.tolist() == [0] * N_TILES
    found = source.decode(chain, packets, batch_size=2)
    np.testing.assert_allclose(found.z, sent, atol=1e-5)
    assert found.drift.max() <= CHECK_TOLERANCE


def test_latents_are_x_with_the_noise_of_their_level(source, chain, packets):
    for n_packets in (1, 3, len(packets[0])):
        found = source.decode(chain, [one[:n_packets] for one in packets], BATCH)
        alpha, sigma = (np.sqrt(s / (1 + found.snr)) for s in (found.snr, 1.0))
        noise = found.z - alpha[:, None, None, None] * source.x
        assert np.std(noise, axis=(1, 2, 3)) == pytest.approx(sigma, rel=0.08)


def test_packets_end_where_they_are_cut(source, chain, packets, encoder):
    n_steps = sum(len(packet.increments) for packet in packets[0])
    ends = (1, 9, 12, n_steps)
    cut = list(cut_packets(encoder.packets[0], ends))
    assert set(ends) <= set(np.cumsum([len(packet.increments) for packet in cut]).tolist())
    found = source.decode(chain, [cut, *packets[1:]], BATCH)
    np.testing.assert_array_equal(found.z[0], encoder.latent(0))
    assert found.drift.max() == 0


def test_the_noise_level_arrives(source, chain, encoder):
    """The last increment is rounded like any other: to half a sixteenth of an octave."""
    for one, end_gamma in ((encoder, GAMMA_RANGE[0]), (source.encoder(chain, 1.5, BATCH), 1.5)):
        while not one.finished.all():
            one.advance(np.flatnonzero(~one.finished).tolist())
        snr = np.array(list(map(noise_levels.to_float, one.snr)))
        np.testing.assert_allclose(snr, np.exp(-end_gamma), rtol=2 ** (1 / 32) - 1)
        for packets, end in zip(one.packets, snr, strict=True):
            codes = [code for packet in packets for code in packet.increments]
            last = noise_levels.to_float(noise_levels.increment(codes[-1]))
            assert end - last < np.exp(-end_gamma)
            assert len(packets[-1].paths) == len(packets[-1].increments)


def test_a_changed_path_bit_is_noticed(source, chain, packets):
    rng = np.random.default_rng(0)
    noticed = []
    for _ in range(8):
        damaged = []
        for tile in packets:
            first = tile[0]
            at = rng.integers(8 * len(first.paths))
            paths = bytearray(first.paths)
            paths[at // 8] ^= 1 << at % 8
            damaged.append([Packet(first.path_bits, first.increments, bytes(paths), first.check)])
        found = source.decode(chain, damaged, BATCH)
        noticed += (found.drift > CHECK_TOLERANCE).tolist()
    # A bit changes a few stages of the sample, and the check is one byte with a tolerance.
    assert np.mean(noticed) > 0.4
    swapped = [[other[0]] for other in (*packets[1:], packets[0])]
    assert np.mean(source.decode(chain, swapped, BATCH).drift > CHECK_TOLERANCE) >= 0.8


def test_drift_is_noticed_if_it_matters(source, encoder, packets):
    def decode(factor):
        def eps_hat(variables, z, gamma):
            return factor * independent_eps_hat(variables, z, gamma)

        found = source.decode(source.chain(5, eps_hat), packets, BATCH)
        sent = np.stack([encoder.latent(tile) for tile in range(N_TILES)])
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
    encoder = source.encoder(source.chain(memory=7), GAMMA_RANGE[0], 16)
    ratios = []
    for bits in (512, 1024):
        encoder.advance(range(16))
        assert {sum(8 * len(path) for p in one for path in p.paths) for one in encoder.packets} == {
            bits
        }
        squared_errors, ideal_errors, rates = [], [], []
        for tile, x in enumerate(source.x):
            noise = 1 / noise_levels.to_float(encoder.snr[tile])
            y = encoder.latent(tile).ravel() * np.sqrt(1 + noise)
            decoded = gaussian.flow_gain(variances, noise) * y
            squared_errors.append(np.sum((decoded - x.ravel()) ** 2))
            ideal_errors.append(gaussian.distortions_flow(variances, noise).sum())
            rates.append(bits / gaussian.rates(variances, noise).sum())
        ratios.append((np.mean(rates), np.sum(squared_errors) / np.sum(ideal_errors)))
    for (rate, distortion), most in zip(ratios, (1.3, 1.25), strict=True):
        assert 1.0 < rate < most
        assert distortion == pytest.approx(1.0, abs=0.02)
