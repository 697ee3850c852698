"""What the front doors share: flags, the config, and errors as one line with an exit code."""

import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from diffc_jax import config as config_lib
from diffc_jax.errors import DiffcError, InputError, UsageError


def define_experiment_flags() -> None:
    """Defines --config, --workdir and --dry_run."""
    config_flags.DEFINE_config_file(
        "config", None, "Experiment, for example configs/quickstart.py."
    )
    flags.DEFINE_string("workdir", None, "Folder of the run; the same folder resumes it.")
    flags.DEFINE_bool("dry_run", False, "Print the resolved config and exit.")
    flags.mark_flags_as_required(["config", "workdir"])


def run_experiment(experiment: Callable[[ConfigDict, pathlib.Path], None]) -> None:
    """Runs `experiment(config, workdir)` as a program with the flags of `define_experiment_flags`."""

    def main() -> None:
        config = flags.FLAGS.config
        config_lib.validate(config)
        if flags.FLAGS.dry_run:
            print(json.dumps(config.to_dict(), indent=2, sort_keys=True))
            return
        experiment(config, prepare_workdir(flags.FLAGS.workdir))

    define_experiment_flags()
    run(main)


def run(main: Callable[[], None]) -> None:
    """Parses the flags and runs `main`; mistakes of the user end in one line on stderr.

    The exit code is 0 on success, 2 for a bad flag or config value and 1 for a bad file or data set.
    """

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            _exit_with(UsageError(f"unexpected argument {argv[1]!r}"))
        logging.set_verbosity(logging.INFO)
        # Libraries announce their own steps at this level; ours are the ones to read.
        logging.get_absl_handler().addFilter(_is_ours)
        try:
            main()
        except DiffcError as error:
            _exit_with(error)

    app.run(guarded, flags_parser=_parse_flags)


def prepare_workdir(path: str) -> pathlib.Path:
    """Makes the folder of a run and checks that it can be written.

    Raises:
        InputError: it cannot.
    """
    workdir = pathlib.Path(path).expanduser().resolve()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--workdir {path}: cannot be made ({error.strerror})") from error
    if not os.access(workdir, os.W_OK):
        raise InputError(f"--workdir {path}: is not writable")
    return workdir


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        message = str(error)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"--config: {error}"
    except (OSError, ImportError, SyntaxError) as error:
        message = f"--config: cannot be read ({error})"
    except DiffcError as error:
        message = str(error)
    return _exit_with(UsageError(message))


def _exit_with(error: DiffcError) -> Any:
    line = " ".join(str(error).split())
    print(f"{pathlib.Path(sys.argv[0]).name}: error: {line}", file=sys.stderr)
    sys.exit(error.exit_code)


def _is_ours(record: Any) -> bool:
    return record.levelno > 20 or "diffc_jax" in record.pathname
