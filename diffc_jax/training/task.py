"""What the training loop asks of a model: `Task`, which DiffC's denoisers and HiFiC both are."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, PyTree, UInt8
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.runtime.checkpoints import State

# update(state, pixels) -> (state, metrics), to be compiled: pixels are uint8 (b, h, w, 3), metrics are
# scalars by name.
Update = Callable[[State, Array], tuple[State, dict[str, Array]]]


@dataclasses.dataclass(frozen=True)
class Validation:
    """What a pass over validation images gives: scalars by name, the main one as text, and an image."""

    values: dict[str, float]
    summary: str
    image: UInt8[np.ndarray, "h w 3"]


@runtime_checkable
class Task(Protocol):
    """A model, its losses and its state, for `training.loop.train`."""

    @property
    def config(self) -> ConfigDict:
        """The config of the run."""

    @property
    def mesh(self) -> Mesh:
        """The devices that it runs on."""

    def state_template(self) -> State:
        """Shapes, types and shardings of the state."""

    def fresh_state(self, source: data.ImageSource, /) -> State:
        """The state before the first step on images of `source`."""

    def count_trained(self) -> int:
        """Number of trained scalars; 0 if there is nothing to train."""

    def train_steps(self, num_steps: int) -> Callable[[int], Update]:
        """The updates of a run of `num_steps`, or of one whose end is not known yet, if that is 0.

        Returns:
            A function from the number of an update, from 1 on, to the update. Updates of one stage of the
            training are the same object, which is compiled once.
        """

    def summarise(self, means: dict[str, float]) -> str:
        """Means of metrics as text with units.

        Raises:
            DivergedError: they show that training has failed, though they are finite.
        """

    def make_validation(self) -> Callable[[State], Validation]:
        """Compiles one full pass over config.data.eval, or its first train.eval_images."""

    def begin_decay(self, state: State, num_steps: int) -> State:
        """Lets the learning rate fall to zero over the next `num_steps`, in a run with a limit of time."""

    def export(
        self, state: State, evaluate: Callable[[State], Validation], /
    ) -> tuple[PyTree, dict[str, Any]]:
        """What is kept of a finished run: parameters, whole on every device, and fields of their card.

        `evaluate` is `make_validation()`, for whoever has to choose.
        """
