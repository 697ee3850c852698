"""`evaluate(config, workdir)`: the sweep of a trained model over held-out images, and its result files.

Finished batches are kept under W/eval/progress, in a folder named after everything the numbers depend on;
running the same command again continues there. Result files are rewritten as images come in; those of
families (`evaluation.subsets`) are made of the same batches in the end. Several processes share the images
(`evaluation.process_shares`); process 0 writes the results of all.
"""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jaxtyping import Bool, Float
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.codec.chain import CHECK_TOLERANCE
from diffc_jax.codec.loading import make_codec
from diffc_jax.config.sources import plain, spec_fields
from diffc_jax.diffusion import process
from diffc_jax.errors import UsageError
from diffc_jax.evaluation import codec_report, codec_samples, process_shares, report, stopping
from diffc_jax.evaluation.averages import Context, Totals, optional, scalar_names
from diffc_jax.evaluation.file_sweep import FileSweep
from diffc_jax.evaluation.progress_files import Parts, Results
from diffc_jax.evaluation.quality import Images, Quality, SetDistance
from diffc_jax.evaluation.subsets import ResultSet, Selection, select_images
from diffc_jax.evaluation.sweep import Sweep, SweepPlan, even_strata, nearest_levels
from diffc_jax.evaluation.trained import Trained, load_trained
from diffc_jax.metrics import psnr as psnr_metrics
from diffc_jax.models import Variables, model_variables
from diffc_jax.runtime import multihost
from diffc_jax.runtime.environment import write_environment
from diffc_jax.runtime.files import AnyPath, write_json
from diffc_jax.runtime.progress import Progress
from diffc_jax.runtime.sharding import put_batch
from diffc_jax.training.experiment import Experiment, build_experiment
from diffc_jax.training.state import TrainState
from diffc_jax.training.validation import average_elbo, evaluate_elbo, make_estimate

_SECONDS_BETWEEN_WRITES = 60.0


def evaluate(config: ConfigDict, workdir: AnyPath) -> list[AnyPath]:
    """Sweeps the noise levels and writes W/eval/{rd,per_image,rate_curve}.csv, summary.json and pictures.

    The same files of each family of config.eval.families are in W/FAMILY/eval.

    Args:
        config: a validated config.
        workdir: folder of the run; its newest checkpoint is evaluated unless config.eval.params names a file.

    Returns:
        The folders with results: W/eval and those of the families.

    Raises:
        UsageError: the config describes another model than the folder holds, or levels or families that
            cannot be.
        InputError: no checkpoint, data that cannot be read, or a package that is missing.
        StoppedError: SIGTERM came.
    """
    experiment = build_experiment(config)
    selection = select_images(experiment.open_source("eval"), config.eval)
    trained = load_trained(experiment, workdir)
    with stopping.leaving_at_sigterm(workdir):
        return _evaluate(experiment, selection, trained, workdir)


