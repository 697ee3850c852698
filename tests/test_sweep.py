"""The whole sweep with the exact Gaussian denoiser against the closed forms of the Gaussian analysis."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax import rng
from diffc_jax.diffusion import process
from diffc_jax.evaluation.sweep import Sweep, SweepPlan, nearest_levels
from diffc_jax.models import gaussian
from diffc_jax.theory import gaussian as theory

SHAPE = (8, 8, 3)
N_IMAGES = 400
STEPS = 600
# Ancestral steps of size d in gamma put exp(-d) of the exact variance into a sample at high rate, so that
# its distortion, half of which is that variance, comes out low by d / 2.
ANCESTRAL_BIAS = 21.0 / STEPS / 2
EIGENVALUES = 4.0 * np.arange(1, 193) ** -1.2


def make_plan(steps=STEPS, levels=5, kinds=("ancestral", "flow", "mean", "kappa=1.5")):
    gammas = np.linspace(7.0, -14.0, steps + 1)
    return SweepPlan(
        gammas=gammas,
        level_indices=nearest_levels(gammas, 2.0, -9.0, levels),
        decoders=kinds,
        ancestral_steps=steps,
        flow_steps=60,
    )


@pytest.fixture(scope="module")
def variables():
    fixed = {
        "mean": jnp.asarray([0.1, 0.0, -0.1]),
        "rotation": jnp.eye(3),
        "variances": jnp.asarray(EIGENVALUES.reshape(SHAPE), jnp.float32),
    }
    return {"fixed": fixed}


def draw(variables, indices):
    fixed = variables["fixed"]
    noise = process.image_noise(rng.per_index(rng.stream(7, "source"), indices), SHAPE)
    x = gaussian.from_components(jnp.sqrt(fixed["variances"])[None] * noise, fixed["rotation"])
    return x + fixed["mean"].reshape(1, 1, 1, 3)


@pytest.fixture(scope="module")
def swept(variables):
    indices = jnp.arange(N_IMAGES)
    x = draw(variables, indices)
    plan = make_plan()
    return plan, x, Sweep(gaussian.eps_hat, plan, seed=0).run(variables, x, indices)


def mean_and_error(values):
    values = np.asarray(values, np.float64)
    return values.mean(), values.std() / np.sqrt(len(values))


def test_rate_is_that_of_the_chain_within_the_monte_carlo_error(swept):
    """Four standard errors, at most 1 % of the rate each, at every level."""
    plan, _, result = swept
    # The source's mean adds alpha^2 |mean|^2 / 2 nats to the prior.
    offset = process.alpha(jnp.asarray(plan.gammas[0])) ** 2 * 64 * 0.02 / 2 / np.log(2)
    expected = theory.chain_rate(EIGENVALUES, plan.gammas) + float(offset)
    for index in plan.level_indices:
        mean, error = mean_and_error(result.kl_bits[:, index])
        assert error < 0.01 * expected[index] + 0.05
        assert abs(mean - expected[index]) < 4 * error


def test_rate_exceeds_the_information_by_the_cost_of_steps_only(swept):
    """600 steps over 21 nats of gamma: I[X; Z] plus at most 2 % and the prior's fraction of a bit."""
    plan, _, result = swept
    for index in plan.level_indices:
        information = theory.rates(EIGENVALUES, np.exp(plan.gammas[index])).sum()
        mean, error = mean_and_error(result.kl_bits[:, index])
        assert information - 4 * error < mean < 1.02 * information + 4 * error + 0.2


