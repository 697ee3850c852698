"""Schedules increase between their ends, whatever their parameters are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.diffusion.schedules import build_schedule, gamma_and_slope
from diffc_jax.errors import UsageError

NAMES = ("linear", "learned_linear", "learned_network")


@pytest.fixture(params=NAMES)
def schedule_and_params(request):
    schedule = build_schedule(request.param, -13.3, 5.0)
    return schedule, schedule.init(jax.random.key(1))


def test_ends_and_monotonicity(schedule_and_params):
    schedule, params = schedule_and_params
    gammas = np.asarray(schedule.gamma(params, jnp.linspace(0.0, 1.0, 101)))
    np.testing.assert_allclose(gammas[[0, -1]], [-13.3, 5.0], rtol=1e-6)
    assert np.all(np.diff(gammas) > 0)


def test_any_parameters_give_an_increasing_schedule():
    schedule = build_schedule("learned_network", -13.3, 5.0)
    params = jax.tree.map(lambda p: -3.0 * p + 0.1, schedule.init(jax.random.key(2)))
    gammas = np.asarray(schedule.gamma(params, jnp.linspace(0.0, 1.0, 101)))
    assert np.all(np.diff(gammas) > 0)


def test_slope_is_the_derivative(schedule_and_params):
    schedule, params = schedule_and_params
    t, step = jnp.linspace(0.1, 0.9, 5), 1e-2
    gamma, slope = gamma_and_slope(schedule, params, t)
    np.testing.assert_allclose(gamma, schedule.gamma(params, t), rtol=1e-6)
    secant = (schedule.gamma(params, t + step) - schedule.gamma(params, t - step)) / (2 * step)
    np.testing.assert_allclose(slope, secant, rtol=2e-3)


def test_unknown_name_and_ends_in_the_wrong_order():
    with pytest.raises(
        UsageError, match=r"^schedule.name: unknown 'cosine'; choose one of linear,"
    ):
        build_schedule("cosine", -13.3, 5.0)
    with pytest.raises(UsageError, match=r"^schedule.gamma_min: 5.0 is not below"):
        build_schedule("linear", 5.0, -13.3)
