"""The training loop: `train(task, workdir)` starts or resumes a run; both are the same call."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from diffc_jax.config.sources import plain
from diffc_jax.errors import PreemptedError
from diffc_jax.models import default_fields
from diffc_jax.runtime import images, lock, multihost, run_config, sharding
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.runtime.environment import accelerator, write_environment
from diffc_jax.runtime.export import export_params
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.trackers import open_trackers
from diffc_jax.runtime.writers import MetricWriter
from diffc_jax.training.duration import TimeLimit, make_time_limit, num_train_steps
from diffc_jax.training.feed import Runner, TrainingSet, make_batches, open_training_set
from diffc_jax.training.meter import Meter
from diffc_jax.training.restoring import restore
from diffc_jax.training.task import State, Task, Update, Validation


def train(task: Task, workdir: AnyPath) -> None:
    """Trains a model, from its newest checkpoint if there is one.

    Writes config.json, metrics.jsonl, tensorboard/, samples/, checkpoints/ and, at the end,
    params.safetensors with its card params.json. A model without trained parameters (a fitted Gaussian) is
    written in the same way, as step 0.

    Raises:
        UsageError: a config that cannot be used, or another one than the folder was made with.
        InputError: data that cannot be read.
        DivergedError: a metric of a step is not finite, or shows failure; earlier checkpoints are kept.
        PreemptedError: SIGTERM or Ctrl-C came; the run is saved.
    """
    begin = time.monotonic()
    config, mesh = task.config, task.mesh
    sharding.check_batch_size(
        "train.batch_size", config.train.batch_size, mesh, config.train.accumulation_steps
    )
    with multihost.watching_for_signals(mesh) as preempted:
        training_set = open_training_set(config)
        template = task.state_template()
        trainable = task.count_trained()
        if trainable and config.data.placement == "host":
            require("grain")  # said now, not when the first batch is due
        for tracker in config.train.trackers:
            require(tracker)
        num_steps = num_train_steps(config.train, len(training_set)) if trainable else 0
        evaluate = task.make_validation()
        defaults = default_fields(config.model.name)
        run_config.claim_workdir(config, workdir, write=False, model_defaults=defaults)
        images = training_set.identity()
        checkpoints = Checkpoints(workdir, config.train.keep_checkpoints)
        is_resumed = checkpoints.latest_step() is not None
        if not is_resumed:
            state, progress = task.fresh_state(training_set.clean), dict[str, Any]()
        else:
            state, progress = restore(checkpoints, template)
            training_set.check_unchanged(images, progress)
        if multihost.is_primary():
            run_config.claim_workdir(config, workdir, model_defaults=defaults)
            write_environment(workdir)
        first_step = int(state.step)
        limit = None
        if trainable and not num_steps:
            limit = make_time_limit(config.train, progress, begin)
            num_steps = limit.end or 0
        logging.info(
            "%s with %d trained parameters, %d images (%s), %d devices of %d processes; %s",
            config.model.name,
            trainable,
            len(training_set),
            training_set.name,
            mesh.size,
            jax.process_count(),
            _describe_extent(config.train, trainable, first_step, num_steps),
        )
        writer = None
        if multihost.is_primary():
            trackers = open_trackers(config.train.trackers, workdir, plain(config))
            # Without a checkpoint even what was written before the first step is written again.
            writer = MetricWriter(workdir, first_step if is_resumed else -1, trackers)
        meter = Meter(
            first_step,
            num_steps,
            config.train.batch_size,
            seconds=progress.get("seconds", 0.0),
            cpu_seconds=progress.get("cpu_seconds", 0.0),
            summarise=task.summarise,
            limit=limit,
        )
        with checkpoints, writer or contextlib.nullcontext():
            run = _Run(
                task, workdir, training_set, images, checkpoints, writer, meter, evaluate, limit
            )
            if limit is not None and not num_steps:
                # How long this takes, once it is compiled, has to be known before the time is nearly over.
                with meter.paused():
                    evaluate(state)
                if is_resumed:
                    run.time_validation(state)  # its values are known, or not due
                else:
                    run.report_validation(first_step, state)
            if first_step < num_steps or (limit is not None and not num_steps):
                state = run.steps(state, first_step, num_steps, preempted)
            if checkpoints.latest_step() is None:
                run.report_validation(first_step, state)
                run.save(state)
            checkpoints.wait()
            _export(task, state, training_set, evaluate, meter.spent(), workdir, writer)


def _describe_extent(train: ConfigDict, trainable: int, first_step: int, num_steps: int) -> str:
    """Which steps will be run; `num_steps` is 0 where time is the limit and the last step not known."""
    if trainable and train.max_seconds and not num_steps:
        return f"from step {first_step} to the end of {train.max_seconds:g} s"
    # An end that was chosen to suit a limit stays, since the learning rate decays towards it.
    fixed = ""
    if trainable and train.max_seconds:
        fixed = (
            f"; {num_steps} was fixed as the last step when time was nearly over, and a larger"
            " train.max_seconds does not move it: to train longer, set train.num_steps instead"
        )
    if not trainable or first_step < num_steps:
        return f"from step {first_step} to {num_steps}{fixed}"
    beyond = f", beyond the {num_steps} that are asked for" if first_step > num_steps else ""
    return f"already at step {first_step}{beyond}: nothing is trained, step {first_step} is exported{fixed}"


@dataclasses.dataclass(frozen=True)
class _Run:
    """The steps of a run, and what is done between them; only one of several processes has a writer."""

    task: Task
    workdir: AnyPath
    training_set: TrainingSet
    images: dict[str, Any]
    checkpoints: Checkpoints
    writer: MetricWriter | None
    meter: Meter
    evaluate: Callable[[State], Validation]
    limit: TimeLimit | None

    def save(self, state: State) -> None:
        """Begins a checkpoint."""
        lock.check(self.workdir)
        if self.writer is not None:
            self.writer.sync()
        progress: dict[str, Any] = self.images | self.meter.spent() | accelerator()
        if self.limit is not None:
            progress |= {"limit_seconds": self.limit.spent, "end": self.limit.end}
        self.checkpoints.save(state, progress)

    def report_validation(self, step: int, state: State) -> None:
        """Evaluates validation images and writes what they give."""
        begin = time.monotonic()
        with self.meter.paused():
            validation = self.evaluate(state)
            if self.writer is not None:
                values = {f"eval/{name}": v for name, v in validation.values.items()}
                self.writer.scalars(step, values)
                self.writer.image(step, "samples", validation.image)
                path = self.workdir / "samples" / f"{step:08d}.png"
                images.save_png(validation.image, path)
        if self.limit is not None:
            self.limit.evaluated(time.monotonic() - begin)
        logging.info("step %d: %s on validation images", step, validation.summary)

    def time_validation(self, state: State) -> None:
        """Evaluates validation images only to tell the limit of time how long it takes."""
        assert self.limit is not None
        begin = time.monotonic()
        with self.meter.paused():
            self.evaluate(state)
        self.limit.evaluated(time.monotonic() - begin)

    def steps(
        self, state: State, first_step: int, num_steps: int, preempted: Callable[[], bool]
    ) -> State:
        """Runs the steps after `first_step` up to `num_steps`, or up to the limit of time if that is 0."""
        task, train, meter = self.task, self.task.config.train, self.meter
        template = task.state_template()
        batches = make_batches(self.training_set, task.config, template, task.mesh, first_step)
        runner = Runner(batches, template, task.mesh)
        # In a run with a limit of time the updates do not know its end; the state does.
        update_at = task.train_steps(0 if self.limit is not None else num_steps)

        step = first_step
        count, update = self._next_call(update_at, step, num_steps)
        coming = runner.take(step, count)
        before: tuple[int, Any] | None = None
        while True:
            with meter.on_devices():
                state, metrics = runner.run(update, state, coming)
            meter.add(metrics)
            step, last = step + count, step
            if self.limit is not None and not num_steps:
                num_steps, state = self._check_time(before, (step, metrics), state)
                before = (step, metrics)
            ended = step == num_steps
            if not ended:
                # Prepared while the devices work on this call.
                count, update = self._next_call(update_at, step, num_steps)
                coming = runner.take(step, count)
            due = {
                name: ended or step // train[name] > last // train[name]
                for name in ("log_every_steps", "eval_every_steps", "checkpoint_every_steps")
            }
            leaving = preempted() and not ended
            # A checkpoint is only written after its metrics were found finite.
            if any(due.values()) or leaving:
                means = {f"train/{name}": value for name, value in meter.report().items()}
                if self.writer is not None:
                    self.writer.scalars(step, means)
            if due["eval_every_steps"]:
                self.report_validation(step, state)
            if due["checkpoint_every_steps"] or leaving:
                self.save(state)
            if leaving:
                self.checkpoints.wait()
                raise PreemptedError(
                    f"--workdir {self.workdir}: stopped as asked and saved after step {step} of"
                    f" {num_steps or 'a run with a limit of time'}; run the same command again to go on"
                )
            if ended:
                return state

    def _next_call(
        self, update_at: Callable[[int], Update], step: int, num_steps: int
    ) -> tuple[int, Update]:
        """Number of steps in the call after `step`, all with the same update; and that update."""
        update = update_at(step + 1)
        count = self.task.config.train.steps_per_call
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
        assert self.limit is not None
        ordered = now[0]
        # The first call compiles: nothing is known before it has ended.
        step, metrics = before or now
        with self.meter.on_devices():
            jax.block_until_ready(metrics)
        length = self.limit.finished(step, ordered)
        if length is None:
            return 0, state
        self.meter.set_end(ordered + length)
        return ordered + length, self.task.begin_decay(state, length) if length else state


def _export(
    task: Task,
    state: State,
    training_set: TrainingSet,
    evaluate: Callable[[State], Validation],
    spent: dict[str, float],
    workdir: AnyPath,
    writer: MetricWriter | None,
) -> None:
    tree, fields = task.export(state, evaluate)
    if writer is None:
        return
    config = task.config
    card = fields | {
        "image_size": config.data.image_size,
        "dataset": training_set.name,
        "split": training_set.split,
        "steps": int(state.step),
        "images_seen": int(state.step) * config.train.batch_size,
        **{f"train_{name}": value for name, value in (spent | accelerator()).items()},
        "seed": config.seed,
    }
    export_params(workdir / "params.safetensors", tree, card)
    writer.summary(int(state.step), card)
