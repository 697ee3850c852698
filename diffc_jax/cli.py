"""What all programs have in common: flags, the config, and errors as one line with an exit code."""

import io
import math
import os
import pathlib
import re
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from diffc_jax import config as config_lib
from diffc_jax.config.sources import plain
from diffc_jax.errors import DiffcError, InputError, PreemptedError, UsageError
from diffc_jax.runtime import compilation_cache, devices, disk, files, multihost, signals

_ORBAX = f"{os.sep}orbax{os.sep}"
_PACKAGE = str(pathlib.Path(__file__).parent) + os.sep
# Flags defined here belong to the program that asks for them, whose --help lists them.
flags.disclaim_key_flags()


def _define_experiment_flags(multi_host: bool) -> None:
    config_flags.DEFINE_config_file("config", None, "Experiment, as configs/quickstart.py.")
    flags.DEFINE_string("workdir", None, "Folder of the run; the same folder resumes it.")
    flags.DEFINE_bool("dry_run", False, "Print the resolved config and exit.")
    if multi_host:
        flags.DEFINE_enum(
            "distributed",
            "off",
            ["off", "auto"],
            "auto: join the other processes of a cluster job (Slurm, Open MPI, TPU pod, Kubernetes).",
        )
        flags.DEFINE_integer(
            "expect_devices",
            None,
            "Stop at once unless there are so many devices, of all processes together; if not given, what "
            "Slurm gave the job is compared.",
            lower_bound=1,
        )
    flags.mark_flags_as_required(["config", "workdir"])


def describe(config: ConfigDict) -> str:
    """All fields of a config, as JSON."""
    return files.to_json(plain(config))


def run_experiment(
    experiment: Callable[[ConfigDict, files.AnyPath], None],
    validate: Callable[[ConfigDict], None] = config_lib.validate,
    dry_run: Callable[[ConfigDict], str] = describe,
    multi_host: bool = False,
) -> None:
    """Runs `experiment(config, workdir)` as a program with --config, --workdir and --dry_run.

    `validate` checks the config first, also for --dry_run, which prints what `dry_run` says. With
    `multi_host` several processes can share the job, through --distributed. The folder belongs to this
    program while it runs.
    """

    def main() -> None:
        config = flags.FLAGS.config
        validate(config)
        if flags.FLAGS.dry_run:
            print(dry_run(config))
            return
        if multi_host:
            multihost.start(flags.FLAGS.distributed)
        devices.check_platform()
        if multi_host:
            devices.check_devices(flags.FLAGS.expect_devices)
            if not multihost.is_primary():
                logging.set_verbosity(logging.WARNING)
        workdir = check_workdir(flags.FLAGS.workdir)
        with multihost.owning(workdir):
            experiment(config, workdir)

    _define_experiment_flags(multi_host)
    run(main)


def run(main: Callable[[], None]) -> None:
    """Parses the flags and runs `main`; mistakes of the user end in one line on stderr.

    The exit code is 0 on success, 2 for a bad flag or config value, 1 for a bad file or data set or a machine
    without the devices, and 85 for training or an evaluation that SIGTERM or Ctrl-C stopped and that goes
    on if the command is run again. Other programs die of these signals, and leave nothing half written.
    """
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signals.leave_at_signals()

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            _exit_with(UsageError(f"unexpected argument {argv[1]!r}"))
        logging.set_verbosity(logging.INFO)
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files, as on stderr
        # Libraries announce their own steps at this level; ours are the ones to read.
        logging.get_absl_handler().addFilter(_is_ours)
        compilation_cache.keep_compiled()
        try:
            with disk.writing(_output()):
                main()
        except DiffcError as error:
            _exit_with(error)
        except Exception as error:
            if isinstance(error, AssertionError | RuntimeError) and (
                missing := devices.missing_platform()
            ):
                _exit_with(missing)
            if not jax.distributed.is_initialized():
                raise
            # One of several processes must end at once. Python's own way out waits at the runtime's barrier
            # for the others, which wait for this one in a collective.
            traceback.print_exc()
            multihost.leave(1)

    # In place: ml_collections reads sys.argv itself, to see which fields are overridden.
    sys.argv[1:] = map(_with_present_name, sys.argv[1:])
    app.run(guarded, flags_parser=_parse_flags)


def _output() -> str:
    """Where the program writes, for the message of a full disk."""
    values = flags.FLAGS.flag_values_dict()
    return values.get("workdir") or values.get("output") or "."


def check_workdir(path: str) -> files.AnyPath:
    """The folder of a run, which can be made if need be and written; nothing is made.

    Raises:
        InputError: it cannot.
    """
    if files.is_remote(files.as_path(path)):
        return files.as_path(path)
    workdir = files.local_path(path).resolve()
    if flaw := disk.folder_flaw(workdir):
        raise InputError(f"--workdir {path}: cannot be written ({flaw})")
    return workdir


