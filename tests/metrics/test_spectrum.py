"""Radial power spectra against the full Fourier transform, white noise and single waves."""

import numpy as np
import pytest

from diffc_jax.metrics.spectrum import coefficients, frequencies, radial_power


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (12, 8)])
def test_power_is_the_mean_over_rings_of_the_full_transform(shape):
    images = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), dtype=np.uint8)
    full = np.abs(np.fft.fft2(images.astype(float), axes=(1, 2))) ** 2 / np.prod(shape)
    radius = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, shape), indexing="ij")) * min(shape)
    found = radial_power(coefficients(images), shape[1])
    assert found.shape == (3, len(frequencies(*shape)))
    for ring in range(found.shape[1]):
        expected = full[:, np.rint(radius) == ring].mean((1, 2))
        np.testing.assert_allclose(found[:, ring], expected, rtol=1e-4, atol=0.1)


def test_white_noise_has_its_variance_at_all_frequencies():
    noise = np.random.default_rng(1).normal(128, 20, (50, 32, 32, 3))
    images = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
    power = radial_power(coefficients(images), 32).mean(0)
    np.testing.assert_allclose(power[2:], images.var(), rtol=0.15)
    assert power[2:].mean() == pytest.approx(images.var(), rel=0.02)


def test_a_wave_is_at_its_frequency():
    wave = np.rint(128 + 50 * np.cos(2 * np.pi * np.arange(16) * 3 / 16)).astype(np.uint8)
    images = np.broadcast_to(wave[None, None, :, None], (1, 16, 16, 3))
    (power,) = radial_power(coefficients(images), 16)
    np.testing.assert_allclose(frequencies(16, 16), np.arange(9) / 16)
    assert power[1:].argmax() + 1 == 3
    assert power[3] > 100 * power[[1, 2, 4, 5, 6, 7, 8]].max()


def test_power_of_an_error_is_that_of_the_difference():
    generator = np.random.default_rng(2)
    a = generator.integers(0, 200, (2, 8, 8, 3), dtype=np.uint8)
    b = a + generator.integers(0, 50, a.shape, dtype=np.uint8)
    error = radial_power(coefficients(b) - coefficients(a), 8)
    np.testing.assert_allclose(error, radial_power(coefficients(b - a), 8), rtol=1e-4, atol=0.1)
