"""`reproduce(config, workdir)`: everything from training to the figures, in one call that resumes."""

import pathlib

from absl import logging
from ml_collections import ConfigDict

from diffc_jax.baselines.evaluate import check_baselines, evaluate_baselines
from diffc_jax.baselines.hific.config import HIFIC, HYPERPRIOR, small_config
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.plotting.figures import make_figures
from diffc_jax.plotting.html_report import make_report
from diffc_jax.trainees import train, validate


def reproduce(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Trains and evaluates the config's model and the Gaussian floor, runs the baselines, and plots.

    Each part has a folder of its own in `workdir`, which the part's own command could have made:
    the name of the model, gaussian, hific_0.5bpp and the like, baselines, figures; report.html has it all.

    Args:
        config: a validated config.
        workdir: folder of the whole.

    Raises:
        DiffcError: from any part; running again continues with that part.
    """
    # Checked now, not after hours of training.
    check_baselines(config)
    baselines = baseline_configs(config)
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
    for name, baseline in baselines.items():
        logging.info("=== %s: training", name)
        train(baseline, workdir / name)
    logging.info("=== baselines")
    evaluate_baselines(config, workdir / "baselines", [workdir / name for name in baselines])
    names = dict.fromkeys(("gaussian", config.model.name, "baselines"))
    folders = [workdir / name for name in names]
    written = make_figures(folders, workdir / "figures")
    report = make_report(folders, workdir / "report.html")
    pictures = [str(path) for path in written if path.suffix == ".png"]
    logging.info("report: %s; figures: %s", report, ", ".join(pictures))


def baseline_configs(config: ConfigDict) -> dict[str, ConfigDict]:
    """Configs of the networks that config.baselines.targets asks for, by the folders of their runs.

    Args:
        config: gives images, seed and devices.

    Raises:
        UsageError: a target that cannot be used.
    """
    configs = {}
    for target in config.baselines.targets:
        for method, words in ((HYPERPRIOR, f",{HYPERPRIOR}"), (HIFIC, "")):
            own = small_config(f"{target}bpp{words}")
            own.seed, own.data, own.mesh = config.seed, config.data, config.mesh
            validate(own)
            configs[f"{method}_{target:g}bpp"] = own
    return configs