def _evaluate(
    experiment: Experiment, selection: Selection, trained: Trained, workdir: AnyPath
) -> list[AnyPath]:
    config, state = experiment.config, trained.state
    own, own_state = process_shares.own_share(experiment, state)
    plan = make_plan(own, own_state)
    quality = Quality(own.config, own.mesh)
    folder = workdir / "eval"
    parts = Parts(folder / "progress" / _fingerprint(config, selection.name, own_state))
    file_sweep = make_file_sweep(own, own_state, plan)
    context = Context(
        model=experiment.model.name,
        dataset=selection.name,
        split=selection.split,
        checkpoint=trained.name,
        costs=trained.costs,
        seed=config.seed,
        plan=plan,
        image_metrics=quality.names,
        n_dimensions=int(np.prod(experiment.image_shape)),
        n_pixels=int(np.prod(experiment.image_shape[:2])),
        codec_decoders=file_sweep.decoders,
        codec_memory=file_sweep.memory,
        codec_header_bytes=file_sweep.header_bytes,
    )
    results = selection.result_sets(workdir)
    if multihost.is_primary():
        for result in results:
            write_json(result.folder / "config.json", plain(config))
            write_environment(result.folder)

    seconds = _sweep(own, own_state, selection, quality, context, file_sweep, parts, folder)
    process_shares.wait_for_all(parts, len(selection))
    bound_batches = data.eval_batches(
        selection,
        batch_size=experiment.eval_batch_size() // jax.process_count(),
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    estimate = make_estimate(experiment.model, experiment.schedule, config.seed, experiment.mesh)
    bound = evaluate_elbo(estimate, state, bound_batches, experiment.mesh, config.eval.bound_times)
    reference_folder = folder / "reference"
    for result in results:
        _write_results(
            own.config, quality, context, parts, result, bound, seconds, reference_folder
        )
    return [result.folder for result in results]


def _write_results(
    config: ConfigDict,
    quality: Quality,
    context: Context,
    parts: Parts,
    result: ResultSet,
    bound: Mapping[str, Float[np.ndarray, " n"]],
    seconds: Mapping[str, float | None],
    reference_folder: AnyPath,
) -> None:
    """Writes the files of one set of images, all of them swept; `bound` is that of all images."""
    folder, images = result.folder, result.images
    context = dataclasses.replace(context, split=result.split)
    names = scalar_names(context)
    totals = Totals(context)
    for part in parts.read(images, names):
        totals.add(part)
    if multihost.is_primary():
        report.write_tables(folder, context, totals)
        report.write_per_image(folder, context, parts.read(images, names))
        if context.codec_decoders:
            codec_report.write_per_image(folder, context, parts.read(images, names))
        else:
            codec_report.remove(folder)
        shown = images[: config.eval.grid_images]
        report.write_pictures(folder, context, parts.read(shown, _picture_names(context)))
    begin = time.monotonic()
    distances = _set_distances(config, quality, context, parts, images, reference_folder)
    seconds = {**seconds, "distances": (time.monotonic() - begin) / len(images)}
    averages = average_elbo({name: result.of(values) for name, values in bound.items()})
    if multihost.is_primary():
        report.write_tables(folder, context, totals, distances)
        report.write_summary(folder, context, totals, averages, seconds)
    logging.info(
        "%s on %d images of %s %s: %.4f +- %.4f bits/dim; results in %s",
        context.model,
        len(images),
        context.dataset,
        context.split,
        averages["bits_per_dim"],
        averages["bits_per_dim_stderr"],
        folder,
    )


def _sweep(
    experiment: Experiment,
    state: TrainState,
    selection: Selection,
    quality: Quality,
    context: Context,
    file_sweep: FileSweep,
    parts: Parts,
    folder: AnyPath,
) -> dict[str, float | None]:
    """Sweeps the images of this process that no part has yet; seconds for each of them."""
    config, plan = experiment.config, context.plan
    done = parts.done(len(selection))
    if done.any():
        logging.info("%d of %d images were swept before", done.sum(), len(done))
    # No batch has images of two families, so that those to show are the first of a batch.
    runs = process_shares.own_images(done, [images.start for images in selection.families.values()])
    shown = selection.are_first(config.eval.grid_images)
    batch_size = experiment.eval_batch_size()
    sweep = Sweep(experiment.model.eps_hat, plan, config.seed)
    variables = model_variables(state.ema, state.fixed)
    n_batches = sum(-(-len(run) // batch_size) for run in runs)
    calls = plan.evaluations_per_image() + file_sweep.evaluations_per_image()
    progress = Progress("sweep", n_batches * calls, "network calls")
    totals = Totals(context)
    begin = last_write = time.monotonic()
    codec_seconds = 0.0
    for batch in process_shares.batches(selection, runs, batch_size):
        part = _sweep_batch(experiment, sweep, variables, batch, shown, quality, progress.advance)
        if file_sweep.decoders:
            codec_begin = time.monotonic()
            part |= _code_batch(file_sweep, batch, shown, quality, progress.advance)
            codec_seconds += time.monotonic() - codec_begin
        parts.save(part)
        totals.add(part)
        if multihost.is_primary() and time.monotonic() - last_write > _SECONDS_BETWEEN_WRITES:
            report.write_tables(folder, context, totals)
            last_write = time.monotonic()
    seconds: dict[str, float | None] = {"sweep": time.monotonic() - begin - codec_seconds}
    if file_sweep.decoders:
        seconds["codec"] = codec_seconds
    swept = sum(map(len, runs))
    return {name: value / swept if value and swept else None for name, value in seconds.items()}


def _set_distances(
    config: ConfigDict,
    quality: Quality,
    context: Context,
    parts: Parts,
    images: range,
    reference_folder: AnyPath,
) -> dict[tuple[str, int], SetDistance]:
    """Distances of every point to the reference, shared by the processes; each reads part by part."""
    if not quality.has_features or len(images) < 2:
        return {}
    reference = process_shares.primary_first(
        lambda: quality.reference(
            config,
            lambda: (part["features"] for part in parts.read(images, ["features"])),
            reference_folder,
        )
    )
    points = [
        (series, level) for series in context.series for level in range(len(context.plan.levels))
    ]
    progress = Progress("distances", -(-len(points) // jax.process_count()), "rate points")

    def measure(number: int) -> list[float]:
        series, level = points[number]
        name = f"features/{series}/{level}"
        found = reference.distance(part[name] for part in parts.read(images, [name]))
        progress.advance()
        return [found.fid, *(math.nan if v is None else v for v in (found.kid, found.kid_stderr))]

    rows = process_shares.share_rows(len(points), 3, measure)
    return {
        point: SetDistance(
            fid, reference.network, reference.description, optional(kid), optional(kid_stderr)
        )
        for point, (fid, kid, kid_stderr) in zip(points, rows.tolist(), strict=True)
    }


def _picture_names(context: Context) -> list[str]:
    names = [f"{kind}/{series}" for kind in ("pixels", "mse") for series in context.series]
    return ["index", "kl_bits", codec_samples.BYTES, "pixels", *names]


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


def make_file_sweep(experiment: Experiment, state: TrainState, plan: SweepPlan) -> FileSweep:
    """The codec of the trained model, at the levels and with the decoders of config.eval."""
    config = experiment.config
    codec = make_codec(
        experiment.model,
        experiment.schedule,
        {
            "model": config.model.to_dict(),
            "schedule": config.schedule.to_dict(),
            "image_size": config.data.image_size,
        },
        state.ema,
        state.fixed,
        experiment.eval_batch_size(),
        lambda array: put_batch(experiment.mesh, {"batch": array})["batch"],
    )
    return FileSweep(codec, plan, config.eval.codec_decoders, config.eval.codec_memory)


def _sweep_batch(
    experiment: Experiment,
    sweep: Sweep,
    variables: Variables,
    batch: dict[str, np.ndarray],
    are_shown: Bool[np.ndarray, " n"],
    quality: Quality,
    on_evaluations: Callable[[int], None],
) -> Results:
    """Per-image results of a batch, and the pictures of its first images where they are to be shown."""
    placed = put_batch(experiment.mesh, {"image": batch["image"], "index": batch["index"]})
    x = process.pixels_to_unit(placed["image"])
    result = sweep.run(variables, x, placed["index"], on_evaluations)
    mask = batch["mask"]
    images, indices = batch["image"][mask], batch["index"][mask]
    part = {"index": indices, "kl_bits": result.kl_bits[mask]}
    shown = are_shown[indices]
    if shown.any():
        part["pixels"] = images[shown]
    if quality.has_features:
        part["features"] = quality.features(images)
    for decoder, levels in result.reconstructions.items():
        pixels = [np.asarray(process.unit_to_pixels(x))[mask] for x in levels]
        part |= _measured(decoder, images, pixels, shown, quality)
    return part


def _code_batch(
    file_sweep: FileSweep,
    batch: dict[str, np.ndarray],
    are_shown: Bool[np.ndarray, " n"],
    quality: Quality,
    on_evaluations: Callable[[int], None],
) -> Results:
    """Per-image results of the codec's files of a batch, with the same measures."""
    mask = batch["mask"]
    result = file_sweep.run(batch["image"], batch["index"], mask, on_evaluations)
    drifted = batch["index"][mask][result.drift > CHECK_TOLERANCE].tolist()
    if drifted:
        logging.warning(
            "the decoder of the codec did not arrive where its encoder did, on images %s: the model is "
            "not computed alike both times, and the rows of diffc_codec cannot be trusted",
            ", ".join(map(str, drifted)),
        )
    images, indices = batch["image"][mask], batch["index"][mask]
    shown = are_shown[indices]
    part = codec_samples.arrays(result)
    for decoder, levels in result.reconstructions.items():
        part |= _measured(codec_samples.series(decoder), images, levels, shown, quality)
    return part


def _measured(
    series: str,
    images: Images,
    levels: Sequence[Images],
    shown: Bool[np.ndarray, " b"],
    quality: Quality,
) -> Results:
    """Measures of reconstructions at each level, and the pictures of the images that are shown."""
    part = {f"mse/{series}": np.stack([psnr_metrics.mse(images, p) for p in levels], axis=1)}
    pairs = [quality.pairs(images, p) for p in levels]
    for metric in quality.names:
        part[f"{metric}/{series}"] = np.stack([values[metric] for values in pairs], axis=1)
    if quality.has_features:
        for level, p in enumerate(levels):
            part[f"features/{series}/{level}"] = quality.features(p)
    if shown.any():
        part[f"pixels/{series}"] = np.stack([p[shown] for p in levels], axis=1)
    return part


def _fingerprint(config: ConfigDict, dataset: str, state: TrainState) -> str:
    """Names everything that per-image results depend on, the values of the parameters included."""
    digest = hashlib.sha1(usedforsecurity=False)
    relevant = config.eval.to_dict()
    # How many images and how they are batched changes no result of an image, nor does the parameters' path;
    # but where there are families, their sizes say which image an index means.
    unimportant = ["batch_size", "bound_times", "params"]
    for field in unimportant if relevant["families"] else [*unimportant, "max_images"]:
        del relevant[field]
    described = {
        "seed": config.seed,
        "dataset": dataset,
        "images": spec_fields(config, config.data.eval),
        "model": config.model.to_dict(),
        "schedule": config.schedule.to_dict(),
        "eval": relevant,
    }
    digest.update(json.dumps(described, sort_keys=True).encode())
    for leaf in jax.tree.leaves((state.ema, state.fixed)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]
