"""`evaluate(config, workdir)`: measures a trained model on images it has not seen, and writes result files.

Every image is sent by the sweep and, as a file, by the codec; what comes of a batch is stored under
W/eval/progress, in a folder named after everything the numbers depend on, and running the same command again
continues there. Result files are averages and rows of what is stored: those of all images, and those of each
subset (`evaluation.subsets`). Several processes divide the images (`evaluation.processes`).
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Bool
from ml_collections import ConfigDict

from diffc_jax.config.sources import plain
from diffc_jax.data.identity import Digests, digests_of, image_digests
from diffc_jax.evaluation import processes
from diffc_jax.evaluation.codec_sweep import CodecMethod
from diffc_jax.evaluation.image_sets import claim_images
from diffc_jax.evaluation.measures import Measures
from diffc_jax.evaluation.plan import PLAN_FIELDS, make_plan
from diffc_jax.evaluation.rd_sweep import SweepMethod
from diffc_jax.evaluation.store import MADE_FROM, Store, fingerprint
from diffc_jax.evaluation.subsets import Selection, open_images, open_reference
from diffc_jax.evaluation.tables import Tables
from diffc_jax.evaluation.trained import load_trained
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.progress import Progress
from diffc_jax.training.validation import describe_elbo

_SECONDS_BETWEEN_WRITES = 60.0
# Raised by hand with every change of the code that gives other numbers for the same image, weights and
# config, so that none of before are used. What version 1 kept does not say so.
NUMBERS_VERSION = 1


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
    images, reference = open_images(config), open_reference(config)
    described = plain(config)
    trained = load_trained(config, workdir)
    with processes.leaving_at_sigterm(workdir):
        dependencies = _what_numbers_depend_on(described, images.name)
        own = processes.on_own_devices(trained)
        batch_size = processes.own_batch_size(settings.batch_size, own.mesh)
        gammas = own.gammas(settings.rate_steps)
        plan = make_plan(gammas, **{name: settings[name] for name in PLAN_FIELDS})
        methods = (
            SweepMethod(own, plan, config.seed),
            CodecMethod(own, plan, settings.codec_decoders, settings.codec_memory, batch_size),
        )
        networks = (settings.features, settings.feature_weights, settings.image_metrics)
        measures = Measures(*networks, own.mesh, batch_size)
        key = fingerprint(dependencies, (own.state.ema, own.state.fixed))
        store = Store(workdir / "eval" / "progress" / key)
        columns = {"model": own.model.name, "dataset": images.name, "checkpoint": own.name}
        tables = Tables(store, methods, measures.metrics, {**columns, **own.costs})
        sets = images.result_sets(workdir)
        averages = [tables.averages(result.images) for result in sets]
        if processes.is_primary():
            pixels = digests_of(images)
            store.forget_changed(_made_from(pixels, measures))
            for result in sets:
                tables.write_origin(result.folder, described)
                names = [method.name for method in methods]
                claim_images(result, images.name, result.of(pixels), names)

        seconds = _fill_store(
            store,
            images,
            images.are_first(settings.grid_images),
            batch_size,
            [method for method in methods if method.decoders],
            measures,
            functools.partial(tables.write_rates, sets[0], averages[0]),
        )
        processes.wait_for_all(store, len(images))
        ranges = [result.images for result in sets]
        elbos = trained.elbo(images, ranges, settings.batch_size, settings.bound_times, config.seed)
        for result, average, elbo in zip(sets, averages, elbos, strict=True):
            begin = time.monotonic()
            distances = measures.distances(
                methods,
                store,
                result.images,
                reference,
                workdir / "eval" / "reference",
            )
            seconds["distances"] = (time.monotonic() - begin) / len(result.images)
            if processes.is_primary():
                average.update()
                tables.write(result.folder, tables.rates(result, average, distances))
                tables.write(result.folder, tables.images(result, settings.grid_images))
                tables.write(result.folder, tables.summary(result, average, elbo, seconds))
                logging.info(
                    "%s on %d images of %s %s: %s; results in %s",
                    *(own.model.name, len(result.images), images.name, result.split),
                    *(describe_elbo(elbo), result.folder),
                )
    return [result.folder for result in sets]


def _fill_store(
    store: Store,
    images: Selection,
    are_shown: Bool[np.ndarray, " n"],
    batch_size: int,
    methods: Sequence[SweepMethod | CodecMethod],
    measures: Measures,
    write_rates: Callable[[], None],
) -> dict[str, float | None]:
    """Stores the numbers of the images of this process that the store lacks.

    Images that `are_shown` keep the pixels of their reconstructions. Process 0 calls `write_rates` sometimes.

    Returns:
        Seconds for each image, of the work of each method; None where there was nothing left to do.
    """
    done = store.done(len(images))
    if done.any():
        logging.info("%d of %d images were swept before", done.sum(), len(done))
    # No batch has images of two subsets, so that those to show are the first of a batch.
    ranges = processes.own_images(done, [subset.start for subset in images.subsets.values()])
    n_batches = sum(-(-len(one) // batch_size) for one in ranges)
    calls = sum(method.evaluations_per_image() for method in methods)
    progress = Progress("sweep", n_batches * calls, "network calls")
    seconds = {method.work: 0.0 for method in methods}
    last_write = time.monotonic()
    for batch in processes.batches(images, ranges, batch_size):
        originals, index = batch["image"][batch["mask"]], batch["index"][batch["mask"]]
        shown = are_shown[index]
        numbers = {"index": index, **measures.of_originals(originals, shown)}
        made_from = _made_from(image_digests(originals), measures)
        numbers |= {MADE_FROM + what: values for what, values in made_from.items()}
        for method in methods:
            begin = time.monotonic()
            rates, reconstructions = method.code(batch, progress.advance)
            numbers |= rates
            for decoder, levels in reconstructions.items():
                series = method.prefix + decoder
                numbers |= measures.of_levels(series, originals, levels, shown)
            seconds[method.work] += time.monotonic() - begin
        store.save(numbers)
        if processes.is_primary() and time.monotonic() - last_write > _SECONDS_BETWEEN_WRITES:
            write_rates()
            last_write = time.monotonic()
    n_new = sum(map(len, ranges))
    return {work: value / n_new if n_new else None for work, value in seconds.items()}


def _made_from(pixels: Digests, measures: Measures) -> dict[str, np.ndarray]:
    """What the numbers of images depend on by its content, one row for each; a file's name may stay."""
    network = np.frombuffer(measures.network_digest, np.uint8)
    return {"pixels": pixels, "feature weights": np.broadcast_to(network, pixels.shape)}


def _what_numbers_depend_on(config: Mapping[str, Any], dataset: str) -> dict[str, Any]:
    """Everything but the parameters that changes the numbers of an image, as JSON can say it.

    How many images there are and how they are batched changes none, nor does the path of the parameters; but
    where there are subsets, their sizes say which image an index means.
    """
    settings = dict(config["eval"])
    for field in ("batch_size", "bound_times", "params"):
        del settings[field]
    # Under the name that the field had, so that what was stored before is found.
    settings["families"] = settings.pop("subsets")
    if not settings["families"]:
        del settings["max_images"]
    return {
        "seed": config["seed"],
        "dataset": dataset,
        "images": {"image_size": config["data"]["image_size"], **config["data"]["eval"]},
        "model": config["model"],
        "schedule": config["schedule"],
        "eval": settings,
        **({"version": NUMBERS_VERSION} if NUMBERS_VERSION > 1 else {}),
    }
