"""Checkpoints of runs that have got a limit of time since, or have lost it."""

import dataclasses
from typing import Any

import jax
import numpy as np

from diffc_jax.runtime.checkpoints import Checkpoints, State
from diffc_jax.training.optimizer import fresh_decay


def restore(checkpoints: Checkpoints, template: State) -> tuple[State, dict[str, Any]]:
    """Restores the newest checkpoint as `template` is, saved in a run with a limit of time or in one without.

    In a run that has got a limit the decay of the learning rate has not begun.

    Raises:
        InputError: see `Checkpoints.restore`.
    """
    if not hasattr(template, "decay"):  # of a model that is never trained so
        return checkpoints.restore(template)
    limited = template.decay is not None
    fresh = jax.tree.map(np.asarray, fresh_decay())
    saved = None if limited else jax.tree.map(lambda _: template.step, fresh)
    state, progress = checkpoints.restore(template, dataclasses.replace(template, decay=saved))
    if limited and state.decay is None:
        decay = jax.device_put(fresh, template.step.sharding)
        state = dataclasses.replace(state, decay=decay)
    elif not limited:
        state = dataclasses.replace(state, decay=None)
    return state, progress
