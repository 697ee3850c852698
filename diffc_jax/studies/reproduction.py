"""`reproduce(config, workdir)`: everything from training to the figures, in one call that resumes."""

import pathlib
from collections.abc import Mapping

from absl import logging
from ml_collections import ConfigDict

from diffc_jax.baselines.evaluate import (
    check_baselines,
    evaluate_baselines,
    nothing_to_measure,
)
from diffc_jax.baselines.hific.codec import IDENTITY, find_runs, identity_of, load_runs
from diffc_jax.baselines.hific.config import small_config
from diffc_jax.baselines.published import load_published
from diffc_jax.commands import evaluate, train, validate
from diffc_jax.config import refine_steps
from diffc_jax.config.sources import clean_source
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.rate_point import HIFIC, HYPERPRIOR
from diffc_jax.evaluation.subsets import images_to_evaluate
from diffc_jax.plotting.claims import write_claims
from diffc_jax.plotting.figures import make_figures
from diffc_jax.plotting.html_report import make_report
from diffc_jax.runtime.files import as_path
from diffc_jax.runtime.multihost import owning
from diffc_jax.studies.gaussian_analysis.config import analysis_config
from diffc_jax.studies.gaussian_analysis.run import analyse_theory
from diffc_jax.training.experiment import open_source


def reproduce(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Trains and evaluates the config's model and the Gaussian baseline, runs the codecs, and plots.

    The model is not trained where config.eval.params names its parameters. Each step has a folder of its own
    in `workdir`, as if its own command had made it: the name of the model, gaussian, hific_0.5bpp and the
    like, baselines, theory (the paper's analysis of a Gaussian fitted to the training images), figures.
    report.html shows all results, and claims.md the paper's claims as numbers. With published curves in
    config.baselines.published there is figures_published too. Figures, report and claims of each subset of
    the images (config.eval.subsets) are in a folder with its name.

    Raises:
        UsageError: a network would be trained that config.baselines.trained has.
        InputError: config.eval.params names no file.
        DiffcError: from any step; running again continues with that step.
    """
    # Checked now, not after hours of training.
    check_baselines(config)
    if config.eval.params and not as_path(config.eval.params).exists():
        raise InputError(
            f"eval.params: there is no {config.eval.params}; it is looked for from the current folder"
        )
    images_to_evaluate(config, open_source(config, "eval"))
    baselines = baseline_configs(config)
    _check_trained(config, baselines, workdir)
    theory = theory_config(config)
    published = load_published(config.baselines.published) if config.baselines.published else []
    for name, own in {"gaussian": gaussian_config(config), config.model.name: config}.items():
        if not own.eval.params:
            logging.info("=== %s: training", name)
            train(own, workdir / name)
        logging.info("=== %s: sweep", name)
        evaluate(own, workdir / name)
    for name, baseline in baselines.items():
        logging.info("=== %s: training", name)
        train(baseline, workdir / name)
    logging.info("=== baselines")
    with owning(workdir / "baselines"):
        evaluate_baselines(config, workdir / "baselines", [workdir / name for name in baselines])
    logging.info("=== theory")
    analyse_theory(theory, workdir / "theory")
    names = dict.fromkeys(("gaussian", config.model.name, "baselines"))
    folders = [workdir / name for name in names]
    inputs = {
        workdir / subset: [folder / subset for folder in folders] for subset in config.eval.subsets
    }
    inputs[workdir] = folders  # last, so that its claims.md says that everything is done
    for output, results in inputs.items():
        written = make_figures(results, output / "figures")
        if published:
            written += make_figures(
                results,
                output / "figures_published",
                allow_mixed_data=True,
                more_points=published,
            )
        report = make_report(results, output / "report.html")
        write_claims(results, workdir / "theory", output / "claims.md")
        figures = [str(path) for path in written if path.suffix == ".png"]
        logging.info("report: %s; figures: %s", report, ", ".join(figures))


def gaussian_config(config: ConfigDict) -> ConfigDict:
    """The Gaussian baseline: a Gaussian fitted to the same images, with its exact denoiser."""
    own = config.copy_and_resolve_references()
    with own.unlocked():
        own.model = ConfigDict({"name": "gaussian"})
        own.schedule.name = "linear"
        own.eval.params = ""
        # It is fitted, not trained.
        own.train.init_params = ""
        own.train.second_ema_decay = 0.0
    refine_steps(own)
    return own


def baseline_configs(config: ConfigDict) -> dict[str, ConfigDict]:
    """Configs of the networks that config.baselines.targets asks for, by the folders of their runs.

    Raises:
        UsageError: a target that cannot be used.
    """
    configs = {}
    for target in config.baselines.targets:
        for method, words in ((HYPERPRIOR, f",{HYPERPRIOR}"), (HIFIC, "")):
            own = small_config(f"{target}bpp{words}")
            own.seed, own.mesh = config.seed, config.mesh
            own.data = config.data.copy_and_resolve_references()
            with own.data.ignore_type():  # a mixture is for denoisers, which know noise levels
                own.data.train = clean_source(config)
            validate(own)
            configs[f"{method}_{target:g}bpp"] = own
    return configs


def _check_trained(
    config: ConfigDict, baselines: Mapping[str, ConfigDict], workdir: pathlib.Path
) -> None:
    """Loads what config.baselines.trained names, and compares it with what would be trained."""
    own = {(workdir / name).resolve() for name in baselines}
    paths = [path for path in find_runs(config.baselines.trained) if path.resolve() not in own]
    given = load_runs(paths, config.data.image_size)
    if not (given or baselines or config.baselines.codecs):
        raise nothing_to_measure()
    identities = {tuple(run.identity[name] for name in IDENTITY) for run in given}
    for baseline in baselines.values():
        target = baseline.hific.target_bpp
        method, model, level = identity = identity_of(baseline.model.to_dict(), target)
        if identity in identities:
            raise UsageError(
                f"{method} of {model} at {level:g} bpp is in baselines.trained, too; leave it out of one",
                field="baselines.targets",
            )


def theory_config(config: ConfigDict) -> ConfigDict:
    """The paper's analysis for the training images: closed forms and quadrature, no simulation."""
    theory = analysis_config()
    theory.seed = config.seed
    theory.monte_carlo = "never"
    theory.source.images = clean_source(config)
    theory.source.image_size = config.data.image_size
    theory.source.patch_size = min(theory.source.patch_size, config.data.image_size)
    return theory
