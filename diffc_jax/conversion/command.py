"""The command line that all conversions share."""

import pathlib
from collections.abc import Callable

from absl import flags
from ml_collections import ConfigDict, config_flags

from diffc_jax import cli
from diffc_jax.config import validate

Conversion = Callable[[ConfigDict, pathlib.Path, pathlib.Path | None], None]


def run_conversion(convert: Conversion) -> None:
    """Runs `convert(config, input, workdir)` as a program; with --dry_run its workdir is None."""
    config_flags.DEFINE_config_file("config", None, "What the checkpoint is evaluated with later.")
    flags.DEFINE_string("input", None, "The checkpoint, a file.")
    flags.DEFINE_string("workdir", None, "Folder for params.safetensors and its card.")
    flags.DEFINE_bool("dry_run", False, "Check everything and write nothing.")
    flags.mark_flags_as_required(["config", "input", "workdir"])

    def main() -> None:
        values = flags.FLAGS
        validate(values.config)
        workdir = None if values.dry_run else cli.prepare_workdir(values.workdir)
        convert(values.config, pathlib.Path(values.input).expanduser(), workdir)

    cli.run(main)
