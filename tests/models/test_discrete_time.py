"""Times, noise levels, pixels and predictions of networks of discrete-time diffusion."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.diffusion import process
from diffc_jax.errors import UsageError
from diffc_jax.models.discrete_time import (
    BETAS,
    PREDICTIONS,
    discrete_time_model,
    eps_from_output,
    index_at,
    index_gammas,
    time_embedding,
    to_their_pixels,
)
from tests.support.refusals import fails

START, END = 1e-4, 0.02


def betas(name, steps):
    """As their definitions say, one after the other."""
    for i in range(steps):
        part = i / (steps - 1)
        if name == "linear":
            yield START + (END - START) * part
        if name == "scaled_linear":
            yield (START**0.5 + (END**0.5 - START**0.5) * part) ** 2
        if name == "sigmoid":
            yield START + (END - START) / (1 + np.exp(6 - 12 * part))
        if name == "cosine":
            before, after = (
                np.cos((t / steps + 0.008) / 1.008 * np.pi / 2) ** 2 for t in (i, i + 1)
            )
            yield min(1 - after / before, 0.999)


@pytest.mark.parametrize("name", BETAS)
def test_noise_levels_are_running_products(name):
    steps = 1000
    signal = np.cumprod([1 - beta for beta in betas(name, steps)])
    gammas = index_gammas(name, steps, START, END)
    np.testing.assert_allclose(gammas, np.log((1 - signal) / signal), rtol=0, atol=1e-8)
    found = index_at(jnp.asarray(gammas, jnp.float32), gammas)
    np.testing.assert_allclose(found, np.arange(steps), rtol=0, atol=2e-3)


def test_linear_betas_span_the_range_of_the_configs():
    gammas = index_gammas("linear", 1000, START, END)
    np.testing.assert_allclose(gammas[[0, 1, -1]], [-9.2102, -8.4221, 10.1177], atol=1e-4)
    index = index_at(jnp.array([-40.0, (-9.21024 - 8.42208) / 2, 40.0]), gammas)
    np.testing.assert_allclose(index, [0.0, 0.5, 999.0], atol=1e-4)


def test_pixels_become_theirs_with_the_same_noise():
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (5, 4, 4, 3))
    eps = jnp.asarray(rng.standard_normal(pixels.shape), jnp.float32)
    gamma = jnp.array([-11.5, -6.0, 0.0, 3.0, 8.0])
    z = process.diffuse(process.pixels_to_unit(jnp.asarray(pixels)), eps, gamma)
    found, theirs = to_their_pixels(z, gamma)
    y = jnp.asarray(pixels / 127.5 - 1.0, jnp.float32)
    np.testing.assert_allclose(found, process.diffuse(y, eps, theirs), rtol=0, atol=2e-6)


class Told(nn.Module):
    """A network that answers what it is given: its image, its time, and noise about both."""

    @nn.compact
    def __call__(self, y, time):
        outputs = y * self.param("scale", nn.initializers.ones, ()) + time.reshape(-1, 1, 1, 1)
        return jnp.concatenate([outputs, jnp.full_like(y, jnp.nan)], axis=-1)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("centred", [False, True])
def test_a_model_asks_its_network_about_its_own_pixels_and_time(prediction, centred):
    """The outputs for variances, here NaN, are not used."""
    model = discrete_time_model(
        "told", Told(), (4, 4, 3), lambda gamma: 10.0 * gamma, prediction, centred
    )
    z = jnp.asarray(np.random.default_rng(4).standard_normal((2, 4, 4, 3)), jnp.float32)
    gamma = jnp.array([-3.0, 1.0])
    found = model.eps_hat(model.init(jax.random.key(0), None), z, gamma)
    y, theirs = to_their_pixels(z, gamma)
    answer = (2.0 * y - 1.0 if centred else y) + 10.0 * theirs.reshape(2, 1, 1, 1)
    expected = eps_from_output(prediction, answer, y, theirs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_of_the_truth_gives_the_noise(prediction):
    rng = np.random.default_rng(3)
    x, eps = (jnp.asarray(rng.standard_normal((3, 4, 4, 3)), jnp.float32) for _ in range(2))
    gamma = jnp.array([-4.0, 0.0, 4.0])
    alpha, sigma = (one.reshape(3, 1, 1, 1) for one in (process.alpha(gamma), process.sigma(gamma)))
    truth = {"eps": eps, "x": x, "v": alpha * eps - sigma * x}
    noisy = alpha * x + sigma * eps
    found = eps_from_output(prediction, truth[prediction], noisy, gamma)
    np.testing.assert_allclose(found, eps, rtol=0, atol=1e-5)


def test_cosines_or_sines_come_first():
    embedding = time_embedding(jnp.array([0.0, 2.0]), 4)
    angles = [2.0, 0.02]
    np.testing.assert_allclose(embedding[0], [1, 1, 0, 0])
    np.testing.assert_allclose(embedding[1], [*np.cos(angles), *np.sin(angles)], rtol=1e-6)
    embedding = time_embedding(jnp.array([2.0]), 4, sines_first=True, shift=1)[0]
    angles = [2.0, 2e-4]
    np.testing.assert_allclose(embedding, [*np.sin(angles), *np.cos(angles)], rtol=1e-5)


def test_bad_schedules_are_named():
    known = "linear, scaled_linear, cosine, sigmoid"
    fails(
        UsageError,
        f"model.betas: unknown 'laplace'; choose one of {known}",
        lambda: index_gammas("laplace", 10, START, END),
    )
    fails(
        UsageError,
        "model.beta_end: 1.0 is not inside (0, 1)",
        lambda: index_gammas("linear", 10, START, 1.0),
    )
