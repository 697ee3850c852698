"""How the arrays of a denoiser and its schedule are kept: one layout for states, files and codecs.

The tree is {"params": {"model": ..., "schedule": ...}, "fixed": ...}. Gradients train `params`; `fixed` was
fitted to the data before, and is empty for most models.
"""

from typing import Any

import jax
from jaxtyping import Array, Key, PyTree

from diffc_jax.diffusion.schedules import Schedule
from diffc_jax.errors import UsageError
from diffc_jax.models.base import Model, Variables

_COLLECTIONS = {"params", "fixed"}


def parameter_tree(params: PyTree, fixed: PyTree) -> dict[str, PyTree]:
    """The tree of trained parameters, {"model": ..., "schedule": ...}, and of what was fitted."""
    return {"params": params, "fixed": fixed}


def model_variables(params: PyTree, fixed: PyTree) -> Variables:
    """What `Model.eps_hat` takes, from the two parts of the tree."""
    return {"params": params["model"], "fixed": fixed}


def init_parameters(
    model: Model,
    schedule: Schedule,
    model_key: Key[Array, ""],
    schedule_key: Key[Array, ""],
    statistics: Any,
) -> dict[str, PyTree]:
    """The tree before training; `statistics` as `Model.init` takes them.

    Raises:
        UsageError: the model has a collection of variables that the layout has no place for.
    """
    variables = model.init(model_key, statistics)
    for collection in sorted(set(variables) - _COLLECTIONS):
        raise UsageError(
            f"{model.name} has variables in the collection {collection!r}, which nothing would update or"
            " save; a model has 'params' and 'fixed' only",
            field="model.name",
        )
    params = {"model": variables.get("params", {}), "schedule": schedule.init(schedule_key)}
    return parameter_tree(params, variables.get("fixed", {}))


def parameter_shapes(model: Model, schedule: Schedule) -> dict[str, PyTree]:
    """Shapes and types of the tree, for reading files; nothing is computed."""
    key = jax.random.key(0)
    return jax.eval_shape(
        lambda statistics: init_parameters(model, schedule, key, key, statistics), model.statistics
    )
