"""config.json: the config that a run was started with, and what may change when it resumes."""

import re
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from diffc_jax.config import FORMER_NAMES, base_config
from diffc_jax.config.sources import plain
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime import files

# Fields that change how long, how often or where, but not what is trained. mesh, train.accumulation_steps
# and model.remat leave the updates as they are, up to rounding (and the draw of dropout's masks, for
# accumulation), so that a run can move to other devices.
_FREE_TO_CHANGE = (
    *("mesh", "train.accumulation_steps"),
    *("model.remat", "model.fine.remat", "model.noisy.remat"),
    *("train.num_steps", "train.num_epochs", "train.num_examples", "train.max_seconds"),
    *("train.log_every_steps", "train.eval_every_steps", "train.eval_images"),
    *("train.checkpoint_every_steps", "train.keep_checkpoints", "train.steps_per_call"),
    *("data.num_threads", "data.placement", "data.train.path", "data.eval", "eval", "baselines"),
)
_PATH_IN_MIXTURE = re.compile(r"data\.train\[\d+\]\.path")
# Fields that a trained model depends on.
_OF_THE_MODEL = ("model", "schedule", "hific", "data.image_size")


def config_path(workdir: files.AnyPath) -> files.AnyPath:
    """Where the config of a run is kept."""
    return workdir / "config.json"


def claim_workdir(config: ConfigDict, workdir: files.AnyPath, write: bool = True) -> None:
    """Checks that an earlier config.json describes the same training, and if so may write the new one.

    Raises:
        UsageError: the folder holds a run with another config; the differences are listed.
    """
    if config_path(workdir).exists():
        differences = [
            line
            for field, line in _differences(config, workdir)
            if not (_below(field, _FREE_TO_CHANGE) or _PATH_IN_MIXTURE.fullmatch(field))
        ]
        _refuse(workdir, differences)
    if write:
        files.write_json(config_path(workdir), plain(config))


def check_same_model(config: ConfigDict, workdir: files.AnyPath) -> None:
    """Checks that a run's model is the one that `config` describes.

    Raises:
        UsageError: it is another one; the differences are listed.
        InputError: the folder holds no run.
    """
    if not config_path(workdir).exists():
        raise InputError(
            f"--workdir {workdir}: holds no trained model; run experiments/train.py with the same"
            " flags first"
        )
    differences = [
        line
        for field, line in _differences(config, workdir)
        if _below(field, _OF_THE_MODEL) and not _below(field, _FREE_TO_CHANGE)
    ]
    _refuse(workdir, differences)


def _refuse(workdir: files.AnyPath, differences: list[str]) -> None:
    if differences:
        raise UsageError(
            f"holds a run with another config: {'; '.join(differences)}."
            " Use these values or another --workdir",
            field=f"--workdir {workdir}",
        )


def _differences(config: ConfigDict, workdir: files.AnyPath) -> list[tuple[str, str]]:
    recorded = {
        FORMER_NAMES.get(field, field): value
        for field, value in flatten(files.read_json(config_path(workdir))).items()
    }
    new = flatten(plain(config))
    defaults = flatten(plain(base_config()))
    # A run from before a field existed did what the field's default does.
    old = {field: defaults[field] for field in new.keys() & defaults.keys()} | recorded
    return [
        (field, f"{field} was {old.get(field, 'absent')!r}, is {new.get(field, 'absent')!r}")
        for field in sorted(old.keys() | new.keys())
        if old.get(field) != new.get(field)
    ]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as {"a.b": value, "c[0].d": value}; other tuples become lists, as in JSON."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, tuple | list) and any(isinstance(part, Mapping) for part in value):
            for number, part in enumerate(value):
                flat |= flatten(part, f"{prefix}{name}[{number}].")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _below(field: str, prefixes: tuple[str, ...]) -> bool:
    return any(field == prefix or field.startswith(prefix + ".") for prefix in prefixes)
