"""What a config describes, built: model, schedule, devices, data sources and an empty state."""

import dataclasses

import jax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.config import source_fields
from diffc_jax.diffusion.schedules import Schedule, build_schedule
from diffc_jax.errors import UsageError
from diffc_jax.models import Model, build_model
from diffc_jax.models.gaussian import Statistics, fit_statistics, statistics_shapes
from diffc_jax.training import sharding
from diffc_jax.training.compilation import run_once
from diffc_jax.training.state import (
    TrainState,
    init_state,
    learning_rate_schedule,
    make_optimizer,
)
from diffc_jax.training.step import make_train_step

_STATISTICS_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The objects that training and evaluation build from the same config."""

    config: ConfigDict
    mesh: Mesh
    model: Model
    schedule: Schedule

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c)."""
        return (self.config.data.image_size, self.config.data.image_size, 3)

    def open_source(self, split: str) -> data.ImageSource:
        """The images of config.data.train or config.data.eval."""
        return open_source(self.config, split)

    def eval_batch_size(self) -> int:
        """config.eval.batch_size, rounded up to split evenly; padding is masked, so results stay."""
        return sharding.even_batch_size(self.config.eval.batch_size, self.mesh)

    def state_template(self) -> TrainState:
        """Shapes, types and shardings of the state."""
        statistics = statistics_shapes(self.image_shape) if self.model.needs_statistics else None
        shapes = jax.eval_shape(self._init_state, statistics)
        shardings = dataclasses.replace(
            sharding.split_parameters(self.mesh, shapes),
            # Small, and used with every image.
            fixed=jax.tree.map(lambda _: sharding.replicated(self.mesh), shapes.fixed),
        )
        return sharding.as_template(shapes, shardings)

    def fresh_state(self, source: data.ImageSource) -> TrainState:
        """The state before the first step; fits what the model needs to know about the data."""
        statistics = None
        if self.model.needs_statistics:
            logging.info("fitting a Gaussian to %d images", len(source))
            batches = data.eval_batches(source, batch_size=_STATISTICS_BATCH)
            statistics = fit_statistics(batch["image"][batch["mask"]] for batch in batches)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.state_template())
        return run_once(self._init_state, shardings, statistics)

    def train_step(self, num_steps: int) -> jax.stages.Wrapped:
        """`make_train_step` for a run of `num_steps`, compiled for the mesh; the old state is given up."""
        train = self.config.train
        step = make_train_step(
            self.model,
            self.schedule,
            make_optimizer(train, learning_rate_schedule(train, num_steps)),
            train.ema_decay,
            self.config.seed,
            self.mesh,
            train.accumulation_steps,
            train.low_rate_emphasis,
        )
        return sharding.compile_step(step, self.state_template(), self.mesh)

    def _init_state(self, statistics: Statistics | None) -> TrainState:
        # The layout of the optimiser's state does not depend on the number of steps.
        train = self.config.train
        optimizer = make_optimizer(train, learning_rate_schedule(train, num_steps=1))
        return init_state(self.model, self.schedule, optimizer, self.config.seed, statistics)


def open_source(config: ConfigDict, split: str) -> data.ImageSource:
    """Opens config.data.train, config.data.eval or config.data.reference.

    Raises:
        UsageError: a field of it that cannot be used.
        InputError: a file that cannot.
    """
    try:
        return data.open_source(data.SourceSpec(**source_fields(config, split)))
    except UsageError as error:
        # The size is common to both splits.
        prefix = "data." if str(error).startswith("image_size:") else f"data.{split}."
        raise UsageError(f"{prefix}{error}") from error


def build_experiment(config: ConfigDict) -> Experiment:
    """Builds model and schedule on a mesh of all devices.

    Raises:
        UsageError: a field of config.mesh, config.model or config.schedule that cannot be used.
    """
    size = config.data.image_size
    return Experiment(
        config=config,
        mesh=sharding.make_mesh(**config.mesh),
        model=build_model(config.model.to_dict(), (size, size, 3)),
        schedule=build_schedule(**config.schedule),
    )
