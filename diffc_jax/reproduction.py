"""`reproduce(config, workdir)`: everything from training to the figures, in one call that resumes."""

import pathlib

from absl import logging
from ml_collections import ConfigDict

from diffc_jax.baselines.evaluate import check_codecs, evaluate_baselines
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.plotting.figures import make_figures
from diffc_jax.plotting.html_report import make_report
from diffc_jax.training.loop import train


def reproduce(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Trains and evaluates the config's model and the Gaussian floor, runs the baselines, and plots.

    Each part has a folder of its own in `workdir`, which the part's own command could have made:
    the name of the model, gaussian, baselines, figures; report.html has it all.

    Args:
        config: a validated config.
        workdir: folder of the whole.

    Raises:
        DiffcError: from any part; running again continues with that part.
    """
    check_codecs(config)  # now, not after hours of training
    floor = config.copy_and_resolve_references()
    with floor.unlocked():
        floor.model = ConfigDict({"name": "gaussian"})
        floor.schedule.name = "linear"
    for part in {"gaussian": floor, config.model.name: config}.items():
        name, part_config = part
        logging.info("=== %s: training", name)
        train(part_config, workdir / name)
        logging.info("=== %s: sweep", name)
        evaluate(part_config, workdir / name)
    logging.info("=== baselines")
    evaluate_baselines(config, workdir / "baselines")
    names = dict.fromkeys(("gaussian", config.model.name, "baselines"))
    folders = [workdir / name for name in names]
    written = make_figures(folders, workdir / "figures")
    report = make_report(folders, workdir / "report.html")
    pictures = [str(path) for path in written if path.suffix == ".png"]
    logging.info("report: %s; figures: %s", report, ", ".join(pictures))
