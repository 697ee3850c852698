"""Strata of the rate: where they end, and which steps are drawn from them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.config import base_config
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.plan import SweepPlan, make_plan, paired_strata
from diffc_jax.evaluation.rd_sweep import Sweep

GAMMAS = np.linspace(5.0, -13.3, 1001)


def test_default_strata_end_at_levels_and_go_in_pairs():
    settings = base_config().eval
    plan = make_plan(GAMMAS, settings)
    assert len(plan.strata) - 1 == settings.rate_evaluations
    np.testing.assert_allclose(plan.level_gammas, np.linspace(2.0, -8.0, 16), atol=0.01)
    ends = [0, *plan.levels, len(plan.strata) - 1]
    assert {(end - begin) % 2 for begin, end in itertools.pairwise(ends)} == {0}
    # The noisy half of the chain is in every level's rate.
    assert plan.levels[0] == 6
    rates = np.log1p(np.exp(-GAMMAS[plan.strata[:7]]))
    np.testing.assert_allclose(np.diff(rates), (rates[-1] - rates[0]) / 6, rtol=0.15)


def test_numbers_of_strata():
    levels = np.array([300, 600])
    assert len(paired_strata(GAMMAS, levels, 6)) - 1 == 6
    np.testing.assert_array_equal(paired_strata(GAMMAS, levels, 1000), np.arange(1001))
    with pytest.raises(UsageError, match=r"eval\.rate_evaluations: 5 .* choose 6 or more, or 0"):
        paired_strata(GAMMAS, levels, 5)


def test_steps_of_a_pair_mirror_each_other():
    """The denoiser is asked at gammas whose steps have the same distances from both ends of the pair."""
    seen = []

    def eps_hat(variables, z, gamma):
        del variables
        jax.debug.callback(lambda value: seen.append(np.asarray(value)), gamma, ordered=True)
        return z

    strata = np.array([0, 10, 20, 27, 34])
    gammas = np.linspace(4.0, -6.0, 35)
    plan = SweepPlan(gammas, strata, np.array([4]), (), ancestral_steps=1, flow_steps=1)
    Sweep(eps_hat, plan, seed=0).run({}, jnp.zeros((50, 2, 2, 1)), jnp.arange(50))
    jax.effects_barrier()
    steps = np.rint((4.0 - np.stack(seen)) / (10.0 / 34)).astype(int)
    assert steps.shape == (4, 50)
    for first, second, begin, end in zip(steps[::2], steps[1::2], (0, 20), (20, 34), strict=True):
        np.testing.assert_array_equal(first - begin, end - 1 - second)
        assert len(set(first)) > 5


@pytest.mark.parametrize("decoders", [(), ("mean",), ("ancestral", "flow", "mean")])
def test_calls_are_as_many_as_the_plan_says(decoders):
    settings = base_config().eval
    settings.update({"num_levels": 3, "rate_evaluations": 12, "decoders": decoders})
    plan = make_plan(np.linspace(5.0, -13.3, 41), settings)
    told, made = [], []

    def eps_hat(variables, z, gamma):
        del variables, gamma
        jax.debug.callback(lambda: made.append(1), ordered=True)
        return z

    Sweep(eps_hat, plan, seed=0).run({}, jnp.zeros((1, 2, 2, 1)), jnp.arange(1), told.append)
    jax.effects_barrier()
    assert sum(told) == len(made) == plan.evaluations_per_image()


def test_a_level_at_the_end_of_the_chain_is_decoded_in_one_step():
    """Nothing is left to remove, and several steps of length 0 would have no slope."""
    gammas, decoders = np.linspace(5.0, -13.3, 41), ("ancestral", "flow", "mean", "kappa=1.5")
    plan = SweepPlan(
        gammas, np.array([0, 20, 40]), np.array([1, 2]), decoders, ancestral_steps=9, flow_steps=8
    )
    assert {plan.n_steps(name, 1) for name in decoders} == {1}
    assert min(plan.n_steps(name, 0) for name in ("ancestral", "flow")) > 1
    x = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    swept = Sweep(lambda variables, z, gamma: 0.0 * z, plan, 0).run({}, x, jnp.arange(2))
    for name in decoders:
        np.testing.assert_allclose(swept.reconstructions[name][1], x, atol=0.02)
