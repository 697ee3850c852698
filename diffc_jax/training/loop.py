"""The training loop: `train(task, workdir)` starts or resumes a run; both are the same call."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import jax
from absl import logging

from diffc_jax.errors import PreemptedError
from diffc_jax.runtime import images, multihost, run_config, sharding
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.runtime.environment import write_environment
from diffc_jax.runtime.export import export_params
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.writers import MetricWriter, SilentWriter
from diffc_jax.training.duration import TimeLimit, make_time_limit, num_train_steps
from diffc_jax.training.feed import Runner, TrainingSet, make_batches, open_training_set
from diffc_jax.training.meter import Meter
from diffc_jax.training.task import State, Task, Update, Validation


def train(task: Task, workdir: AnyPath) -> None:
    """Trains a model, from its newest checkpoint if there is one.

    Writes config.json, metrics.jsonl, tensorboard/, samples/, checkpoints/ and, at the end,
    params.safetensors with its card params.json. A model without trained parameters (a fitted Gaussian) is
    written in the same way, as step 0.

    Args:
        task: the model.
        workdir: folder of the run.

    Raises:
        UsageError: a config that cannot be used, or another one than the folder was made with.
        InputError: data that cannot be read.
        DivergedError: a metric of a step is not finite, or shows failure; earlier checkpoints are kept.
        PreemptedError: SIGTERM came; the run is saved.
    """
    begin = time.monotonic()
    config, mesh = task.config, task.mesh
    sharding.check_batch_size(
        "train.batch_size", config.train.batch_size, mesh, config.train.accumulation_steps
    )
    with multihost.watching_for_sigterm(mesh) as preempted:
        training_set = open_training_set(config)
        template = task.state_template()
        trainable = task.count_trained()
        if trainable and config.data.placement == "host":
            require("grain")  # said now, not when the first batch is due
        num_steps = num_train_steps(config.train, len(training_set)) if trainable else 0
        evaluate = task.make_validation()
        run_config.claim_workdir(config, workdir, write=multihost.is_primary())
        if multihost.is_primary():
            write_environment(workdir)

        checkpoints = Checkpoints(workdir, config.train.keep_checkpoints)
        state, progress = _first_state(task, checkpoints, template, training_set)
        first_step = int(state.step)
        limit = None
        if trainable and not num_steps:
            limit = make_time_limit(config.train, progress, begin)
            num_steps = limit.end or 0
        logging.info(
            "%s with %d trained parameters, %d images (%s), %d devices of %d processes; from step %d to %s",
            config.model.name,
            trainable,
            len(training_set),
            training_set.name,
            mesh.size,
            jax.process_count(),
            first_step,
            num_steps if limit is None else f"the end of {config.train.max_seconds:g} s",
        )
        writer = MetricWriter(workdir, first_step) if multihost.is_primary() else SilentWriter()
        meter = Meter(
            first_step,
            num_steps,
            config.train.batch_size,
            seconds=progress.get("seconds", 0.0),
            cpu_seconds=progress.get("cpu_seconds", 0.0),
            summarise=task.summarise,
            limit=config.train.max_seconds,
        )
        with checkpoints, contextlib.closing(writer):
            run = _Run(task, workdir, training_set, checkpoints, writer, meter, evaluate, limit)
            if limit is not None and not num_steps:
                # How long this takes, once it is compiled, has to be known before the time is nearly over.
                evaluate(state)
                run.report_validation(first_step, state)
            if first_step < num_steps or (limit is not None and not num_steps):
                state = run.steps(state, first_step, num_steps, preempted)
            if checkpoints.latest_step() is None:
                run.report_validation(first_step, state)
                run.save(state)
            checkpoints.wait()
        _export(task, state, training_set, evaluate, meter.spent(), workdir)


def _first_state(
    task: Task, checkpoints: Checkpoints, template: State, training_set: TrainingSet
) -> tuple[State, dict[str, Any]]:
    """The state that a run starts from, and what its newest checkpoint says about the time before.

    That is, in this order: its own newest checkpoint, config.train.init_params, scratch.
    """
    if checkpoints.latest_step() is None:
        return task.fresh_state(training_set.clean), {}
    state, progress = checkpoints.restore(template)
    training_set.check_unchanged(progress["num_images"])
    return state, progress


class _Run:
    """The steps of a run, and what is done between them."""

    def __init__(
        self,
        task: Task,
        workdir: AnyPath,
        training_set: TrainingSet,
        checkpoints: Checkpoints,
        writer: MetricWriter | SilentWriter,
        meter: Meter,
        evaluate: Callable[[State], Validation],
        limit: TimeLimit | None,
    ):
        self._task, self._workdir, self._training_set = task, workdir, training_set
        self._checkpoints, self._writer, self._meter = checkpoints, writer, meter
        self._evaluate, self._limit = evaluate, limit
        self._train = task.config.train

    def save(self, state: State) -> None:
        """Begins a checkpoint."""
        self._writer.sync()
        progress: dict[str, Any] = {"num_images": len(self._training_set)} | self._meter.spent()
        if self._limit is not None:
            progress |= {"limit_seconds": self._limit.spent, "end": self._limit.end}
        self._checkpoints.save(state, progress)

    def report_validation(self, step: int, state: State) -> None:
        """Evaluates validation images and writes what they give."""
        begin = time.monotonic()
        with self._meter.paused():
            validation = self._evaluate(state)
            values = {f"eval/{name}": v for name, v in validation.values.items()}
            self._writer.scalars(step, values)
            self._writer.image(step, "samples", validation.image)
            if multihost.is_primary():
                path = self._workdir / "samples" / f"{step:08d}.png"
                images.save_png(validation.image, path)
        if self._limit is not None:
            self._limit.evaluated(time.monotonic() - begin)
        logging.info("step %d: %s on validation images", step, validation.summary)

    def steps(
        self, state: State, first_step: int, num_steps: int, preempted: Callable[[], bool]
    ) -> State:
        """Runs the steps after `first_step` up to `num_steps`, or up to the limit of time if that is 0."""
        task, meter = self._task, self._meter
        template = task.state_template()
        batches = make_batches(self._training_set, task.config, template, task.mesh, first_step)
        runner = Runner(batches, template, task.mesh)
        # In a run with a limit of time the updates do not know its end; the state does.
        update_at = task.train_steps(0 if self._limit is not None else num_steps)

        step = first_step
        count, update = self._next_call(update_at, step, num_steps)
        coming = runner.take(step, count)
        before: tuple[int, Any] | None = None
        while True:
            with meter.on_devices():
                state, metrics = runner.run(update, state, coming)
            meter.add(metrics)
            step, last = step + count, step
            if self._limit is not None and not num_steps:
                num_steps, state = self._check_time(before, (step, metrics), state)
                before = (step, metrics)
            ended = step == num_steps
            if not ended:
                # Prepared while the devices work on this call.
                count, update = self._next_call(update_at, step, num_steps)
                coming = runner.take(step, count)
            due = {
                name: ended or step // self._train[name] > last // self._train[name]
                for name in ("log_every_steps", "eval_every_steps", "checkpoint_every_steps")
            }
            leaving = preempted() and not ended
            # A checkpoint is only written after its metrics were found finite.
            if any(due.values()) or leaving:
                self._writer.scalars(step, {f"train/{k}": v for k, v in meter.report().items()})
            if due["eval_every_steps"]:
                self.report_validation(step, state)
            if due["checkpoint_every_steps"] or leaving:
                self.save(state)
            if leaving:
                self._checkpoints.wait()
                raise PreemptedError(
                    f"--workdir {self._workdir}: stopped by SIGTERM and saved after step {step} of"
                    f" {num_steps or 'a run with a limit of time'}; run the same command again to go on"
                )
            if ended:
                return state

    def _next_call(
        self, update_at: Callable[[int], Update], step: int, num_steps: int
    ) -> tuple[int, Update]:
        """Number of steps in the call after `step`, all with the same update; and that update."""
        update = update_at(step + 1)
        count = self._train.steps_per_call
        if num_steps:
            count = min(count, num_steps - step)
        while update_at(step + count) is not update:
            count -= 1
        return count, update

    def _check_time(
        self, before: tuple[int, Any] | None, now: tuple[int, Any], state: State
    ) -> tuple[int, State]:
        """Waits for the call before this one, and lets the decay begin if it is time for that.

        Returns:
            The number of steps of the run, 0 as long as it is open; and the state.
        """
        assert self._limit is not None
        ordered = now[0]
        # The first call compiles: nothing is known before it has ended.
        step, metrics = before or now
        with self._meter.on_devices():
            jax.block_until_ready(metrics)
        length = self._limit.finished(step, ordered)
        if length is None:
            return 0, state
        self._meter.set_end(ordered + length)
        return ordered + length, self._task.begin_decay(state, length) if length else state


def _export(
    task: Task,
    state: State,
    training_set: TrainingSet,
    evaluate: Callable[[State], Validation],
    spent: dict[str, float],
    workdir: AnyPath,
) -> None:
    tree, fields = task.export(state, evaluate)
    if not multihost.is_primary():
        return
    config = task.config
    card = fields | {
        "image_size": config.data.image_size,
        "dataset": training_set.name,
        "split": training_set.split,
        "steps": int(state.step),
        "images_seen": int(state.step) * config.train.batch_size,
        **{f"train_{name}": value for name, value in spent.items()},
        "seed": config.seed,
    }
    export_params(workdir / "params.safetensors", tree, card)
