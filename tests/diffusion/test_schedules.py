"""Schedules increase between their ends, whatever their parameters are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffc_jax.diffusion.schedules import build_schedule, gamma_and_slope, noise_range
from diffc_jax.errors import InputError, UsageError

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


@pytest.mark.parametrize("gamma", [np.nan, np.inf, -np.inf])
def test_ends_are_finite_numbers(gamma):
    for field, ends in (("gamma_min", (gamma, 5.0)), ("gamma_max", (-13.3, gamma))):
        with pytest.raises(UsageError) as caught:
            build_schedule("linear", *ends)
        assert str(caught.value) == f"schedule.{field}: {gamma} is not a finite number"
    with pytest.raises(UsageError, match="is not below"):
        build_schedule("linear", -13.3, -13.3 + 1e-9)  # equal as float32


@pytest.mark.parametrize(
    ("changes", "ends"),
    [
        ({"range": 0.0}, "-13.3 to -13.3"),
        ({"range": np.nan}, "nan to nan"),
        ({"start": np.inf}, "inf to inf"),
        ({"start": 3e38, "range": 3e38}, "3e+38 to inf"),
        ({"linear": 0.0, "out_scale": np.zeros(1024, np.float32)}, "nan to nan"),
    ],
)
def test_learnt_ends_that_cannot_be_used(changes, ends):
    schedule = build_schedule("learned_network", -13.3, 5.0)
    params = schedule.init(jax.random.key(0))
    assert noise_range(schedule, params, "FILE") == pytest.approx((-13.3, 5.0), abs=1e-4)
    with pytest.raises(InputError) as caught:
        noise_range(schedule, params | jax.tree.map(jnp.float32, changes), "FILE")
    assert str(caught.value) == (
        f"FILE: its noise schedule goes from gamma {ends}, which must be two finite numbers in this order;"
        " the parameters are damaged or their training diverged"
    )


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
