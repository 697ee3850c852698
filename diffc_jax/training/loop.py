"""The training loop: `train(trainee, workdir)` starts or resumes a run; both are the same call."""

import contextlib
import math
from collections.abc import Callable

import jax
from absl import logging
from ml_collections import ConfigDict

from diffc_jax import data, distributed, pictures
from diffc_jax.environment import write_environment
from diffc_jax.errors import PreemptedError, UsageError
from diffc_jax.files import AnyPath
from diffc_jax.training import preemption, run_config, sharding
from diffc_jax.training.checkpoints import Checkpoints
from diffc_jax.training.experiment import open_source
from diffc_jax.training.export import export_params
from diffc_jax.training.meter import Meter
from diffc_jax.training.trainee import State, Trainee
from diffc_jax.training.writers import MetricWriter, SilentWriter


def train(trainee: Trainee, workdir: AnyPath) -> None:
    """Trains a model, from its newest checkpoint if there is one.

    Writes config.json, metrics.jsonl, tensorboard/, samples/, checkpoints/ and, at the end,
    params.safetensors with its card params.json. A model without trained parameters (a fitted Gaussian) is
    written in the same way, as step 0.

    Args:
        trainee: the model.
        workdir: folder of the run.

    Raises:
        UsageError: a config that cannot be used, or another one than the folder was made with.
        InputError: data that cannot be read.
        DivergedError: a metric of a step is not finite, or shows failure; earlier checkpoints are kept.
        PreemptedError: SIGTERM came; the run is saved.
    """
    with preemption.watching(trainee.mesh) as preempted:
        _train(trainee, workdir, preempted)


def _train(trainee: Trainee, workdir: AnyPath, preempted: Callable[[], bool]) -> None:
    config, mesh = trainee.config, trainee.mesh
    sharding.check_batch_size(
        "train.batch_size", config.train.batch_size, mesh, config.train.accumulation_steps
    )
    source = open_source(config, "train")
    template = trainee.state_template()
    trainable = trainee.count_trained()
    num_steps = num_train_steps(config.train, len(source)) if trainable else 0
    evaluate = trainee.held_out_evaluation()
    run_config.claim_workdir(config, workdir, write=distributed.is_primary())
    if distributed.is_primary():
        write_environment(workdir)

    checkpoints = Checkpoints(workdir, config.train.keep_checkpoints)
    # Where a run starts, in this order: its own newest checkpoint, then scratch.
    spent = {"seconds": 0.0, "cpu_seconds": 0.0}
    if checkpoints.latest_step() is not None:
        state, progress = checkpoints.restore(template)
        if progress["num_images"] != len(source):
            raise UsageError(
                f"data.train: has {len(source)} images now and had {progress['num_images']} when the"
                " run was saved; its order cannot be continued. Use the old data or another --workdir"
            )
        spent = {name: progress[name] for name in spent}
    else:
        state = trainee.fresh_state(source)
    first_step = int(state.step)
    logging.info(
        "%s with %d trained parameters, %d images (%s), %d devices of %d processes; from step %d to %d",
        config.model.name,
        trainable,
        len(source),
        source.name,
        mesh.size,
        jax.process_count(),
        first_step,
        num_steps,
    )

    iterator = data.train_iterator(
        source,
        batch_size=config.train.batch_size,
        seed=config.seed,
        flip=config.data.random_flip,
        rows=sharding.process_rows(mesh, config.train.batch_size),
        first_batch=first_step,
        num_threads=config.data.num_threads,
    )
    writer = MetricWriter(workdir, first_step) if distributed.is_primary() else SilentWriter()
    meter = Meter(
        first_step, num_steps, config.train.batch_size, **spent, summarise=trainee.summarise
    )
    train_steps = trainee.train_steps(num_steps)

    def save() -> None:
        writer.sync()
        checkpoints.save(state, {"num_images": len(source)} | meter.spent())

    def report_held_out(step: int) -> None:
        with meter.paused():
            held_out = evaluate(state)
            writer.scalars(step, {f"eval/{name}": v for name, v in held_out.values.items()})
            writer.image(step, "samples", held_out.picture)
            if distributed.is_primary():
                pictures.save_png(held_out.picture, workdir / "samples" / f"{step:08d}.png")
        logging.info("step %d: %s on held-out images", step, held_out.summary)

    with checkpoints, contextlib.closing(writer):
        for step in range(first_step + 1, num_steps + 1):
            pixels = sharding.put_batch(mesh, {"image": next(iterator)["image"]})["image"]
            state, metrics = train_steps(step)(state, pixels)
            meter.add(metrics)
            due = {
                name: step == num_steps or step % config.train[f"{name}_every_steps"] == 0
                for name in ("log", "eval", "checkpoint")
            }
            leaving = preempted() and step < num_steps
            # A checkpoint is only written after its metrics were found finite.
            if any(due.values()) or leaving:
                writer.scalars(step, {f"train/{k}": v for k, v in meter.report().items()})
            if due["eval"]:
                report_held_out(step)
            if due["checkpoint"] or leaving:
                save()
            if leaving:
                checkpoints.wait()
                raise PreemptedError(
                    f"--workdir {workdir}: stopped by SIGTERM and saved after step {step} of {num_steps};"
                    " run the same command again to go on"
                )
        if checkpoints.latest_step() is None:
            report_held_out(first_step)
            save()
        checkpoints.wait()
    _export(trainee, state, source, meter.spent(), workdir)


def num_train_steps(train_config: ConfigDict, num_images: int) -> int:
    """The duration of training in steps, from whichever of the three fields is given.

    Raises:
        UsageError: none or several of them are positive.
    """
    batch_size = train_config.batch_size
    examples = {
        "train.num_steps": train_config.num_steps * batch_size,
        "train.num_epochs": train_config.num_epochs * num_images,
        "train.num_examples": train_config.num_examples,
    }
    given = [field for field, count in examples.items() if count > 0]
    if len(given) != 1:
        raise UsageError(
            f"{' and '.join(given) or 'train.num_steps'}: set exactly one of {', '.join(examples)}"
            " to a positive number"
        )
    return math.ceil(examples[given[0]] / batch_size)


def _export(
    trainee: Trainee,
    state: State,
    source: data.ImageSource,
    spent: dict[str, float],
    workdir: AnyPath,
) -> None:
    tree, fields = trainee.export(state)
    if not distributed.is_primary():
        return
    config = trainee.config
    card = fields | {
        "image_size": config.data.image_size,
        "dataset": source.name,
        "split": source.split,
        "steps": int(state.step),
        "images_seen": int(state.step) * config.train.batch_size,
        **{f"train_{name}": value for name, value in spent.items()},
        "seed": config.seed,
    }
    export_params(workdir / "params.safetensors", tree, card)
