"""The trained model that an evaluation is about, and what its training has cost."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, PyTree
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.diffusion.schedules import Schedule
from diffc_jax.models import Model, Variables, model_variables
from diffc_jax.models.parameters import parameter_tree
from diffc_jax.runtime import files, run_config
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.runtime.export import load_params, read_card
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.sharding import even_batch_size, put_batch
from diffc_jax.training.experiment import build_experiment
from diffc_jax.training.state import TrainState, count_parameters
from diffc_jax.training.validation import average_elbo, evaluate_elbo, make_estimate

_SECONDS_PER_HOUR = 3600.0


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
        costs: `trained_parameters`, `images_seen` and `train_cpu_hours` as columns of results, those that
            are known.
    """

    model: Model
    schedule: Schedule
    description: Mapping[str, Any]
    mesh: Mesh
    state: TrainState
    name: str
    costs: Mapping[str, int | float]

    @property
    def variables(self) -> Variables:
        """The variables of the denoiser."""
        return model_variables(self.state.ema, self.state.fixed)

    def gammas(self, n_steps: int) -> Float[np.ndarray, " n"]:
        """The noise levels of a chain of `n_steps` steps from t = 1 to 0, evenly spaced in time."""
        times = jnp.linspace(1.0, 0.0, n_steps + 1)
        return np.asarray(self.schedule.gamma(self.state.ema["schedule"], times), np.float64)

    def place(self, batch: PyTree) -> PyTree:
        """Splits arrays of a batch over the devices."""
        return put_batch(self.mesh, batch)

    def elbo(
        self,
        images: data.ImageSource,
        sets: Sequence[range],
        batch_size: int,
        n_draws: int,
        seed: int,
    ) -> list[dict[str, float]]:
        """The negative ELBO of each set of images, from `n_draws` times of each image.

        All processes compute it together, `batch_size` images at once, rounded up to divide among the
        devices. `training.validation.average_elbo` gives it in continuous time, its standard error, and its
        terms, bits/dim.
        """
        count = jax.process_count()
        batches = data.eval_batches(
            images,
            batch_size=even_batch_size(batch_size, self.mesh) // count,
            shard_index=jax.process_index(),
            shard_count=count,
        )
        estimate = make_estimate(self.model, self.schedule, seed, self.mesh)
        elbo = evaluate_elbo(estimate, self.state, batches, self.mesh, n_draws)
        return [
            average_elbo({name: values[one.start : one.stop] for name, values in elbo.items()})
            for one in sets
        ]


def load_trained(config: ConfigDict, workdir: AnyPath) -> Trained:
    """Reads the exported file that config.eval.params names, else the newest checkpoint of the run.

    Raises:
        UsageError: a field of the model that cannot be used, or the run in the folder, or the card of the
            file, is of another model.
        InputError: no checkpoint or file, or a damaged one.
    """
    experiment = build_experiment(config)
    template = experiment.state_template()
    if config.eval.params:
        params = files.as_path(config.eval.params)
        spent = read_card(params)
        run_config.check_same_weights(config, spent, params)
        tree = load_params(params, parameter_tree(template.ema, template.fixed))
        state = dataclasses.replace(template, ema=tree["params"], fixed=tree["fixed"])
        name = params.name
    else:
        run_config.check_same_model(config, workdir)
        checkpoints = Checkpoints(workdir)
        try:
            state, progress = checkpoints.restore(template)
        finally:
            checkpoints.close()
        batch_size = files.read_json(run_config.config_path(workdir))["train"]["batch_size"]
        name, spent = (
            f"step {int(state.step)}",
            {
                "images_seen": int(state.step) * batch_size,
                "train_cpu_seconds": progress.get("cpu_seconds"),
            },
        )
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
        costs=_costs(count_parameters(template.params["model"]), spent),
    )


def _costs(n_parameters: int, spent: Mapping[str, Any]) -> dict[str, int | float]:
    if not n_parameters:
        return {}
    seconds = spent.get("train_cpu_seconds")
    costs = {
        "trained_parameters": n_parameters,
        "images_seen": spent.get("images_seen"),
        "train_cpu_hours": None if seconds is None else seconds / _SECONDS_PER_HOUR,
    }
    return {name: cost for name, cost in costs.items() if cost is not None}
