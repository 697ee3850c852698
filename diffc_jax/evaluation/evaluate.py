"""`evaluate(config, workdir)`: measures a trained model on images it has not seen, and writes result files.

Every image is sent by the sweep and, as a file, by the codec; what comes of a batch is stored under
W/eval/progress, in a folder named after everything the numbers depend on, and running the same command again
continues there. Result files are averages and rows of what is stored: those of all images, and those of each
subset (`evaluation.subsets`). Several processes divide the images (`evaluation.processes`).
"""

import time
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from diffc_jax.config.sources import plain
from diffc_jax.data.identity import digests_of
from diffc_jax.evaluation import processes
from diffc_jax.evaluation.codec_sweep import CodecMethod
from diffc_jax.evaluation.measures import Measures, fill_store
from diffc_jax.evaluation.rd_sweep import SweepMethod
from diffc_jax.evaluation.store import Store, fingerprint
from diffc_jax.evaluation.subsets import select_images
from diffc_jax.evaluation.tables import Tables
from diffc_jax.evaluation.trained import load_trained
from diffc_jax.runtime.files import AnyPath
from diffc_jax.training.experiment import build_experiment, open_reference, open_spec

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
    settings, seed = config.eval, config.seed
    source, reference = open_spec(config, config.data.eval, "data.eval"), open_reference(config)
    experiment = build_experiment(config)
    images = select_images(source, settings.max_images, settings.subsets)
    sets, are_shown = images.result_sets(workdir), images.are_first(settings.grid_images)
    trained = load_trained(experiment, workdir)
    described = plain(config)
    with processes.leaving_at_sigterm(workdir):
        dependencies = _what_numbers_depend_on(described, images.name)
        own = processes.on_own_devices(trained)
        batch_size = processes.own_batch_size(settings.batch_size, own.mesh)
        plan = own.plan(settings)
        sweep = SweepMethod(own, plan, seed)
        codec = CodecMethod(own, plan, settings.codec_decoders, settings.codec_memory, batch_size)
        methods = [method for method in (sweep, codec) if method.decoders]
        key = fingerprint(dependencies, (own.state.ema, own.state.fixed))
        store = Store(workdir / "eval" / "progress" / key)
        columns = {"model": own.model.name, "dataset": images.name, "checkpoint": own.name}
        tables = [
            Tables(result, store, (sweep, codec), settings.image_metrics, {**columns, **own.costs})
            for result in sets
        ]
        networks = settings.features, settings.feature_weights, settings.image_metrics
        measures = Measures(*networks, own.mesh, batch_size)
        if processes.is_primary():
            pixels = digests_of(images)
            store.forget_changed(measures.made_from(pixels))
            for files in tables:
                files.begin(described, pixels)

        write_rates = tables[0].write_rates
        seconds = fill_store(store, images, are_shown, batch_size, methods, measures, write_rates)
        ranges = [result.images for result in sets]
        elbos = trained.elbo(images, ranges, settings.batch_size, settings.bound_times, seed)
        for result, files, elbo in zip(sets, tables, elbos, strict=True):
            begin = time.monotonic()
            distances = measures.distances(
                methods, store, result.images, reference, workdir / "eval" / "reference"
            )
            seconds["distances"] = (time.monotonic() - begin) / len(result.images)
            if processes.is_primary():
                files.write(distances, elbo, seconds, settings.grid_images)
    return [result.folder for result in sets]


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
