"""What the training loop asks of a model: `Trainee`, which DiffC's denoisers and HiFiC both are."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree, UInt8
from ml_collections import ConfigDict

from diffc_jax import data

# A pytree of arrays with a scalar `step`, the number of finished updates.
State = Any


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """What a pass over held-out images gives.

    Attributes:
        values: scalars to write down, by name.
        summary: the one that matters, as text with its unit.
        picture: to look at.
    """

    values: dict[str, float]
    summary: str
    picture: UInt8[np.ndarray, "h w 3"]


@runtime_checkable
class Trainee(Protocol):
    """A model, its losses and its state, for `training.loop.train`."""

    @property
    def config(self) -> ConfigDict:
        """Of the run."""

    @property
    def mesh(self) -> Mesh:
        """The devices."""

    def state_template(self) -> State:
        """Shapes, types and shardings of the state."""

    def fresh_state(self, source: data.ImageSource, /) -> State:
        """The state before the first step on images of `source`."""

    def count_trained(self) -> int:
        """Number of trained scalars; 0 if there is nothing to train."""

    def train_steps(self, num_steps: int) -> Callable[[int], jax.stages.Wrapped]:
        """The updates of a run of `num_steps`.

        Returns:
            A function from the number of an update, 1 to `num_steps`, to its compiled
            `step(state, pixels) -> (state, metrics)`; metrics are scalars by name. Pixels are uint8
            (b, h, w, 3), split over the mesh; the old state is given up.
        """

    def summarise(self, means: dict[str, float]) -> str:
        """Means of metrics as text with units.

        Raises:
            DivergedError: they show that training has failed, though they are finite.
        """

    def held_out_evaluation(self) -> Callable[[State], HeldOut]:
        """Compiles one full pass over config.data.eval, or its first train.eval_images."""

    def export(self, state: State) -> tuple[PyTree, dict[str, Any]]:
        """What is kept of a finished run: parameters, whole on every device, and fields of their card."""
