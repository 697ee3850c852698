"""The trained model that an evaluation is about, and what its training has cost."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from diffc_jax.models.parameters import parameter_tree
from diffc_jax.runtime import files, run_config
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.runtime.export import load_params
from diffc_jax.runtime.files import AnyPath
from diffc_jax.training.experiment import Experiment
from diffc_jax.training.state import TrainState, count_parameters

_SECONDS_PER_HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Trained:
    """Parameters with their history.

    Attributes:
        state: with averaged parameters and fitted constants.
        name: what results call the parameters.
        costs: `trained_parameters`, `images_seen` and `train_cpu_hours` as columns of results, those that
            are known.
    """

    state: TrainState
    name: str
    costs: Mapping[str, int | float]


def load_trained(experiment: Experiment, workdir: AnyPath) -> Trained:
    """Reads the exported file that config.eval.params names, else the newest checkpoint of a run.

    Args:
        experiment: which model.
        workdir: folder of its run.

    Raises:
        UsageError: the run in the folder is of another model.
        InputError: no checkpoint or file, or a damaged one.
    """
    template = experiment.state_template()
    if not experiment.config.eval.params:
        run_config.check_same_model(experiment.config, workdir)
        checkpoints = Checkpoints(workdir)
        try:
            state, progress = checkpoints.restore(template)
        finally:
            checkpoints.close()
        config = files.read_json(run_config.config_path(workdir))
        spent = {
            "images_seen": int(state.step) * config["train"]["batch_size"],
            "train_cpu_seconds": progress.get("cpu_seconds"),
        }
        return Trained(state, f"step {int(state.step)}", _costs(template, spent))
    params = files.as_path(experiment.config.eval.params)
    tree = load_params(params, parameter_tree(template.ema, template.fixed))
    state = dataclasses.replace(template, ema=tree["params"], fixed=tree["fixed"])
    card = params.with_suffix(".json")
    spent = files.read_json(card) if card.exists() else {}
    return Trained(state, params.name, _costs(template, spent))


def _costs(template: TrainState, spent: Mapping[str, Any]) -> dict[str, int | float]:
    count = count_parameters(template.params["model"])
    if not count:
        return {}
    seconds = spent.get("train_cpu_seconds")
    costs = {
        "trained_parameters": count,
        "images_seen": spent.get("images_seen"),
        "train_cpu_hours": None if seconds is None else seconds / _SECONDS_PER_HOUR,
    }
    return {name: cost for name, cost in costs.items() if cost is not None}
