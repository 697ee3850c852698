"""Trackers that training reports to besides the folder of the run: Weights & Biases and MLflow.

Where a tracker lies, and under which project, its own environment variables say. W/trackers.json keeps the
names that the trackers have for the run, so that a resumed run goes on in the same place.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from absl import logging
from jaxtyping import UInt8

from diffc_jax.errors import InputError, PreemptedError
from diffc_jax.runtime.files import AnyPath, is_remote, read_json, write_json
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.parsing import one_line
from diffc_jax.runtime.run_config import flatten

# Project or experiment of runs for which the environment names none.
_PROJECT = "diffc_jax"
# What MLflow takes in one call.
_MOST_PARAMS = 100
# Of an MLflow run: the last step that it has metrics of.
_LAST_STEP = "diffc_jax.last_step"


@runtime_checkable
class Tracker(Protocol):
    """A tracker with a run open in it; any method may raise any error.

    Attributes:
        run_id: by which the tracker finds this run again.
    """

    run_id: str

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Sends finite numbers; those of steps before one that it already has are dropped."""

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Sends an image."""

    def summary(self, step: int, values: Mapping[str, Any]) -> None:
        """Sends what is known at the end of the run, after its last step."""

    def close(self, exit_code: int) -> None:
        """Ends the run with the exit code of the program."""


class Trackers:
    """Several trackers as one. One that fails is left out from then on: training goes on without it."""

    def __init__(self, trackers: Mapping[str, Tracker] | None = None):
        self._working = dict(trackers or {})

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.scalars(step, values))

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.image(step, name, image))

    def summary(self, step: int, values: Mapping[str, Any]) -> None:
        """See `Tracker`."""
        flat = _flat(values)
        self._each(lambda tracker: tracker.summary(step, flat))

    def close(self, exit_code: int) -> None:
        """See `Tracker`."""
        self._each(lambda tracker: tracker.close(exit_code))

    def _each(self, send: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._working.items()):
            try:
                send(tracker)
            except Exception as error:  # theirs: a server that is gone, a full account, ...
                del self._working[name]
                logging.warning(
                    "train.trackers: %s failed (%s); training goes on without it",
                    name,
                    one_line(error),
                )


def open_trackers(names: Sequence[str], workdir: AnyPath, config: Mapping[str, Any]) -> Trackers:
    """Opens a run in each tracker, or goes on with the one that the folder's run has there.

    Args:
        names: of the trackers, of `config.base.TRACKERS`.
        workdir: folder of the run.
        config: of the run, nested.

    Raises:
        InputError: a package is missing, a tracker refuses, or trackers.json is damaged.
    """
    path = workdir / "trackers.json"
    fix = "delete it to begin new runs in the trackers"
    run_ids = read_json(path, dict[str, str], fix) if names and path.exists() else {}
    opened: dict[str, Tracker] = {}
    for name in names:
        module = require(name)
        try:
            opened[name] = _OPENERS[name](module, workdir, _flat(config), run_ids.get(name))
        except Exception as error:
            Trackers(opened).close(InputError.exit_code)
            known = f", which knows this run as {run_ids[name]} ({path})" if name in run_ids else ""
            raise InputError(
                f"train.trackers: {name}{known}, refuses: {one_line(error)}; mend that, or leave "
                f"{name!r} out"
            ) from error
        if run_ids.get(name) != opened[name].run_id:
            run_ids[name] = opened[name].run_id
            write_json(path, run_ids)
    return Trackers(opened)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values by the names of config flags, with "a.0.b" for "a[0].b": brackets are not allowed."""
    return {
        name.replace("[", ".").replace("]", ""): value for name, value in flatten(values).items()
    }


class _WeightsAndBiases:
    def __init__(self, wandb: Any, workdir: AnyPath, config: Mapping[str, Any], run_id: str | None):
        self.run_id = run_id or secrets.token_hex(4)
        self._wandb = wandb
        self._run = wandb.init(
            id=self.run_id,
            resume="allow",
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            name=os.environ.get("WANDB_NAME", workdir.name),
            dir=None if is_remote(workdir) else str(workdir),
        )
        # A resumed run may have other values, such as more steps.
        self._run.config.update(dict(config), allow_val_change=True)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        self._run.log({name: self._wandb.Image(image)}, step=step)

    def summary(self, step: int, values: Mapping[str, Any]) -> None:  # noqa: ARG002
        self._run.summary.update({f"final/{name}": value for name, value in values.items()})

    def close(self, exit_code: int) -> None:
        self._run.finish(exit_code=exit_code)


class _MLflow:
    def __init__(
        self, mlflow: Any, workdir: AnyPath, config: Mapping[str, Any], run_id: str | None
    ):
        self._entities = require("mlflow.entities")
        self._client = client = mlflow.MlflowClient()
        self._last_step = 0
        if run_id is None:
            experiment = _experiment_id(client)
            self.run_id = client.create_run(experiment, run_name=workdir.name).info.run_id
        else:
            self.run_id = run_id
            client.update_run(run_id, status="RUNNING")
            self._last_step = int(client.get_run(run_id).data.tags.get(_LAST_STEP, 0))
        with contextlib.ExitStack() as undo:
            # The caller does not learn of a run that is not set up, which would stay open for good.
            undo.callback(client.set_terminated, self.run_id, "FAILED")
            if run_id is None:
                params = [self._entities.Param(name, str(value)) for name, value in config.items()]
                for some in _parts(params, _MOST_PARAMS):
                    client.log_batch(self.run_id, params=some)
            # Parameters never change there; a resumed run may have other values, such as more steps.
            client.log_dict(self.run_id, dict(config), "config.json")
            undo.pop_all()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        if step < self._last_step:
            return
        self._last_step = step
        tag = self._entities.RunTag(_LAST_STEP, str(step))
        self._client.log_batch(self.run_id, self._metrics(step, values), tags=[tag])

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w 3"]) -> None:
        self._client.log_image(self.run_id, image, f"{name}/{step:08d}.png")

    def summary(self, step: int, values: Mapping[str, Any]) -> None:
        numbers = {
            f"final/{name}": float(value)
            for name, value in values.items()
            if isinstance(value, int | float)
        }
        self._client.log_batch(self.run_id, self._metrics(step, numbers))
        self._client.log_dict(self.run_id, dict(values), "summary.json")

    def close(self, exit_code: int) -> None:
        ends = {0: "FINISHED", PreemptedError.exit_code: "KILLED"}
        self._client.set_terminated(self.run_id, ends.get(exit_code, "FAILED"))

    def _metrics(self, step: int, values: Mapping[str, float]) -> list[Any]:
        now = time.time_ns() // 1_000_000
        return [self._entities.Metric(name, value, now, step) for name, value in values.items()]


def _experiment_id(client: Any) -> str:
    """Finds the experiment that the environment names, or makes it."""
    if number := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        return number
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
    experiment = client.get_experiment_by_name(name)
    return client.create_experiment(name) if experiment is None else experiment.experiment_id


def _parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


_OPENERS: Mapping[str, Callable[[Any, AnyPath, Mapping[str, Any], str | None], Tracker]] = {
    "wandb": _WeightsAndBiases,
    "mlflow": _MLflow,
}
