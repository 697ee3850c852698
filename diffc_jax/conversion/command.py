"""The command that converts checkpoints of all kinds."""

import pathlib
from collections.abc import Callable

from absl import flags
from ml_collections import ConfigDict, config_flags

from diffc_jax import cli
from diffc_jax.config import validate
from diffc_jax.conversion.diffusers import convert_diffusers
from diffc_jax.conversion.openai import convert_openai
from diffc_jax.conversion.uqdm import convert_uqdm
from diffc_jax.conversion.vdm import convert_vdm
from diffc_jax.errors import UsageError
from diffc_jax.runtime import multihost, run_config
from diffc_jax.runtime.files import local_path

_Conversion = Callable[[ConfigDict, pathlib.Path, pathlib.Path | None], None]


def convert(config: ConfigDict, source: pathlib.Path, workdir: pathlib.Path | None) -> None:
    """Converts a checkpoint to W/params.safetensors with its card; if W is None, checks everything only.

    Args:
        config: validated; its model says which project the checkpoint is of, and its sizes.
        source: a file, or a folder of diffusers or UQDM.
        workdir: W.

    Raises:
        UsageError: a model that no checkpoint is converted to, or other fields than the checkpoint's.
        InputError: the checkpoint cannot be read or has another network, or W cannot be written.
    """
    conversions: dict[str, _Conversion] = {
        "diffusers_unet": convert_diffusers,
        "guided_diffusion": convert_openai,
        "improved_diffusion": convert_openai,
        # UQDM trained this network too.
        "vdm": convert_uqdm if source.is_dir() else convert_vdm,
    }
    name = config.model.name
    if name not in conversions:
        raise UsageError(
            f"no checkpoint of others is converted to {name!r}, only to {', '.join(conversions)}",
            field="model.name",
        )
    conversions[name](config, source, workdir)


def main() -> None:
    """Runs `convert` as a program; with --dry_run nothing is written."""
    config_flags.DEFINE_config_file("config", None, "What the checkpoint is evaluated with later.")
    flags.DEFINE_string("input", None, "The checkpoint, a file or a folder.")
    flags.DEFINE_string("workdir", None, "Folder for params.safetensors and its card.")
    flags.DEFINE_bool("dry_run", False, "Check everything and write nothing.")
    flags.mark_flags_as_required(["config", "input", "workdir"])

    def run() -> None:
        values = flags.FLAGS
        validate(values.config)
        source = local_path(values.input)
        workdir = cli.check_workdir(values.workdir)
        run_config.check_no_training(workdir)
        if values.dry_run:
            convert(values.config, source, None)
            return
        with multihost.owning(workdir):
            convert(values.config, source, workdir)

    cli.run(run)
