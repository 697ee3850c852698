"""The whole sweep with the exact Gaussian denoiser against the closed forms of the Gaussian analysis."""

import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax import rng
from diffc_jax.diffusion import process
from diffc_jax.evaluation.plan import SweepPlan, even_strata, nearest_levels
from diffc_jax.evaluation.rd_sweep import Sweep
from diffc_jax.models import gaussian
from diffc_jax.theory import gaussian as theory

SHAPE = (8, 8, 3)
N_IMAGES = 400
STEPS = 600
EIGENVALUES = 4.0 * np.arange(1, 193) ** -1.2


DECODERS = ("ancestral", "flow", "mean", "kappa=1.5")


def make_plan(steps=STEPS, levels=5, kinds=DECODERS, evaluations=150):
    gammas = np.linspace(7.0, -14.0, steps + 1)
    strata = even_strata(steps, min(evaluations, steps))
    return SweepPlan(
        gammas=gammas,
        strata=strata,
        levels=nearest_levels(gammas[strata], 2.0, -9.0, levels),
        decoders=kinds,
        ancestral_steps=100,
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
    expected = theory.chain_rate(EIGENVALUES, plan.gammas)[plan.strata] + float(offset)
    for level in plan.levels:
        mean, error = mean_and_error(result.ideal_bits[:, level])
        assert error < 0.01 * expected[level] + 0.05
        assert abs(mean - expected[level]) < 4 * error


@pytest.mark.parametrize("evaluations", [3, 7, 40])
def test_rate_is_unbiased_in_the_choice_of_steps(variables, evaluations):
    """Few strata of 40 steps, of uneven sizes where they do not divide them, against all steps."""
    indices = jnp.arange(1500)
    plan = make_plan(steps=40, levels=1, kinds=(), evaluations=evaluations)
    result = Sweep(gaussian.eps_hat, plan, seed=5).run(variables, draw(variables, indices), indices)
    offset = process.alpha(jnp.asarray(plan.gammas[0])) ** 2 * 64 * 0.02 / 2 / np.log(2)
    expected = theory.chain_rate(EIGENVALUES, plan.gammas)[plan.strata] + float(offset)
    for stratum in range(1, evaluations + 1):
        mean, error = mean_and_error(result.ideal_bits[:, stratum])
        assert abs(mean - expected[stratum]) < 4.5 * error


def test_few_evaluations_tell_the_rate_of_each_image(variables):
    """A tenth of the steps: 2 % of the rate of an image with as few as 192 dimensions."""
    indices = jnp.arange(200)
    x = draw(variables, indices)
    few, all_steps = (
        Sweep(gaussian.eps_hat, make_plan(levels=2, kinds=(), evaluations=n), seed=0)
        .run(variables, x, indices)
        .ideal_bits[:, -1]
        for n in (60, 600)
    )
    difference = few / all_steps - 1
    assert difference.std() < 0.025
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(200)


def test_rate_exceeds_the_information_by_the_cost_of_steps_only(swept):
    """600 steps over 21 nats of gamma: I[X; Z] plus at most 2 % and the prior's fraction of a bit."""
    plan, _, result = swept
    for level in plan.levels:
        information = theory.rates(EIGENVALUES, np.exp(plan.rate_gammas[level])).sum()
        mean, error = mean_and_error(result.ideal_bits[:, level])
        assert information - 4 * error < mean < 1.02 * information + 4 * error + 0.2


@pytest.mark.parametrize(
    ("decoder", "closed_form", "bias"),
    [
        ("ancestral", theory.distortions_ancestral, 0.005),
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
    np.testing.assert_allclose(gains, 10 * np.log10(ratios), atol=0.08)
    assert 2.9 < gains[-1] < 3.08


def test_results_of_an_image_do_not_depend_on_its_batch(variables):
    plan = make_plan(steps=40, levels=2)
    sweep = Sweep(gaussian.eps_hat, plan, seed=3)

    def run(order):
        indices = jnp.asarray(order)
        return sweep.run(variables, draw(variables, indices), indices)

    whole, part = run([0, 1, 2, 3, 4]), run([3, 1])
    np.testing.assert_allclose(whole.ideal_bits[[3, 1]], part.ideal_bits, rtol=1e-5)
    for decoder, levels in whole.reconstructions.items():
        for all_images, some in zip(levels, part.reconstructions[decoder], strict=True):
            np.testing.assert_allclose(all_images[jnp.array([3, 1])], some, atol=1e-5)


def test_latents_of_the_levels_are_those_of_one_stream():
    """Noise of z_s and z_t: z_t / alpha_t is z_s / alpha_s and independent noise."""
    n, shape = 4000, (1, 1, 1)
    indices = jnp.arange(n)
    plan = make_plan(steps=21, levels=3, kinds=("mean",), evaluations=21)

    def no_denoiser(variables, z, gamma):
        del variables, gamma
        return jnp.zeros_like(z)  # so that the mean decoder returns z / alpha

    latents = (
        Sweep(no_denoiser, plan, seed=0)
        .run({}, jnp.zeros((n, *shape)), indices)
        .reconstructions["mean"]
    )
    y = np.array(latents, np.float64).reshape(3, n)
    odds = np.exp(plan.level_gammas)
    # Brownian: the covariance of two levels is the lesser variance.
    expected = np.minimum.outer(odds, odds)
    scale = np.sqrt(np.outer(odds, odds))
    np.testing.assert_allclose(np.cov(y) / scale, expected / scale, atol=4.0 / np.sqrt(n) * 1.5)


def test_another_seed_gives_other_noise(variables):
    plan, indices = make_plan(steps=10, levels=1, kinds=("mean",)), jnp.arange(2)
    x = draw(variables, indices)
    first, second = (
        Sweep(gaussian.eps_hat, plan, seed).run(variables, x, indices) for seed in (0, 1)
    )
    assert np.abs(first.ideal_bits - second.ideal_bits).max() > 1e-3


def test_every_level_runs_the_same_compiled_programs(variables):
    plan, indices = make_plan(steps=30, levels=4), jnp.arange(2)
    calls = []

    def counted(variables, z, gamma):
        calls.append(z.shape)
        return gaussian.eps_hat(variables, z, gamma)

    Sweep(counted, plan, seed=0).run(variables, draw(variables, indices), indices)
    # Once for the rate, for the estimates that decoders begin with, and for both decoders that go on.
    assert len(calls) == 4


def test_steps_of_the_ancestral_decoder_depend_on_its_share_of_the_range():
    plan = make_plan(steps=100, levels=3, evaluations=100)
    counts = [plan.n_steps("ancestral", level) for level in range(3)]
    shares = (plan.level_gammas - plan.gammas[-1]) / (plan.gammas[0] - plan.gammas[-1])
    np.testing.assert_array_equal(counts, np.round(50 * (1 + shares)))
    grid = plan.decodings[2]["ancestral"][0]
    assert len(grid) == 121
    np.testing.assert_allclose(grid[[0, counts[2], -1]], [plan.level_gammas[2], -14.0, -14.0])
