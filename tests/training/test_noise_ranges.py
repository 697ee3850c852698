"""Images that are used at some noise levels only: times, weights, what is minimised, and what is learned."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import imagenet64_h100
from diffc_jax.config import base_config, set_training_sources, training_source
from diffc_jax.config.sources import batch_composition
from diffc_jax.data.order import TrainingOrder
from diffc_jax.diffusion import elbo, process
from diffc_jax.diffusion.schedules import build_schedule
from diffc_jax.models import Model
from diffc_jax.training.experiment import build_experiment, time_ranges
from diffc_jax.training.state import init_state
from diffc_jax.training.step import TimeRanges, loss_and_gradients, make_train_step
from diffc_jax.training.validation import NegativeElbo
from tests.training.test_step import scalar_model, setup

# Counts, lowest times and the highest one.
MIXTURES = [
    ((8,), (0.0,), 1.0),
    ((8, 8), (0.0, 0.6), 1.0),
    ((3, 5, 8), (0.25, 0.0, 0.5), 0.75),
    ((5, 11), (0.4, 0.7), 0.9),
]
KEY = jax.random.key(0)

# Times and weights


def of_each(counts):
    return np.repeat(np.arange(len(counts)), counts)


@pytest.mark.parametrize(("counts", "lowest", "highest"), MIXTURES)
def test_times_of_each_source_fill_its_range_evenly(counts, lowest, highest):
    for key in jax.random.split(KEY, 20):
        times, weights = elbo.mixture_times(key, counts, lowest, highest)
        assert times.shape == weights.shape == (sum(counts),)
        for number, (count, low) in enumerate(zip(counts, lowest, strict=True)):
            own = (np.asarray(times)[of_each(counts) == number] - low) / (highest - low)
            np.testing.assert_array_equal(np.sort(np.floor(own * count)), np.arange(count))


def test_a_time_at_the_very_start_of_a_range_belongs_to_it(monkeypatch):
    """Else its weight would be infinite, once in millions of steps."""
    monkeypatch.setattr(jax.random, "uniform", lambda _: jnp.zeros(()))
    times, weights = elbo.mixture_times(KEY, (2, 2), (0.0, 0.5))
    np.testing.assert_allclose(times, [0.0, 0.5, 0.5, 0.75])
    np.testing.assert_allclose(weights, [2.0, 2 / 3, 2 / 3, 2 / 3], rtol=1e-6)


def test_one_source_over_everything_is_the_plain_bound():
    times, weights = elbo.mixture_times(KEY, (12,), (0.0,))
    np.testing.assert_array_equal(times, elbo.stratified_times(KEY, 12))
    np.testing.assert_array_equal(weights, np.ones(12))


@pytest.mark.parametrize(("counts", "lowest", "highest"), MIXTURES)
def test_weighted_terms_are_an_unbiased_estimate_of_the_integral(counts, lowest, highest):
    """The term of an image depends on the time and on the source, both with weight."""

    def term(source, t):
        return (1.0 + source) * np.cos(5.0 * t) + 3.0 * source * t**2

    keys = jax.random.split(KEY, 4000)
    times, weights = jax.vmap(lambda key: elbo.mixture_times(key, counts, lowest, highest))(keys)
    estimates = np.mean(np.asarray(weights) * term(of_each(counts), np.asarray(times)), axis=1)

    # Midpoints; the shares of the sources are those of their images near that time.
    n = 100_000
    t = min(lowest) + (highest - min(lowest)) * (np.arange(n) + 0.5) / n
    images = np.array(
        [(t > low) * count / (highest - low) for count, low in zip(counts, lowest, strict=True)]
    )
    terms = np.array([term(source, t) for source in range(len(counts))])
    integral = (highest - min(lowest)) * np.mean(
        np.sum(images * terms, axis=0) / images.sum(axis=0)
    )
    stderr = estimates.std() / len(keys) ** 0.5
    assert abs(estimates.mean() - integral) < 4.0 * stderr + 1e-5
    assert stderr < 0.01 * abs(integral) + 0.01


# From the config


def mixed_config(*sources, gamma_range=(), batch_size=16):
    config = base_config()
    config.schedule.gamma_min, config.schedule.gamma_max = -6.0, 2.0
    config.train.batch_size = batch_size
    config.train.gamma_range = gamma_range
    if sources:
        set_training_sources(config, *(training_source(*source) for source in sources))
    return config


def test_all_images_at_all_levels_need_no_ranges():
    assert time_ranges(mixed_config()) is None
    assert time_ranges(mixed_config((0.5,), (0.5,))) is None
    assert time_ranges(mixed_config(gamma_range=(-6.0, 2.0))) is None
    assert time_ranges(mixed_config((0.5,), (0.5, -6.0))) is None


def test_ranges_are_the_levels_of_the_config_as_times():
    assert time_ranges(mixed_config((0.75,), (0.25, -2.0))) == TimeRanges((12, 4), (0.0, 0.5), 1.0)
    assert time_ranges(mixed_config(gamma_range=(-4.0, 0.0))) == TimeRanges((16,), (0.25,), 0.75)
    expert = mixed_config((0.5, -3.0), (0.5,), gamma_range=(-4.0, 2.0))
    assert time_ranges(expert) == TimeRanges((8, 8), (0.375, 0.25), 1.0)
    config = imagenet64_h100.get_config()
    ranges = time_ranges(config)
    assert ranges.counts == (128, 38, 90)
    levels = [-13.3 + 18.3 * time for time in ranges.lowest]
    np.testing.assert_allclose(levels, [-13.3, -5.0, -3.1], rtol=1e-12)


# What is minimised


@pytest.mark.parametrize("accumulation_steps", [1, 4])
@pytest.mark.parametrize(
    ("counts", "lowest", "highest", "end_rows"),
    [
        ((16,), (0.0,), 1.0, [0, 8]),
        ((4, 12), (0.5, 0.0), 1.0, [4, 12]),
        ((4, 12), (0.0, 0.5), 0.75, [0]),
        ((4, 10, 2), (0.25, 0.3, 0.25), 1.0, [0]),
        ((8, 8), (0.25, 0.5), 0.75, [0]),
    ],
)
def test_loss_has_the_weighted_terms_of_the_range(
    counts, lowest, highest, end_rows, accumulation_steps, pixels
):
    model, schedule, params = setup("linear")
    ranges = TimeRanges(counts, lowest, highest)
    time_key, noise_key, _, end_key = jax.random.split(KEY, 4)
    x = process.pixels_to_unit(pixels)
    eps = jax.random.normal(noise_key, x.shape)
    times, weights = elbo.mixture_times(time_key, counts, lowest, highest)
    gamma = -8.0 + 12.0 * times

    def diffusion(network):
        eps_hat = model.eps_hat({"params": network}, process.diffuse(x, eps, gamma), gamma)
        squared = jnp.sum((eps - eps_hat) ** 2, axis=(1, 2, 3))
        return jnp.mean(weights * 0.5 * 12.0 * squared) / np.log(2.0) / 12.0

    metrics, grads = loss_and_gradients(
        model, schedule, params, {}, pixels, KEY, accumulation_steps, ranges=ranges
    )
    value, expected = jax.value_and_grad(diffusion)(params["model"])
    np.testing.assert_allclose(metrics["diffusion"], value, rtol=1e-5)
    np.testing.assert_allclose(grads["model"]["w"], expected["w"], rtol=1e-4)

    # Terms at the ends belong to ranges that reach them, and to the images that are used there.
    assert ranges.end_rows() == end_rows
    shown = pixels[np.array(end_rows)]
    noise = jax.random.normal(end_key, shown.shape)
    ends = elbo.end_terms(shown, noise, jnp.asarray(-8.0), jnp.asarray(4.0))
    prior, reconstruction = (term.mean() / 12.0 for term in ends)
    prior, reconstruction = prior * (highest == 1.0), reconstruction * (min(lowest) == 0.0)
    np.testing.assert_allclose(metrics["prior"], prior, rtol=1e-5)
    np.testing.assert_allclose(metrics["reconstruction"], reconstruction, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"], value + prior + reconstruction, rtol=1e-5)


def test_one_range_over_everything_is_the_plain_update(pixels):
    arguments = *setup("linear"), {}, pixels, KEY
    plain = loss_and_gradients(*arguments)
    ranged = loss_and_gradients(*arguments, ranges=TimeRanges((16,), (0.0,), 1.0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ranged, plain)


def test_validation_bounds_of_ranges_add_up_to_the_bound():
    model, schedule = scalar_model(), build_schedule("linear", -8.0, 4.0)
    mesh = build_experiment(base_config()).mesh
    state = init_state(model, schedule, optax.sgd(0.0), 0, None)
    images = np.random.default_rng(1).integers(0, 256, (4096, 2, 2, 3), np.uint8)

    def bounds(*times):
        negative_elbo = NegativeElbo(model, schedule, 0, mesh, times=times)
        values = negative_elbo.estimate(
            state, images, np.arange(len(images), dtype=np.int32), np.int32(0)
        )
        return {name: np.asarray(value) for name, value in values.items()}

    whole, fine, noisy = bounds(0.0, 1.0), bounds(0.0, 0.3), bounds(0.3, 1.0)
    np.testing.assert_array_equal(fine["reconstruction"], whole["reconstruction"])
    np.testing.assert_array_equal(noisy["prior"], whole["prior"])
    assert not fine["prior"].any()
    assert not noisy["reconstruction"].any()
    parts = fine["diffusion"].mean() + noisy["diffusion"].mean()
    assert fine["diffusion"].mean() > 0.01 * parts
    stderr = whole["diffusion"].std() / len(images) ** 0.5
    assert abs(parts - whole["diffusion"].mean()) < 4.0 * stderr

    assert abs(parts - whole["diffusion"].mean()) < 4.0 * stderr

    # The terms of a part at times of that part alone.
    times = 0.3 * (np.random.default_rng(2).permutation(len(images)) + 0.5) / len(images)
    variables = {"params": state.ema["model"]}
    expected = elbo.estimate_elbo(
        lambda z, gamma: model.eps_hat(variables, z, gamma),
        lambda t: schedule.gamma({}, t),
        jnp.asarray(images),
        jnp.asarray(times, jnp.float32),
        jax.random.split(KEY, len(images)),
    )
    terms = 0.3 * np.asarray(expected.diffusion) / 12.0
    stderr = np.hypot(terms.std(), fine["diffusion"].std()) / len(images) ** 0.5
    assert abs(fine["diffusion"].mean() - terms.mean()) < 4.0 * stderr < 0.2 * terms.mean()


def test_each_draw_of_the_bound_has_times_and_noise_of_its_own():
    model, schedule = scalar_model(), build_schedule("linear", -8.0, 4.0)
    negative_elbo = NegativeElbo(model, schedule, 0, build_experiment(base_config()).mesh)
    state = init_state(model, schedule, optax.sgd(0.0), 0, None)
    images = np.random.default_rng(1).integers(0, 256, (8, 2, 2, 3), np.uint8)
    index = np.arange(8, dtype=np.int32)
    first, again, second = (
        negative_elbo.estimate(state, images, index, np.int32(draw)) for draw in (0, 0, 1)
    )
    for name in ("diffusion", "reconstruction"):
        np.testing.assert_array_equal(first[name], again[name])
        assert not np.isclose(first[name], second[name]).any()
    np.testing.assert_array_equal(first["prior"], second["prior"])


# What is learned

THRESHOLD, BINS = -2.0, 4
BIN_LEVELS = np.array([-5.0, -3.0, -1.0, 1.0])


def variance_model():
    """The denoiser of white Gaussian images; it learns their variance, one for each range of levels."""

    def eps_hat(variables, z, gamma):
        number = jnp.clip(jnp.floor((gamma + 6.0) / 8.0 * BINS), 0, BINS - 1).astype(jnp.int32)
        variance = jnp.exp(variables["params"]["log_variance"][number])
        gain = process.sigma(gamma) / (
            process.alpha(gamma) ** 2 * variance + process.sigma(gamma) ** 2
        )
        return gain.reshape(-1, 1, 1, 1) * z

    return Model(
        name="variance",
        init=lambda key, statistics: {"params": {"log_variance": jnp.full(BINS, np.log(0.3))}},
        eps_hat=eps_hat,
        train_eps_hat=lambda variables, z, gamma, key: eps_hat(variables, z, gamma),
    )


def gaussian_images(standard_deviation, seed):
    noise = np.random.default_rng(seed).normal(size=(1024, 8, 8, 3))
    return np.clip(128.0 + 128.0 * standard_deviation * noise, 0, 255).astype(np.uint8)


def mean_square(images):
    return float(np.mean(((2.0 * images + 1.0) / 256.0 - 1.0) ** 2))


CLEAN, CORRUPTED = gaussian_images(0.32, seed=0), gaussian_images(0.1, seed=1)


def learn(images, config, steps=400):
    """Variances by range of levels after training on a mixture, and the parameters."""
    model, schedule = variance_model(), build_schedule(**config.schedule)
    optimizer = optax.adam(optax.linear_schedule(0.08, 0.0, steps))
    state = init_state(model, schedule, optimizer, 0, None)
    step = jax.jit(
        make_train_step(model, schedule, optimizer, 0.95, seed=0, ranges=time_ranges(config))
    )
    order = TrainingOrder([len(own) for own in images], batch_composition(config), 0, flip=False)
    rows = order.rows(range(steps))
    for source, index in zip(rows.source, rows.index, strict=True):
        batch = [images[number][at] for number, at in zip(source, index, strict=True)]
        state, _ = step(state, np.stack(batch))
    return np.exp(np.asarray(state.ema["model"]["log_variance"])), state.ema["model"]


def error_on_clean_images(params, gamma):
    """Mean squared error of x_hat, with the same noise for all parameters."""
    x = process.pixels_to_unit(jnp.asarray(CLEAN))
    gamma = jnp.full(len(x), gamma)
    z = process.diffuse(x, jax.random.normal(KEY, x.shape), gamma)
    x_hat = process.x_from_eps(z, variance_model().eps_hat({"params": params}, z, gamma), gamma)
    return float(jnp.mean((x - x_hat) ** 2))


def test_a_mixture_learns_the_clean_distribution_below_the_threshold():
    clean_square, corrupted_square = mean_square(CLEAN), mean_square(CORRUPTED)
    alone, alone_params = learn([CLEAN], mixed_config(batch_size=32))
    both = [CLEAN, CORRUPTED]
    halves = mixed_config((0.5,), (0.5, THRESHOLD), batch_size=32)
    kept, kept_params = learn(both, halves)
    naive, naive_params = learn(both, mixed_config((0.5,), (0.5,), batch_size=32))

    # Half of a batch on twice the levels: above the threshold a third of the images is clean.
    above = clean_square / 3.0 + 2.0 * corrupted_square / 3.0
    low = BIN_LEVELS < THRESHOLD
    np.testing.assert_allclose(alone, clean_square, rtol=0.04)
    np.testing.assert_allclose(kept[low], clean_square, rtol=0.04)
    np.testing.assert_allclose(kept[~low], above, rtol=0.04)
    np.testing.assert_allclose(naive, (clean_square + corrupted_square) / 2.0, rtol=0.1)

    for gamma in BIN_LEVELS[low]:
        best, restricted, mixed = (
            error_on_clean_images(params, gamma)
            for params in (alone_params, kept_params, naive_params)
        )
        excess = mixed / best - 1.0
        assert excess > 0.01
        assert abs(restricted / best - 1.0) < 0.05 * excess
