"""What a config describes, built: model, schedule, devices, data sources and an empty state."""

import dataclasses
import functools

import jax
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.config.sources import (
    MIXTURE_FIELDS,
    REST,
    batch_composition,
    clean_source,
    training_sources,
)
from diffc_jax.diffusion.schedules import Schedule, noise_range, schedule_from_fields
from diffc_jax.errors import UsageError
from diffc_jax.models import Model, build_model, default_fields
from diffc_jax.models.gaussian import Statistics, fit_statistics
from diffc_jax.models.parameters import parameter_tree
from diffc_jax.runtime import files, run_config, sharding
from diffc_jax.runtime.export import load_params, read_history
from diffc_jax.training.optimizer import make_optimizer
from diffc_jax.training.state import TrainState, init_state
from diffc_jax.training.step import TimeRanges, make_train_step
from diffc_jax.training.task import Update

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

    def state_template(self) -> TrainState:
        """Shapes, types and shardings of the state."""
        return self._template

    @functools.cached_property
    def _template(self) -> TrainState:
        shapes = jax.eval_shape(self._init_state, self.model.statistics)
        shardings = dataclasses.replace(
            sharding.split_parameters(self.mesh, shapes),
            # Small, and used with every image.
            fixed=jax.tree.map(lambda _: sharding.replicated(self.mesh), shapes.fixed),
        )
        return sharding.as_template(shapes, shardings)

    def fresh_state(self, source: data.ImageSource) -> TrainState:
        """The state before the first step; fits what the model needs to know about the data."""
        template = self.state_template()
        initial = statistics = None
        if path := self.config.train.init_params:
            logging.info("starting from %s", path)
            weights = files.as_path(path)
            # The noise levels may be others than those that it was trained for.
            card = {name: of for name, of in read_history(weights).items() if name == "model"}
            defaults = default_fields(self.config.model.name)
            run_config.check_same_weights(self.config, card, weights, "train.init_params", defaults)
            tree = parameter_tree(template.params, template.fixed)
            initial = load_params(weights, tree)
            noise_range(self.schedule, initial["params"]["schedule"], path)
        if initial is not None:
            statistics = initial["fixed"] or None
        elif self.model.statistics is not None:
            logging.info("fitting a Gaussian to %d images", len(source))
            batches = data.eval_batches(source, batch_size=_STATISTICS_BATCH)
            statistics = fit_statistics(batch["image"][batch["mask"]] for batch in batches)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, template)
        state = sharding.run_once(self._init_state, shardings, statistics)
        if initial is None:
            return state
        copies = {
            name: jax.device_put(initial["params"], getattr(shardings, name))
            for name in ("params", "ema", "second_ema")
            if getattr(state, name) is not None
        }
        return dataclasses.replace(state, **copies)

    def update(self, num_steps: int) -> Update:
        """`make_train_step` for a run of `num_steps`, or of one with an open end, if that is 0."""
        train = self.config.train
        return make_train_step(
            self.model,
            self.schedule,
            make_optimizer(train, num_steps),
            train.ema_decay,
            self.config.seed,
            self.mesh,
            train.accumulation_steps,
            train.low_rate_emphasis,
            time_ranges(self.config),
            train.second_ema_decay,
        )

    def train_step(self, num_steps: int) -> jax.stages.Wrapped:
        """`update`, compiled for the mesh; the old state is given up."""
        return sharding.compile_step(self.update(num_steps), self.state_template(), self.mesh)

    def _init_state(self, statistics: Statistics | None) -> TrainState:
        train = self.config.train
        return init_state(
            self.model,
            self.schedule,
            # The layout of the optimiser's state does not depend on the number of steps.
            make_optimizer(train, num_steps=1),
            self.config.seed,
            statistics,
            second_average=train.second_ema_decay > 0.0,
            limited_time=train.max_seconds > 0.0,
        )


def time_ranges(config: ConfigDict) -> TimeRanges | None:
    """The times at which training images are used; None if that is all for all of them."""
    low, high = config.schedule.gamma_min, config.schedule.gamma_max
    first, last = tuple(config.train.gamma_range) or (low, high)
    gammas = [
        first if source.get("min_gamma") is None else source.min_gamma
        for source in training_sources(config)
    ]
    if (min(gammas), max(gammas), last) == (low, low, high):
        return None
    times = [(gamma - low) / (high - low) for gamma in (*gammas, last)]
    return TimeRanges(batch_composition(config), tuple(times[:-1]), times[-1])


def open_source(config: ConfigDict, split: str) -> data.ImageSource:
    """Opens config.data.eval, or the clean source of config.data.train; errors as of `open_spec`."""
    source = clean_source(config) if split == "train" else config.data[split]
    return open_spec(config, source, f"data.{split}")


def open_reference(config: ConfigDict) -> data.StoredImages | None:
    """Opens config.data.reference; None where no distances are asked for, or none from other files."""
    if config.eval.features and config.data.reference.source not in ("", REST):
        return open_spec(config, config.data.reference, "data.reference")
    return None


def open_spec(config: ConfigDict, source: ConfigDict, field: str) -> data.StoredImages:
    """Opens one source, given by its fields; `field` is where in the config they are.

    What a mixture says of it, how often and at which noise levels it is used, is left aside.

    Raises:
        UsageError: a field of it that cannot be used.
        InputError: a file that cannot.
    """
    fields = {name: value for name, value in source.items() if name not in MIXTURE_FIELDS}
    try:
        return data.open_source(data.SourceSpec(image_size=config.data.image_size, **fields))
    except UsageError as error:
        # The size is common to all sources.
        raise error.in_group("data" if error.field == "image_size" else field) from error


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
        schedule=schedule_from_fields(config.schedule.to_dict()),
    )
