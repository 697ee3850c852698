"""The layout of parameters: what goes into it, and what has no place there."""

import dataclasses

import jax
import jax.numpy as jnp

from diffc_jax.diffusion.schedules import build_schedule
from diffc_jax.models import build_model
from diffc_jax.models.parameters import init_parameters, model_variables, parameter_shapes
from tests.support.refusals import message

SHAPE = (8, 8, 3)
SCHEDULE = build_schedule("learned_linear", -13.3, 5.0)
KEY = jax.random.key(0)


def one_number(**collections):
    """A model with a parameter that multiplies, and with more variables."""
    model = build_model({"name": "vdm", "blocks": 1, "width": 8, "groups": 4}, SHAPE)
    variables = {"params": {"scale": jnp.ones(())}, **collections}
    return dataclasses.replace(model, init=lambda key, statistics: variables)


def test_shapes_are_those_of_the_parameters():
    tree = init_parameters(one_number(), SCHEDULE, KEY, KEY, None)
    shapes = parameter_shapes(one_number(), SCHEDULE)
    assert shapes == jax.eval_shape(lambda: tree)
    assert tree["params"].keys() == {"model", "schedule"}
    assert model_variables(**tree) == {"params": {"scale": 1.0}, "fixed": {}}


def test_another_collection_of_variables_is_refused():
    model = one_number(batch_stats={"mean": jnp.zeros(3)})
    assert message(lambda: init_parameters(model, SCHEDULE, KEY, KEY, None)) == (
        "model.name: vdm has variables in the collection 'batch_stats', which nothing would update or save; a"
        " model has 'params' and 'fixed' only"
    )
