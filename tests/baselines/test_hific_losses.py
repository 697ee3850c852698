"""HiFiC's losses and its two stages of training: terms, weights, and which network learns when."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from diffc_jax.baselines.hific import losses
from diffc_jax.baselines.hific.config import HificArchitecture
from diffc_jax.baselines.hific.losses import LossWeights, RateTarget
from diffc_jax.baselines.hific.model import Hific
from diffc_jax.baselines.hific.task import Optimizers, init_state, make_train_step
from diffc_jax.errors import UsageError


@pytest.mark.parametrize(
    ("bpp", "step", "expected"),
    [
        (0.31, 100, 1.0),
        (0.29, 100, 2.0**-6),
        (0.30, 100, 2.0**-6),
        (0.42, 99, 2.0**-7),
        (0.44, 99, 0.5),
        (0.44, 0, 0.5),
    ],
)
def test_rate_weight_switches_at_the_target(bpp, step, expected):
    target = RateTarget(0.30, weight_above=1.0, early_steps=100)
    assert target.weight(jnp.float32(bpp), step) == expected
    assert target.weight(jnp.float32(bpp), jnp.int32(step)) == expected


def test_weights_of_the_paper():
    assert dataclasses.astuple(losses.SECOND_STAGE) == (0.075 / 32, 1.0, 0.15)
    assert dataclasses.astuple(losses.FIRST_STAGE) == (0.075 / 32, 1.0, 0.0)
    assert dataclasses.astuple(losses.HYPERPRIOR) == (0.075 / 32, 0.0, 0.0)
    assert dataclasses.astuple(RateTarget(0.14)) == (0.14, 2.0, 2.0**-6, 50_000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target_bpp": 0.0}, "target_bpp: 0.0 must be positive and finite"),
        ({"target_bpp": float("inf")}, "target_bpp: inf must be positive and finite"),
        (
            {"target_bpp": 1.0, "weight_above": 0.01},
            "weight_below: 0.015625 must be positive and less than weight_above, 0.01",
        ),
        ({"target_bpp": 1.0, "early_steps": -1}, "early_steps: -1 must not be negative"),
    ],
)
def test_targets_are_checked(fields, message):
    with pytest.raises(UsageError) as error:
        RateTarget(**fields)
    assert str(error.value) == message


def mean_square(x, y):
    return jnp.square(x - y).mean(axis=(1, 2, 3))


def test_terms_of_the_loss():
    images = jnp.full((2, 4, 4, 3), 0.5)
    reconstructions = images + 0.1
    logits = jnp.array([[0.0, 1.0], [2.0, -1.0]])
    loss, terms = losses.autoencoder_loss(
        LossWeights(mse=0.01, lpips=3.0, gan=0.2),
        jnp.float32(0.7),
        jnp.float32(1.5),
        images,
        reconstructions,
        mean_square,
        logits,
    )
    gan = -np.log(1 / (1 + np.exp(-np.asarray(logits)))).mean()
    np.testing.assert_allclose(terms["mse"], 25.5**2, rtol=1e-5)
    np.testing.assert_allclose(terms["lpips"], 0.04, rtol=1e-5)
    np.testing.assert_allclose(terms["gan"], gan, rtol=1e-6)
    expected = 0.7 * 1.5 + 0.01 * 25.5**2 + 3.0 * 0.04 + 0.2 * gan
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_terms_of_weight_zero_are_not_computed():
    images = jnp.zeros((1, 2, 2, 3))
    zero = jnp.float32(0.0)
    _, terms = losses.autoencoder_loss(losses.HYPERPRIOR, zero, zero, images, images)
    assert set(terms) == {"mse"}


def test_discriminator_loss():
    zeros = jnp.zeros((3, 2))
    np.testing.assert_allclose(losses.discriminator_loss(zeros, zeros), 2 * np.log(2), rtol=1e-6)
    of_real, of_fake = jax.grad(losses.discriminator_loss, argnums=(0, 1))(zeros, zeros)
    assert (of_real < 0).all()
    assert (of_fake > 0).all()
    assert losses.discriminator_loss(zeros + 9, zeros - 9) < 1e-3


MODEL = Hific(
    HificArchitecture(
        downsamplings=3,
        base_channels=2,
        latent_channels=6,
        hyper_channels=4,
        residual_blocks=1,
        discriminator_channels=2,
    )
)
OPTIMIZERS = Optimizers(optax.adam(3e-3), optax.adam(3e-3))
TARGET = RateTarget(1.0, early_steps=0)


@pytest.fixture(scope="module")
def pixels():
    blocks = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def second_stage():
    """A fresh state and a compiled update with discriminator."""
    step = make_train_step(MODEL, TARGET, losses.SECOND_STAGE, OPTIMIZERS, 0, mean_square)
    with jax.default_prng_impl("rbg"):  # Compiles in a fifth of the time.
        state = jax.jit(lambda: init_state(MODEL, OPTIMIZERS, seed=0, adversarial=True))()
    return state, jax.jit(step)


@pytest.fixture(scope="module")
def first_stage(second_stage):
    """The same state, and a compiled update without discriminator."""
    step = make_train_step(MODEL, TARGET, losses.FIRST_STAGE, OPTIMIZERS, 0, mean_square)
    return second_stage[0], jax.jit(step)


def test_first_stage_learns(first_stage, pixels):
    state, step = first_stage
    values = []
    for _ in range(25):
        state, metrics = step(state, pixels)
        values.append(float(metrics["mse"]))
    assert set(metrics) == {
        *("loss", "bpp", "noisy_bpp", "rate_weight", "mse", "lpips", "grad_norm"),
    }
    assert all(np.isfinite(value) for value in metrics.values())
    assert values[-1] < 0.8 * values[0]
    assert state.step == 25


def test_loss_is_the_sum_of_its_terms(first_stage, pixels):
    state, step = first_stage
    _, metrics = step(state, pixels)
    expected = (
        metrics["rate_weight"] * metrics["noisy_bpp"]
        + losses.FIRST_STAGE.mse * metrics["mse"]
        + losses.FIRST_STAGE.lpips * metrics["lpips"]
    )
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)


def test_updates_repeat(first_stage, pixels):
    state, step = first_stage
    once, again = step(state, pixels)[0], step(state, pixels)[0]
    jax.tree.map(np.testing.assert_array_equal, once, again)
    later = step(dataclasses.replace(state, step=state.step + 1), pixels)[1]
    assert later["noisy_bpp"] != step(state, pixels)[1]["noisy_bpp"]


def test_first_stage_leaves_the_discriminator_alone(first_stage, pixels):
    state, step = first_stage
    moved, _ = step(state, pixels)
    for part in ("params", "opt_state"):
        old, new = getattr(state, part), getattr(moved, part)
        jax.tree.map(np.testing.assert_array_equal, old["discriminator"], new["discriminator"])
    assert optax.tree.get(moved.opt_state["autoencoder"], "count") == 1


def test_squared_error_is_compared_with_that_before_the_discriminator(
    first_stage, second_stage, pixels
):
    state, step = first_stage
    assert np.isinf(state.plain_mse)
    errors = []
    for _ in range(3):
        state, metrics = step(state, pixels)
        errors.append(float(metrics["mse"]))
    assert min(errors) < state.plain_mse < max(errors)
    moved, metrics = second_stage[1](state, pixels)
    np.testing.assert_allclose(
        metrics["mse_over_plain"], metrics["mse"] / state.plain_mse, rtol=1e-6
    )
    assert moved.plain_mse == state.plain_mse


def test_plain_networks_have_no_discriminator(pixels):
    step = make_train_step(MODEL, TARGET, losses.HYPERPRIOR, OPTIMIZERS, 0)
    state = jax.eval_shape(lambda: init_state(MODEL, OPTIMIZERS, seed=0, adversarial=False))
    assert not jax.tree.leaves((state.params["discriminator"], state.spectral))
    _, metrics = jax.eval_shape(step, state, pixels)
    assert not metrics.keys() & {"lpips", "gan", "discriminator_loss"}


def test_second_stage_moves_both_networks(second_stage, pixels):
    state, step = second_stage
    moved, metrics = step(state, pixels)
    assert metrics.keys() >= {"gan", "discriminator_loss"}
    assert all(np.isfinite(value) for value in metrics.values())
    for name in ("autoencoder", "discriminator"):
        changes = jax.tree.map(
            lambda old, new: float(np.abs(new - old).max()), state.params[name], moved.params[name]
        )
        assert max(jax.tree.leaves(changes)) > 1e-4
    assert not jax.tree.all(jax.tree.map(np.array_equal, state.spectral, moved.spectral))


def test_discriminator_learns_to_tell_apart(second_stage, pixels):
    """The generator stands still."""
    state, step = second_stage
    autoencoder = state.params["autoencoder"]
    values = []
    for _ in range(40):
        state, metrics = step(state, pixels)
        state = dataclasses.replace(state, params=state.params | {"autoencoder": autoencoder})
        values.append(float(metrics["discriminator_loss"]))
    assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5])
