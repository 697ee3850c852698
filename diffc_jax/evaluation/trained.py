"""The trained model that an evaluation is about, and what its training has cost."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.diffusion.schedules import Schedule, noise_range
from diffc_jax.evaluation.plan import SweepPlan, make_plan
from diffc_jax.evaluation.results import training_costs
from diffc_jax.models import Model, Variables, default_fields, model_variables
from diffc_jax.models.parameters import parameter_tree
from diffc_jax.runtime import files, run_config, sharding
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.runtime.export import Costs, load_params, read_card, read_history
from diffc_jax.runtime.files import AnyPath
from diffc_jax.training.experiment import Experiment
from diffc_jax.training.restoring import restore
from diffc_jax.training.state import TrainState, count_parameters
from diffc_jax.training.validation import NegativeElbo
from diffc_jax.typed import Count


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model with its parameters, and their history.

    Attributes:
        model: the denoiser.
        schedule: of its noise.
        description: "model", "schedule" and "image_size" as in its config.
        mesh: devices that the state is on.
        state: with averaged parameters and fitted constants.
        name: what results call the parameters.
        spent: what its training took, as in the card beside exported parameters.
    """

    model: Model
    schedule: Schedule
    description: Mapping[str, Any]
    mesh: Mesh
    state: TrainState
    name: str
    spent: Mapping[str, Any]

    @functools.cached_property
    def variables(self) -> Variables:
        """The variables of the denoiser, prepared for many calls."""
        return self.model.prepare(model_variables(self.state.ema, self.state.fixed))

    @property
    def costs(self) -> dict[str, int | float]:
        """What its training has cost, as columns of results."""
        return training_costs(count_parameters(self.state.params["model"]), self.spent)

    def on_own_devices(self) -> "Trained":
        """The same with whole parameters on the devices of this process.

        One process alone keeps the mesh of the config.
        """
        if jax.process_count() == 1:
            return self
        mesh = Mesh(np.reshape(jax.local_devices(), (-1, 1)), self.mesh.axis_names)

        def whole(tree: PyTree) -> PyTree:
            gathered = jax.jit(functools.partial(sharding.gather, self.mesh))(tree)
            here = jax.tree.map(lambda leaf: leaf.addressable_data(0), gathered)
            return jax.device_put(here, sharding.replicated(mesh))

        ema, fixed = whole(self.state.ema), whole(self.state.fixed)
        state = dataclasses.replace(self.state, ema=ema, fixed=fixed)
        return dataclasses.replace(self, mesh=mesh, state=state)

    def plan(self, settings: ConfigDict) -> SweepPlan:
        """The sweep that config.eval describes; its chain goes from t = 1 to 0 in even steps of time.

        Raises:
            UsageError: see `make_plan`.
        """
        times = jnp.linspace(1.0, 0.0, settings.rate_steps + 1)
        gammas = self.schedule.gamma(self.state.ema["schedule"], times)
        return make_plan(np.asarray(gammas, np.float64), settings)

    def place(self, batch: PyTree) -> PyTree:
        """Splits arrays of a batch over the devices."""
        return sharding.put_batch(self.mesh, batch)

    def elbo(
        self,
        source: data.ImageSource,
        sets: Sequence[range],
        batch_size: int,
        n_draws: int,
        seed: int,
    ) -> list[dict[str, float]]:
        """The negative ELBO, in continuous time, of each set of images; see `NegativeElbo`.

        All processes compute it together.
        """
        elbo = NegativeElbo(self.model, self.schedule, seed, self.mesh, n_draws=n_draws)
        return elbo(self.state, source, batch_size, sets)


def load_trained(experiment: Experiment, workdir: AnyPath) -> Trained:
    """Reads the exported file that config.eval.params names, else the newest checkpoint of the run.

    Of two averages in a checkpoint it takes the exported one, as far as the run's card says which that is.

    Raises:
        UsageError: the run in the folder, or the card of the file, is of another model.
        InputError: no checkpoint or file, or a damaged one, or a noise schedule that cannot be used.
    """
    config, template = experiment.config, experiment.state_template()
    if config.eval.params:
        params = files.as_path(config.eval.params)
        spent = read_history(params)
        defaults = default_fields(config.model.name)
        run_config.check_same_weights(config, spent, params, model_defaults=defaults)
        tree = load_params(params, parameter_tree(template.ema, template.fixed))
        state = dataclasses.replace(template, ema=tree["params"], fixed=tree["fixed"])
        source, name = str(params), params.name
    else:
        run_config.check_same_model(config, workdir, default_fields(config.model.name))
        # The flags of an evaluation need not repeat how the model was trained.
        as_trained = run_config.as_trained(config, workdir)
        template = dataclasses.replace(experiment, config=as_trained).state_template()
        checkpoints = Checkpoints(workdir)
        try:
            state, progress = restore(checkpoints, template)
        finally:
            checkpoints.close()
        batch_size = run_config.trained_batch_size(workdir)
        spent = {
            "images_seen": int(state.step) * batch_size,
            "train_cpu_seconds": progress.get("cpu_seconds"),
            "train_accelerator": progress.get("accelerator"),
        }
        name = f"step {int(state.step)}"
        if state.second_ema is not None:
            state, decay = _exported_average(state, as_trained.train, workdir)
            name += f" (ema_decay {decay:g})"
        source = f"{workdir}/checkpoints/{int(state.step)}"
    noise_range(experiment.schedule, state.ema["schedule"], source)
    # Programs that contain the network share one trace of it for each shape of a batch.
    model = dataclasses.replace(experiment.model, eps_hat=jax.jit(experiment.model.eps_hat))
    return Trained(
        model=model,
        schedule=experiment.schedule,
        description={
            "model": config.model.to_dict(),
            "schedule": config.schedule.to_dict(),
            "image_size": config.data.image_size,
        },
        mesh=experiment.mesh,
        state=state,
        name=name,
        spent=spent,
    )


class _Choice(Costs, total=False):
    """What the card of a run with two averages says about them."""

    steps: Count
    ema_decay: float


def _exported_average(
    state: TrainState, train: ConfigDict, workdir: AnyPath
) -> tuple[TrainState, float]:
    """The state with the average that training has exported in place of the first, and the decay of it."""
    weights = workdir / "params.safetensors"
    card: dict[str, Any] = {}
    if weights.with_suffix(".json").exists():
        card = read_card(weights, _Choice)
    if card.get("steps") != int(state.step) or "ema_decay" not in card:
        logging.warning(
            "%s: no params.json says which average was exported at step %d; evaluating the first one,"
            " train.ema_decay = %g",
            workdir,
            int(state.step),
            train.ema_decay,
        )
    elif card["ema_decay"] == train.second_ema_decay:
        return dataclasses.replace(state, ema=state.second_ema), train.second_ema_decay
    return state, train.ema_decay
