"""`evaluate(config, workdir)`: the sweep of a trained model over held-out images, and its result files.

Finished batches are kept under W/eval/progress, in a folder named after everything the numbers depend on;
running the same command again continues there. Result files are rewritten as images come in.
"""

import dataclasses
import hashlib
import json
import pathlib
import time
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from diffc_jax import data, files
from diffc_jax.config import source_fields
from diffc_jax.diffusion import process
from diffc_jax.environment import write_environment
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation import report
from diffc_jax.evaluation.metrics import psnr as psnr_metrics
from diffc_jax.evaluation.sweep import Sweep, SweepPlan, even_strata, nearest_levels
from diffc_jax.progress import Progress
from diffc_jax.training import run_config
from diffc_jax.training.bound_eval import evaluate_bound, make_estimate
from diffc_jax.training.checkpoints import Checkpoints
from diffc_jax.training.experiment import Experiment, build_experiment
from diffc_jax.training.export import load_params
from diffc_jax.training.sharding import put_batch
from diffc_jax.training.state import TrainState, model_variables

_SECONDS_BETWEEN_WRITES = 60.0


def evaluate(config: ConfigDict, workdir: pathlib.Path, params: pathlib.Path | None = None) -> None:
    """Sweeps the noise levels and writes W/eval/{rd,per_image,rate_curve}.csv, summary.json and pictures.

    Args:
        config: a validated config.
        workdir: folder of the run; its newest checkpoint is evaluated.
        params: an exported params.safetensors to evaluate instead of a checkpoint.

    Raises:
        UsageError: the config describes another model than the folder holds, or levels that cannot be.
        InputError: no checkpoint, or data that cannot be read.
    """
    experiment = build_experiment(config)
    source = experiment.open_source("eval")
    state, checkpoint = load_trained(experiment, workdir, params)
    plan = make_plan(experiment, state)
    count = min(config.eval.max_images or len(source), len(source))
    folder = workdir / "eval"
    parts = _Parts(folder / "progress" / _fingerprint(config, source.name, state))
    context = report.Context(
        model=experiment.model.name,
        dataset=source.name,
        split=source.split,
        checkpoint=checkpoint,
        seed=config.seed,
        plan=plan,
        n_dimensions=int(np.prod(experiment.image_shape)),
        n_pixels=int(np.prod(experiment.image_shape[:2])),
    )

    write_environment(folder)
    with_pixels = min(config.eval.grid_images, count)
    begin = last_write = time.monotonic()
    done = done_before = parts.covered()
    if done_before:
        logging.info("%d of %d images were swept before", min(done_before, count), count)
    sweep = Sweep(experiment.model.eps_hat, plan, config.seed)
    variables = model_variables(state.ema, state.fixed)
    batch_size = experiment.eval_batch_size()
    batches = data.eval_batches(
        source, batch_size=batch_size, start=min(done_before, count), stop=count
    )
    n_batches = -(-max(count - done_before, 0) // batch_size)
    progress = Progress("sweep", n_batches * plan.evaluations_per_image(), "network calls")
    for batch in batches:
        part = _sweep_batch(experiment, sweep, variables, batch, with_pixels, progress.advance)
        parts.save(part)
        done += len(part["index"])
        if time.monotonic() - last_write > _SECONDS_BETWEEN_WRITES:
            report.write_tables(folder, context, parts.load(count))
            last_write = time.monotonic()
    seconds = time.monotonic() - begin
    results = parts.load(count)
    report.write_tables(folder, context, results)
    report.write_pictures(folder, context, results)

    bound_batches = data.eval_batches(source, batch_size=experiment.eval_batch_size(), stop=count)
    estimate = make_estimate(experiment.model, experiment.schedule, config.seed, experiment.mesh)
    values = evaluate_bound(
        estimate, state, bound_batches, experiment.mesh, config.eval.bound_times
    )
    swept = done - done_before
    report.write_summary(
        folder, context, results, values, seconds_per_image=seconds / swept if swept else None
    )
    logging.info(
        "%s on %d images of %s: %.4f +- %.4f bits/dim; results in %s",
        experiment.model.name,
        count,
        source.name,
        values["bits_per_dim"],
        values["bits_per_dim_stderr"],
        folder,
    )


def make_plan(experiment: Experiment, state: TrainState) -> SweepPlan:
    """The levels and decoders of config.eval on the chain of the trained schedule.

    Raises:
        UsageError: fewer distinct levels on the chain than asked for.
    """
    config = experiment.config.eval
    times = jnp.linspace(1.0, 0.0, config.rate_steps + 1)
    gammas = np.asarray(experiment.schedule.gamma(state.ema["schedule"], times), np.float64)
    evaluations = min(config.rate_evaluations or config.rate_steps, config.rate_steps)
    strata = even_strata(config.rate_steps, evaluations)
    levels = nearest_levels(
        gammas[strata], config.first_gamma, config.last_gamma, config.num_levels
    )
    if len(levels) < config.num_levels:
        raise UsageError(
            f"eval.num_levels: {len(strata) - 1} evaluations of the rate have only {len(levels)} levels "
            f"between eval.first_gamma and eval.last_gamma, not {config.num_levels}"
        )
    return SweepPlan(
        gammas=gammas,
        strata=strata,
        levels=levels,
        decoders=tuple(config.decoders),
        ancestral_steps=config.ancestral_steps,
        flow_steps=config.flow_steps,
    )


def load_trained(
    experiment: Experiment, workdir: pathlib.Path, params: pathlib.Path | None = None
) -> tuple[TrainState, str]:
    """The averaged parameters (in a state), and what to call them in results.

    Args:
        experiment: which model.
        workdir: folder of its run; the newest checkpoint is read.
        params: an exported file to read instead.

    Raises:
        UsageError: the run in the folder is of another model.
        InputError: no checkpoint or file, or a damaged one.
    """
    template = experiment.state_template()
    if params is None:
        run_config.check_same_model(experiment.config, workdir)
        checkpoints = Checkpoints(workdir)
        try:
            state, _ = checkpoints.restore(template)
        finally:
            checkpoints.close()
        return state, f"step {int(state.step)}"
    tree = load_params(params, {"params": template.ema, "fixed": template.fixed})
    return dataclasses.replace(template, ema=tree["params"], fixed=tree["fixed"]), params.name


def _sweep_batch(
    experiment: Experiment,
    sweep: Sweep,
    variables: Any,
    batch: dict[str, np.ndarray],
    with_pixels: int,
    on_evaluations: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """Per-image results of a batch, and the pictures of the first images of the data set."""
    placed = put_batch(experiment.mesh, {"image": batch["image"], "index": batch["index"]})
    x = process.pixels_to_unit(placed["image"])
    result = sweep.run(variables, x, placed["index"], on_evaluations)
    mask = batch["mask"]
    part = {"index": batch["index"][mask], "kl_bits": result.kl_bits[mask]}
    shown = mask & (batch["index"] < with_pixels)
    if shown.any():
        part["pixels"] = batch["image"][shown]
    for decoder, levels in result.reconstructions.items():
        pixels = [np.asarray(process.unit_to_pixels(x)) for x in levels]
        errors = [psnr_metrics.mse(batch["image"], p)[mask] for p in pixels]
        part[f"mse/{decoder}"] = np.stack(errors, axis=1)
        if shown.any():
            part[f"pixels/{decoder}"] = np.stack([p[shown] for p in pixels], axis=1)
    return part


def _fingerprint(config: ConfigDict, dataset: str, state: TrainState) -> str:
    """Names everything that per-image results depend on, the values of the parameters included."""
    digest = hashlib.sha1(usedforsecurity=False)
    relevant = config.eval.to_dict()
    # How many images and how they are batched changes no result of an image.
    for field in ("batch_size", "max_images", "bound_times"):
        del relevant[field]
    described = {
        "seed": config.seed,
        "dataset": dataset,
        "images": source_fields(config, "eval"),
        "model": config.model.to_dict(),
        "schedule": config.schedule.to_dict(),
        "eval": relevant,
    }
    digest.update(json.dumps(described, sort_keys=True).encode())
    for leaf in jax.tree.leaves((state.ema, state.fixed)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]


class _Parts:
    """Results of finished batches, one npz file each, named by the run of images it holds."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder

    def save(self, part: dict[str, np.ndarray]) -> None:
        index = part["index"]
        path = self._folder / f"{index[0]:08d}-{index[-1] + 1:08d}.npz"
        with files.replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **part)

    def covered(self) -> int:
        """N if images 0 to N - 1 are all done."""
        stop = 0
        for start, end, _ in self._runs():
            if start > stop:
                break
            stop = max(stop, end)
        return stop

    def load(self, count: int) -> dict[str, np.ndarray]:
        """All results of images 0 to count - 1, in order."""
        merged: dict[str, list[np.ndarray]] = {}
        stop = 0
        for start, end, path in self._runs():
            # Runs overlap after a change of the batch size. Pictures are of the first images of a part.
            new = slice(max(stop - start, 0), max(count - start, 0))
            stop = max(stop, end)
            try:
                with np.load(path) as part:
                    for name in part.files:
                        merged.setdefault(name, []).append(part[name][new])
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise InputError(f"{path}: is damaged; delete it and run again") from error
        return {name: np.concatenate(values) for name, values in merged.items()}

    def _runs(self) -> list[tuple[int, int, pathlib.Path]]:
        # Temporary files, which a killed process leaves behind, begin with a dot.
        paths = sorted(self._folder.glob("[0-9]*.npz"))
        ends = [path.stem.split("-") for path in paths]
        return [(int(a), int(b), path) for (a, b), path in zip(ends, paths, strict=True)]
