"""The training loop: `train(config, workdir)` starts or resumes a run; both are the same call."""

import contextlib
import math
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Array, UInt8
from ml_collections import ConfigDict

from diffc_jax import data, distributed, pictures, rng
from diffc_jax.diffusion import decoders, process
from diffc_jax.environment import write_environment
from diffc_jax.errors import PreemptedError, UsageError
from diffc_jax.training import preemption, run_config, sharding
from diffc_jax.training.bound_eval import evaluate_bound, make_estimate
from diffc_jax.training.checkpoints import Checkpoints
from diffc_jax.training.experiment import Experiment, build_experiment
from diffc_jax.training.export import export_params
from diffc_jax.training.meter import Meter
from diffc_jax.training.state import (
    TrainState,
    count_parameters,
    model_variables,
)
from diffc_jax.training.writers import MetricWriter, SilentWriter

_SAMPLES = 16
_SAMPLE_COLUMNS = 8
_SAMPLE_STEPS = 50


def train(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Trains the config's model, from its newest checkpoint if there is one.

    Writes config.json, metrics.jsonl, tensorboard/, samples/, checkpoints/ and, at the end,
    params.safetensors with its card params.json. A model without trained parameters (a fitted Gaussian) is
    fitted and written in the same way, as step 0.

    Args:
        config: a validated config.
        workdir: folder of the run.

    Raises:
        UsageError: a config that cannot be used, or another one than the folder was made with.
        InputError: data that cannot be read.
        DivergedError: the loss or gradient of a step is not finite; earlier checkpoints are kept.
        PreemptedError: SIGTERM came; the run is saved.
    """
    experiment = build_experiment(config)
    with preemption.watching(experiment.mesh) as preempted:
        _train(experiment, workdir, preempted)


def _train(experiment: Experiment, workdir: pathlib.Path, preempted: Callable[[], bool]) -> None:
    config, mesh = experiment.config, experiment.mesh
    sharding.check_batch_size(
        "train.batch_size", config.train.batch_size, mesh, config.train.accumulation_steps
    )
    source = experiment.open_source("train")
    template = experiment.state_template()
    trainable = count_parameters(template.params["model"])
    num_steps = num_train_steps(config.train, len(source)) if trainable else 0
    evaluate = _make_evaluation(experiment)
    run_config.claim_workdir(config, workdir, write=distributed.is_primary())
    if distributed.is_primary():
        write_environment(workdir)

    checkpoints = Checkpoints(workdir, config.train.keep_checkpoints)
    # Where a run starts, in this order: its own newest checkpoint, then scratch.
    seconds = 0.0
    if checkpoints.latest_step() is not None:
        state, progress = checkpoints.restore(template)
        if progress["num_images"] != len(source):
            raise UsageError(
                f"data.train: has {len(source)} images now and had {progress['num_images']} when the"
                " run was saved; its order cannot be continued. Use the old data or another --workdir"
            )
        seconds = progress["seconds"]
    else:
        state = experiment.fresh_state(source)
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
    meter = Meter(first_step, num_steps, config.train.batch_size, seconds)
    train_step = experiment.train_step(num_steps)

    def save() -> None:
        checkpoints.save(state, {"num_images": len(source), "seconds": meter.seconds()})

    def report_held_out(step: int) -> None:
        with meter.paused():
            values, samples = evaluate(state)
            writer.scalars(step, {f"eval/{name}": value for name, value in values.items()})
            writer.image(step, "samples", samples)
            if distributed.is_primary():
                pictures.save_png(samples, workdir / "samples" / f"{step:08d}.png")
        logging.info(
            "step %d: %.4f +- %.4f bits/dim on held-out images",
            step,
            values["bits_per_dim"],
            values["bits_per_dim_stderr"],
        )

    with checkpoints, contextlib.closing(writer):
        for step in range(first_step + 1, num_steps + 1):
            pixels = sharding.put_batch(mesh, {"image": next(iterator)["image"]})["image"]
            state, metrics = train_step(state, pixels)
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
    _export(experiment, state, source, meter.seconds(), workdir)


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


def _make_evaluation(
    experiment: Experiment,
) -> Callable[[TrainState], tuple[dict[str, float], UInt8[np.ndarray, "h w c"]]]:
    """Bits/dim of the held-out images in one full pass, and a grid of samples, as one function."""
    config, mesh = experiment.config, experiment.mesh
    source = experiment.open_source("eval")
    count = min(config.train.eval_images or len(source), len(source))
    estimate = make_estimate(experiment.model, experiment.schedule, config.seed, mesh)
    sample = jax.jit(_make_sampler(experiment), out_shardings=sharding.replicated(mesh))

    def evaluate(state: TrainState) -> tuple[dict[str, float], UInt8[np.ndarray, "h w c"]]:
        batches = data.eval_batches(
            source,
            batch_size=experiment.eval_batch_size() // jax.process_count(),
            stop=count,
            shard_index=jax.process_index(),
            shard_count=jax.process_count(),
        )
        values = evaluate_bound(estimate, state, batches, mesh)
        return values, pictures.tile(np.asarray(sample(state)), _SAMPLE_COLUMNS)

    return evaluate


def _make_sampler(experiment: Experiment) -> Callable[[TrainState], UInt8[Array, "b h w c"]]:
    """Unconditional samples by the flow from pure noise; the same noise at every call."""
    key = rng.stream(experiment.config.seed, "samples")

    def sample(state: TrainState) -> UInt8[Array, "b h w c"]:
        noise = process.image_noise(
            rng.per_index(key, jnp.arange(_SAMPLES)), experiment.image_shape
        )
        times = jnp.linspace(1.0, 0.0, _SAMPLE_STEPS + 1)
        ema = sharding.gather(experiment.mesh, state.ema)
        gammas = experiment.schedule.gamma(ema["schedule"], times)
        variables = model_variables(ema, state.fixed)
        return process.unit_to_pixels(
            decoders.flow(
                lambda z, gamma: experiment.model.eps_hat(variables, z, gamma),
                noise,
                gammas,
                _SAMPLE_STEPS,
            )
        )

    return sample


def _export(
    experiment: Experiment,
    state: TrainState,
    source: data.ImageSource,
    seconds: float,
    workdir: pathlib.Path,
) -> None:
    tree = {"params": state.ema, "fixed": state.fixed}
    tree = jax.jit(lambda tree: sharding.gather(experiment.mesh, tree))(tree)
    if not distributed.is_primary():
        return
    config = experiment.config
    card = {
        "model": config.model.to_dict(),
        "schedule": config.schedule.to_dict(),
        "image_size": config.data.image_size,
        "dataset": source.name,
        "split": source.split,
        "steps": int(state.step),
        "images_seen": int(state.step) * config.train.batch_size,
        "trained_parameters": count_parameters(state.ema["model"]),
        "train_seconds": seconds,
        "seed": config.seed,
    }
    export_params(workdir / "params.safetensors", tree, card)
