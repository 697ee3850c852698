"""What the commands do with a config, which describes a denoiser of DiffC or a network to compare it with.

Each imports what it needs when it runs, so that programs start, and refuse what is wrong, at once.
"""

from typing import TYPE_CHECKING

import jax
from ml_collections import ConfigDict

from diffc_jax import cli
from diffc_jax import config as config_lib
from diffc_jax.baselines.hific import config as hific_config
from diffc_jax.errors import UsageError
from diffc_jax.runtime import multihost
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.optional import require

if TYPE_CHECKING:
    from diffc_jax.training.task import Task


def validate(config: ConfigDict) -> None:
    """Checks everything that can be checked without data or devices; see `config.validate`."""
    config_lib.validate(config)
    if hific_config.is_hific(config):
        hific_config.validate(config)


def describe(config: ConfigDict) -> str:
    """All fields of a validated config, as JSON, once it is known that there is such a model.

    Raises:
        UsageError: there is none, or it has other fields.
    """
    if not hific_config.is_hific(config):
        from diffc_jax.models import build_model

        size = config.data.image_size
        build_model(config.model.to_dict(), (size, size, 3))
    return cli.describe(config)


def build_task(config: ConfigDict) -> "Task":
    """Builds what config.model describes, on a mesh of all devices; UsageError if it cannot be used."""
    if hific_config.is_hific(config):
        from diffc_jax.baselines.hific.task import build_hific_task

        return build_hific_task(config)
    from diffc_jax.training.diffusion_task import build_diffusion_task

    return build_diffusion_task(config)


def train(config: ConfigDict, workdir: AnyPath) -> None:
    """Trains what a validated config describes, or resumes; `training.loop.train` says more.

    Raises:
        InputError: another process is at work in the folder.
    """
    from diffc_jax.training import loop

    task = build_task(config)
    with multihost.owning(workdir):
        loop.train(task, workdir)


def evaluate(config: ConfigDict, workdir: AnyPath) -> None:
    """Measures what `train` left in a folder: by a sweep, or HiFiC by its files; results are in W/eval.

    Raises:
        UsageError: of HiFiC, another run than the folder's, other weights, or several processes.
        InputError: another process is at work in the folder.
    """
    with multihost.owning(workdir):
        _evaluate(config, workdir)


def _evaluate(config: ConfigDict, workdir: AnyPath) -> None:
    if not hific_config.is_hific(config):
        return _sweep(config, workdir)
    from diffc_jax.baselines.evaluate import evaluate_baselines
    from diffc_jax.runtime.run_config import check_same_model

    if config.eval.params:
        raise UsageError(
            f"{config.model.name} is evaluated from --workdir alone", field="eval.params"
        )
    if jax.process_count() > 1:
        raise UsageError(
            f"{config.model.name} is evaluated by one process; use off", field="--distributed"
        )
    check_same_model(config, workdir)
    own = config.copy_and_resolve_references()
    own.baselines.codecs = ()
    return evaluate_baselines(own, workdir, [workdir])


def _sweep(config: ConfigDict, workdir: AnyPath) -> None:
    from diffc_jax.evaluation import evaluate as evaluation

    if config.eval.grid_images:
        require("matplotlib")  # for reconstructions.png, which comes last
    folders = evaluation.evaluate(config, workdir)
    if config.eval.grid_images and multihost.is_primary():
        from diffc_jax.plotting.grids import draw_evaluation_grid

        for folder in folders:
            draw_evaluation_grid(folder)