@pytest.mark.parametrize(
    ("decoder", "closed_form", "bias"),
    [
        ("ancestral", theory.distortions_ancestral, ANCESTRAL_BIAS),
        ("flow", theory.distortions_flow, 0.005),
        ("mean", theory.distortions_mean, 0.0),
        ("kappa=1.5", lambda e, n: theory.distortions_flow(e, n, 1.5), 0.005),
    ],
)
def test_distortions_are_the_closed_forms(swept, decoder, closed_form, bias):
    """Within four standard errors (each at most 2 %) and `bias`, the decoder's own discretisation."""
    plan, x, result = swept
    # Decoders stop at the last gamma, whose noise stays in samples.
    residual = len(EIGENVALUES) * np.exp(plan.gammas[-1]) if decoder == "ancestral" else 0.0
    for gamma, reconstruction in zip(
        plan.level_gammas, result.reconstructions[decoder], strict=True
    ):
        expected = closed_form(EIGENVALUES, np.exp(gamma)).sum()
        mean, error = mean_and_error(process.squared_norm(x - reconstruction))
        assert error < 0.02 * expected
        assert abs(mean - expected - residual) < 4 * error + bias * expected


def test_flow_over_ancestral_goes_to_three_decibels(swept):
    plan, x, result = swept
    errors = {
        decoder: np.array(
            [float(process.squared_norm(x - y).mean()) for y in result.reconstructions[decoder]]
        )
        for decoder in ("ancestral", "flow")
    }
    gains = 10 * np.log10(errors["ancestral"] / errors["flow"])
    assert np.all(np.diff(gains) > 0)
    ratios = [
        theory.distortions_ancestral(EIGENVALUES, noise).sum()
        / theory.distortions_flow(EIGENVALUES, noise).sum()
        for noise in np.exp(plan.level_gammas)
    ]
    bias = -10 * np.log10(1 - ANCESTRAL_BIAS)
    np.testing.assert_allclose(gains, 10 * np.log10(ratios), atol=bias + 0.06)
    assert 2.9 < gains[-1] < 3.02


def test_results_of_an_image_do_not_depend_on_its_batch(variables):
    plan = make_plan(steps=40, levels=2)
    sweep = Sweep(gaussian.eps_hat, plan, seed=3)

    def run(order):
        indices = jnp.asarray(order)
        return sweep.run(variables, draw(variables, indices), indices)

    whole, part = run([0, 1, 2, 3, 4]), run([3, 1])
    np.testing.assert_allclose(whole.kl_bits[[3, 1]], part.kl_bits, rtol=1e-5)
    for decoder, levels in whole.reconstructions.items():
        for all_images, some in zip(levels, part.reconstructions[decoder], strict=True):
            np.testing.assert_allclose(all_images[jnp.array([3, 1])], some, atol=1e-5)


def test_another_seed_gives_other_noise(variables):
    plan, indices = make_plan(steps=10, levels=1, kinds=("mean",)), jnp.arange(2)
    x = draw(variables, indices)
    first, second = (
        Sweep(gaussian.eps_hat, plan, seed).run(variables, x, indices) for seed in (0, 1)
    )
    assert np.abs(first.kl_bits - second.kl_bits).max() > 1e-3


def test_every_level_runs_the_same_compiled_programs(variables):
    plan, indices = make_plan(steps=30, levels=4), jnp.arange(2)
    calls = []

    def counted(variables, z, gamma):
        calls.append(z.shape)
        return gaussian.eps_hat(variables, z, gamma)

    Sweep(counted, plan, seed=0).run(variables, draw(variables, indices), indices)
    # Once for the chain and once for each of three decoder families: ancestral, flow, mean.
    assert len(calls) == 4


def test_steps_of_the_ancestral_decoder_are_its_share_of_the_range():
    plan = make_plan(steps=100, levels=3)
    counts = [plan.n_steps("ancestral", level) for level in range(3)]
    shares = (plan.level_gammas - plan.gammas[-1]) / (plan.gammas[0] - plan.gammas[-1])
    np.testing.assert_array_equal(counts, np.round(100 * shares))
    grid = plan.decoder_grid("ancestral", 2)
    assert len(grid) == 101
    np.testing.assert_allclose(grid[[0, counts[2], -1]], [plan.level_gammas[2], -14.0, -14.0])
