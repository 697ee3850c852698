"""One update: the gradients are those of what each parameter is said to minimise."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from diffc_jax import rng
from diffc_jax.config import base_config
from diffc_jax.diffusion import elbo
from diffc_jax.diffusion.schedules import build_schedule, gamma_and_slope
from diffc_jax.diffusion.weighting import loss_weight
from diffc_jax.models import Model
from diffc_jax.runtime.sharding import put_batch
from diffc_jax.training import state as state_lib
from diffc_jax.training.experiment import build_experiment
from diffc_jax.training.step import loss_and_gradients, make_train_step

SHAPE = (2, 2, 3)


def scalar_model():
    """eps_hat = w z tanh(gamma): one weight, and a dependence on gamma for the schedule to feel."""

    def eps_hat(variables, z, gamma):
        return variables["params"]["w"] * z * jnp.tanh(gamma / 4.0).reshape(-1, 1, 1, 1)

    return Model(
        name="scalar",
        init=lambda key, statistics: {"params": {"w": jnp.asarray(0.4)}},
        eps_hat=eps_hat,
        train_eps_hat=lambda variables, z, gamma, key: eps_hat(variables, z, gamma),
    )


def setup(name):
    model, schedule = scalar_model(), build_schedule(name, -8.0, 4.0)
    params = {
        "model": model.init(jax.random.key(0), None)["params"],
        "schedule": schedule.init(jax.random.key(1)),
    }
    return model, schedule, params


def diffusion_terms(model, schedule, params, pixels, key):
    """Per-image diffusion terms in bits/dim, written again from the formula."""
    time_key, noise_key, _, _ = jax.random.split(key, 4)
    x = (2.0 * pixels.astype(jnp.float32) + 1.0) / 256.0 - 1.0
    times = elbo.stratified_times(time_key, len(x))
    eps = jax.random.normal(noise_key, x.shape)
    gamma, slope = gamma_and_slope(schedule, params["schedule"], times)
    shaped = gamma.reshape(-1, 1, 1, 1)
    z = jnp.sqrt(jax.nn.sigmoid(-shaped)) * x + jnp.sqrt(jax.nn.sigmoid(shaped)) * eps
    error = eps - model.eps_hat({"params": params["model"]}, z, gamma)
    return 0.5 * slope * jnp.sum(error**2, axis=(1, 2, 3)) / np.log(2) / np.prod(SHAPE)


@pytest.mark.parametrize("name", ["linear", "learned_linear", "learned_network"])
def test_network_minimises_the_bound(pixels, name):
    model, schedule, params = setup(name)
    key = jax.random.key(2)
    metrics, grads = loss_and_gradients(model, schedule, params, {}, pixels, key)
    value, expected = jax.value_and_grad(
        lambda p: diffusion_terms(model, schedule, params | {"model": p}, pixels, key).mean()
    )(params["model"])
    np.testing.assert_allclose(metrics["diffusion"], value, rtol=1e-5)
    np.testing.assert_allclose(grads["model"]["w"], expected["w"], rtol=1e-4)
    parts = metrics["prior"] + metrics["diffusion"] + metrics["reconstruction"]
    np.testing.assert_allclose(metrics["loss"], parts, rtol=1e-6)


def test_shape_of_the_schedule_minimises_the_variance(pixels):
    model, schedule, params = setup("learned_network")
    key = jax.random.key(3)
    _, grads = loss_and_gradients(model, schedule, params, {}, pixels, key)
    expected = jax.grad(
        lambda p: (
            diffusion_terms(model, schedule, params | {"schedule": p}, pixels, key) ** 2
        ).mean()
    )(params["schedule"])
    for name in ("linear", "in_scale", "in_shift", "out_scale"):
        np.testing.assert_allclose(
            grads["schedule"][name], expected[name], rtol=2e-3, atol=1e-5, err_msg=name
        )


def test_ends_of_the_schedule_minimise_the_whole_bound(pixels):
    model, schedule, params = setup("learned_linear")
    key = jax.random.key(4)
    _, grads = loss_and_gradients(model, schedule, params, {}, pixels, key)

    def whole(start):
        moved = params | {"schedule": params["schedule"] | {"start": start}}
        return loss_and_gradients(model, schedule, moved, {}, pixels, key)[0]["loss"]

    start, step = params["schedule"]["start"], 0.02
    secant = (whole(start + step) - whole(start - step)) / (2 * step)
    np.testing.assert_allclose(grads["schedule"]["start"], secant, rtol=2e-2)


def test_training_lowers_the_loss(pixels):
    model, schedule, _ = setup("learned_network")
    optimizer = optax.adam(3e-2)
    state = state_lib.init_state(model, schedule, optimizer, 0, None)
    step = jax.jit(make_train_step(model, schedule, optimizer, 0.99, seed=0))
    losses = []
    for _ in range(60):
        state, metrics = step(state, pixels)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])
    assert int(state.step) == 60


def test_average_starts_quickly_and_then_follows_its_decay():
    old, new = {"w": jnp.asarray(1.0)}, {"w": jnp.asarray(2.0)}
    for step, weight_of_new in ((0, 0.9), (8, 0.5), (10**6, 0.001)):
        moved = state_lib.update_ema(old, new, jnp.asarray(step), decay=0.999)
        assert float(moved["w"]) == pytest.approx(1.0 + weight_of_new, rel=1e-4)


def test_noise_of_a_step_depends_on_the_step_and_the_seed(pixels):
    model, schedule, _ = setup("linear")
    optimizer = optax.sgd(0.0)
    state = state_lib.init_state(model, schedule, optimizer, 0, None)

    def losses(seed):
        current, found = state, []
        for _ in range(2):
            current, metrics = make_train_step(model, schedule, optimizer, 0.9, seed)(
                current, pixels
            )
            found.append(float(metrics["loss"]))
        return found

    assert losses(0) == losses(0)
    assert len({*losses(0), *losses(1)}) == 4


def test_random_streams_are_stable_between_versions_and_processes():
    """Golden values: a change here would change the noise of every experiment."""
    assert rng.name_hash("sweep/chain") == 0x5DA77DD0
    assert rng.numpy_seed(1, "a") == 2762018131


@pytest.mark.parametrize("accumulation_steps", [1, 4])
def test_weight_is_that_of_the_noise_level_of_each_image(pixels, accumulation_steps):
    model, schedule, params = setup("linear")
    key = jax.random.key(2)
    arguments = model, schedule, params, {}, pixels, key, accumulation_steps
    plain, plain_grads = loss_and_gradients(*arguments)
    metrics, grads = loss_and_gradients(*arguments, low_rate_emphasis=0.7)
    times = elbo.stratified_times(jax.random.split(key, 4)[0], len(pixels))
    weights = np.cosh(0.5 * (-8.0 + 12.0 * np.asarray(times))) ** -0.7
    expected = jax.grad(
        lambda p: (
            weights * diffusion_terms(model, schedule, params | {"model": p}, pixels, key)
        ).mean()
    )(params["model"])
    np.testing.assert_allclose(grads["model"]["w"], expected["w"], rtol=1e-4)
    assert abs(grads["model"]["w"] / plain_grads["model"]["w"] - 1.0) > 0.1
    assert metrics == plain


def test_emphasis_of_the_config_reaches_the_update():
    config = base_config()
    config.data.image_size = config.data.train.max_images = config.train.batch_size = 8
    config.model = ConfigDict({"name": "unet", "patch": 4, "widths": (8,), "blocks": (1,)})
    config.model.heads = 1
    measured = []
    for emphasis in (0.0, 0.5):
        config.train.low_rate_emphasis = emphasis
        experiment = build_experiment(config)
        source = experiment.open_source("train")
        images = np.stack([source[i] for i in range(8)])
        pixels = put_batch(experiment.mesh, {"image": images})["image"]
        measured.append(experiment.train_step(1)(experiment.fresh_state(source), pixels)[1])
    plain, weighted = measured
    assert weighted["loss"] == pytest.approx(float(plain["loss"]), rel=1e-6)
    # No image has a weight above 1.
    assert 0 < weighted["grad_norm"] < 0.9 * plain["grad_norm"]


def test_full_emphasis_is_the_density_of_the_cosine_schedule():
    """gamma(t) = 2 log tan(pi t / 2) at uniform t; the density by differences of the times."""
    gamma = np.linspace(-6.0, 6.0, 13)
    step = 1e-3
    ends = [2.0 / np.pi * np.arctan(np.exp(0.5 * (gamma + d))) for d in (-step, step)]
    density = (ends[1] - ends[0]) / (2.0 * step)
    weights = np.asarray(loss_weight(jnp.asarray(gamma), 1.0))
    np.testing.assert_allclose(weights / (2.0 * np.pi), density, rtol=1e-5)