def prepare_workdir(path: str) -> files.AnyPath:
    """Makes the folder for what a program writes; object stores have no folders to make.

    Raises:
        InputError: it cannot be made or written.
    """
    workdir = check_workdir(path)
    if isinstance(workdir, pathlib.Path):
        with disk.only_writing(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
    return workdir


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return parse_flags(argv, flags.FLAGS)
    except DiffcError as error:
        _exit_with(error)
        raise
    except SystemExit:  # --help was printed, which is no failure
        sys.exit(0)


def parse_flags(argv: list[str], values: flags.FlagValues) -> list[str]:
    """Reads a command line into `values`; what is left of it is returned.

    Raises:
        UsageError: a flag, a config file or an override of one of its fields cannot be used.
    """
    try:
        remaining: list[str] = values(argv)
        # ml_collections keeps the error of a file until a field is used.
        if "config" in values and not isinstance(values.config, ConfigDict):
            raise FileNotFoundError
        _check_finite(values)
        _check_given(values)
    except DiffcError as error:
        raise UsageError(str(error)) from error
    except Exception as error:  # a config file is a program: it may raise anything
        raise UsageError(_describe_flag_error(error, argv, values)) from error
    return remaining


def _check_finite(values: flags.FlagValues) -> None:
    for name, value in values.flag_values_dict().items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{value} is not a finite number", field=f"--{name}")


def _check_given(values: flags.FlagValues) -> None:
    """Refuses names that are empty, as of a shell variable that is not set: they mean the current folder."""
    for name in ("config", "workdir", "input", "inputs", "output", "model", "report"):
        if name in values and values[name].value == "" != values[name].default:
            raise UsageError("is empty", field=f"--{name}")


def _with_present_name(argument: str) -> str:
    """--config.FIELD=VALUE with the name that a renamed field has now; other arguments as they are."""
    flag, separator, value = argument.partition("=")
    dashes = flag[: len(flag) - len(flag.lstrip("-"))]
    prefix, _, field = flag.lstrip("-").partition(".")
    if dashes and prefix == "config" and field in config_lib.FORMER_NAMES:
        return f"{dashes}config.{config_lib.FORMER_NAMES[field]}{separator}{value}"
    return argument


def _config_of(argv: list[str]) -> str:
    """The last value of --config, or nothing."""
    found = ""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        flag, separator, value = argument.partition("=")
        if flag in ("--config", "-config"):
            found = value if separator else following
    return found


def _describe_flag_error(error: Exception, argv: list[str], values: flags.FlagValues) -> str:
    """Says what a flag, a config file or an override of one of its fields did wrong."""
    file = _config_of(argv).partition(":")[0]
    # absl and ml_collections wrap the errors of config files in others that quote tracebacks.
    chain: list[BaseException] = [error]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    for cause in reversed(chain):
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if file and os.path.abspath(frame.filename) == os.path.abspath(file):
                return f"--config: {file}, line {frame.lineno}: {type(cause).__name__}: {cause}"
    root = chain[-1]
    if isinstance(error, flags.Error) and "Traceback" not in str(error):
        return str(error)
    if isinstance(error, OSError):
        found = os.path.exists(file)
        return f"--config: {file}: {'has no get_config that gives a config' if found else 'no such file'}"
    if wrong := _describe_wrong_index(values, argv):
        return wrong
    names = (argument.partition("=")[0].lstrip("-") for argument in argv)
    field = next((name for name in names if root.args and root.args[0] in name.split(".")), None)
    if isinstance(root, KeyError) and field:
        suggestion = re.search(r'Did you mean "(\w+)"', str(error))
        meant = f"; did you mean {suggestion[1]}?" if suggestion else ""
        if not suggestion and field.startswith("config.model."):
            meant = "; add it to the config file"
        return f"--{field}: no such field{meant}"
    return f"--config: {file}: {type(root).__name__}: {root}"


def _describe_wrong_index(values: flags.FlagValues, argv: list[str]) -> str:
    """Which override numbers what is not several, or does not number what is; empty if none does."""
    try:
        config = values["config"].parser.parse(_config_of(argv))
    except Exception:  # it is the file that is wrong
        return ""
    for argument in argv:
        prefix, _, field = argument.partition("=")[0].lstrip("-").partition(".")
        if prefix == "config" and (flaw := _index_flaw(config, field)):
            return f"--config.{field}: {flaw}"
    return ""


def _index_flaw(value: Any, field: str) -> str:
    for part in re.finditer(r"\w+|\[(-?\d+)\]", field):
        holder, rest = field[: part.start()].removesuffix("."), field[part.end() :]
        number, several = part[1], isinstance(value, tuple)
        if number and not several:
            return f"{holder} is not several; use {holder}{rest}"
        if number and not -len(value) <= int(number) < len(value):
            return f"{holder} has {len(value)} parts, of which the first is [0]"
        if several and not number:
            if not any(isinstance(one, ConfigDict) for one in value):
                return f"{holder} is a tuple and has no fields; set {holder}"
            return f"{holder} is a mixture of {len(value)} sources; use {holder}[0].{part[0]}{rest}"
        if not number and (not isinstance(value, ConfigDict) or part[0] not in value):
            return ""
        value = value[int(number) if number else part[0]]
    return ""


def _exit_with(error: DiffcError) -> Any:
    line = " ".join(str(error).split())
    print(f"{pathlib.Path(sys.argv[0]).name}: error: {line}", file=sys.stderr)
    if isinstance(error, PreemptedError):  # as all processes are, which end together
        sys.exit(error.exit_code)
    multihost.leave(error.exit_code)


def _is_ours(record: Any) -> bool:
    if record.pathname.startswith(_PACKAGE):
        return True
    # Orbax logs with a traceback what its threads raise, which is told in one line when they are waited for.
    return record.levelno > 20 and not (record.exc_info and _ORBAX in record.pathname)
