"""`evaluate(config, workdir)`: measures a trained model on images it has not seen, and writes result files.

Every image is sent by the sweep and, as a file, by the codec; what comes of a batch is stored under
W/eval/progress, in a folder named after everything the numbers depend on, and running the same command again
continues there. Result files are averages and rows of what is stored: those of all images, and those of each
subset (`evaluation.subsets`). Several processes divide the images (`evaluation.processes`).
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Bool
from ml_collections import ConfigDict

from diffc_jax.config.sources import spec_fields
from diffc_jax.evaluation import processes
from diffc_jax.evaluation.codec_sweep import CodecMethod
from diffc_jax.evaluation.measures import Measures
from diffc_jax.evaluation.rd_sweep import PLAN_FIELDS, SweepMethod, make_plan
from diffc_jax.evaluation.store import Store, fingerprint
from diffc_jax.evaluation.subsets import ResultSet, Selection, select_images
from diffc_jax.evaluation.tables import Tables
from diffc_jax.evaluation.trained import load_trained
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.progress import Progress
from diffc_jax.training.experiment import open_source

_SECONDS_BETWEEN_WRITES = 60.0

Methods = Sequence[SweepMethod | CodecMethod]


def evaluate(config: ConfigDict, workdir: AnyPath) -> list[AnyPath]:
    """Measures a model and writes W/eval/{rd,per_image,rate_curve}.csv, summary.json and reconstructions.

    The same files of each subset of config.eval.subsets are in W/SUBSET/eval.

    Args:
        config: a validated config.
        workdir: folder of the run; its newest checkpoint is evaluated unless config.eval.params names a file.

    Returns:
        The folders with results: W/eval and those of the subsets.

    Raises:
        UsageError: the config describes another model than the folder holds, or levels or subsets that do not
            exist.
        InputError: no checkpoint, data that cannot be read, or a package that is missing.
        StoppedError: SIGTERM came.
    """
    settings = config.eval
    images = select_images(open_source(config, "eval"), settings.max_images, settings.subsets)
    compared = settings.features and config.data.reference.source
    reference = open_source(config, "reference") if compared else None
    trained = load_trained(config, workdir)
    with processes.leaving_at_sigterm(workdir):
        own = processes.on_own_devices(trained)
        batch_size = processes.own_batch_size(settings.batch_size, own.mesh)
        gammas = own.gammas(settings.rate_steps)
        plan = make_plan(gammas, **{name: settings[name] for name in PLAN_FIELDS})
        methods = (
            SweepMethod(own, plan, config.seed),
            CodecMethod(own, plan, settings.codec_decoders, settings.codec_memory, batch_size),
        )
        measures = Measures(
            settings.features,
            settings.feature_weights,
            settings.image_metrics,
            own.mesh,
            batch_size,
        )
        numbers = fingerprint(_description(config, images.name), (own.state.ema, own.state.fixed))
        store = Store(workdir / "eval" / "progress" / numbers)
        columns = {
            "model": own.model.name,
            "dataset": images.name,
            "checkpoint": own.name,
            **own.costs,
        }
        tables = Tables(store, methods, measures.metrics, columns)
        shown = images.are_first(settings.grid_images)
        sets = images.result_sets(workdir)
        for result in sets:
            tables.write_origin(result, config)

        seconds = _fill(store, images, shown, batch_size, methods, measures, tables, sets[0])
        processes.wait_for_all(store, len(images))
        elbo = trained.elbo(images, settings.batch_size, settings.bound_times, config.seed)
        for result in sets:
            averages = tables.averages(result.images).update()
            begin = time.monotonic()
            distances = measures.distances(
                methods, store, result.images, reference, workdir / "eval" / "reference"
            )
            seconds["distances"] = (time.monotonic() - begin) / len(result.images)
            tables.write_rates(result, averages, distances)
            tables.write_images(result, settings.grid_images)
            tables.write_summary(result, averages, elbo, seconds)
    return [result.folder for result in sets]


def _fill(
    store: Store,
    images: Selection,
    shown: Bool[np.ndarray, " n"],
    batch_size: int,
    methods: Methods,
    measures: Measures,
    tables: Tables,
    result: ResultSet,
) -> dict[str, float | None]:
    """Stores the numbers of the images of this process that the store lacks; seconds for each of them."""
    done = store.done(len(images))
    if done.any():
        logging.info("%d of %d images were swept before", done.sum(), len(done))
    # No batch has images of two subsets, so that those to show are the first of a batch.
    ranges = processes.own_images(done, [subset.start for subset in images.subsets.values()])
    methods = [method for method in methods if method.decoders]
    n_batches = sum(-(-len(one) // batch_size) for one in ranges)
    calls = sum(method.evaluations_per_image() for method in methods)
    progress = Progress("sweep", n_batches * calls, "network calls")
    averages = tables.averages(result.images)
    seconds = {method.work: 0.0 for method in methods}
    last_write = time.monotonic()
    for batch in processes.batches(images, ranges, batch_size):
        mask = batch["mask"]
        originals, index = batch["image"][mask], batch["index"][mask]
        numbers = {"index": index, **measures.of_originals(originals, shown[index])}
        for method in methods:
            begin = time.monotonic()
            rates, reconstructions = method.code(batch, progress.advance)
            numbers |= rates
            for decoder, levels in reconstructions.items():
                series = method.series(decoder)
                numbers |= measures.of_levels(series, originals, levels, shown[index])
            seconds[method.work] += time.monotonic() - begin
        store.save(numbers)
        if time.monotonic() - last_write > _SECONDS_BETWEEN_WRITES:
            tables.write_rates(result, averages.update())
            last_write = time.monotonic()
    n_new = sum(map(len, ranges))
    return {work: value / n_new if n_new else None for work, value in seconds.items()}


def _description(config: ConfigDict, dataset: str) -> dict[str, Any]:
    """Everything but the parameters that the numbers of an image depend on.

    How many images and how they are batched changes none, nor does the path of the parameters; but where
    there are subsets, their sizes say which image an index means.
    """
    settings = config.eval.to_dict()
    for field in ("batch_size", "bound_times", "params"):
        del settings[field]
    # The name from before stays, so that what it has stored is found.
    settings["families"] = settings.pop("subsets")
    if not settings["families"]:
        del settings["max_images"]
    return {
        "seed": config.seed,
        "dataset": dataset,
        "images": spec_fields(config, config.data.eval),
        "model": config.model.to_dict(),
        "schedule": config.schedule.to_dict(),
        "eval": settings,
    }
