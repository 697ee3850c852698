"""`evaluate(config, workdir)`: measures a trained model on images it has not seen, and writes result files.

Every image is sent by the sweep and, as a file, by the codec; what comes of a batch is stored under
W/eval/progress, in a folder named after everything the numbers depend on, and running the same command again
continues there. Result files are averages and rows of what is stored: those of all images, and those of each
subset (`evaluation.subsets`). Several processes divide the images (`evaluation.processes`).
"""

from ml_collections import ConfigDict

from diffc_jax.data.identity import digests_of
from diffc_jax.evaluation import processes
from diffc_jax.evaluation.codec_sweep import CodecMethod
from diffc_jax.evaluation.measures import Measures, fill_store
from diffc_jax.evaluation.rd_sweep import SweepMethod
from diffc_jax.evaluation.samples import draw_samples, write_samples
from diffc_jax.evaluation.store import open_store
from diffc_jax.evaluation.subsets import images_to_evaluate, open_references
from diffc_jax.evaluation.tables import Tables
from diffc_jax.evaluation.trained import load_trained
from diffc_jax.runtime.files import AnyPath
from diffc_jax.training.experiment import build_experiment, open_spec


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
    source = open_spec(config, config.data.eval, "data.eval")
    experiment = build_experiment(config)
    images = images_to_evaluate(config, source)
    sets, are_shown = images.result_sets(workdir), images.are_first(settings.grid_images)
    references = open_references(config, images)
    trained = load_trained(experiment, workdir)
    with processes.leaving_at_signals(workdir):
        own = trained.on_own_devices()
        batch_size = processes.own_batch_size(settings.batch_size, own.mesh)
        plan = own.plan(settings)
        sweep = SweepMethod(own, plan, seed)
        codec = CodecMethod(own, plan, settings.codec_decoders, settings.codec_memory, batch_size)
        methods = [method for method in (sweep, codec) if method.decoders]
        store = open_store(workdir, config, images.name, (own.state.ema, own.state.fixed))
        columns = {"model": own.model.name, "checkpoint": own.name, **own.costs}
        tables = [Tables(result, store, (sweep, codec), config, columns) for result in sets]
        networks = settings.features, settings.feature_weights
        metrics = settings.image_metrics, settings.set_metrics
        measures = Measures(*networks, *metrics, own.mesh, batch_size)
        if processes.is_primary():
            pixels = digests_of(images)
            store.forget_changed(measures.made_from(pixels))
            for files in tables:
                files.begin(pixels)

        write_rates = tables[0].write_rates
        seconds = fill_store(store, images, are_shown, batch_size, methods, measures, write_rates)
        ranges = [result.images for result in sets]
        elbos = trained.elbo(images, ranges, settings.batch_size, settings.bound_times, seed)
        for result, reference, files, elbo in zip(sets, references, tables, elbos, strict=True):
            distances, seconds["distances"] = measures.distances(
                methods, store, result.images, reference, workdir / "eval" / "reference"
            )
            if processes.is_primary():
                files.write(distances, elbo, seconds)
        if settings.samples:
            samples = draw_samples(own, config, workdir, measures, batch_size)
            if processes.is_primary():
                write_samples(samples, config, sets[0], store, measures, references[0], columns)
    return [result.folder for result in sets]
