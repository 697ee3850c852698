"""config.json and cards: what a run or exported weights were made with, and what may change afterwards."""

import re
import types
from collections.abc import Callable, Mapping
from typing import Any, NotRequired, TypedDict

from ml_collections import ConfigDict

from diffc_jax import typed
from diffc_jax.config import FORMER_NAMES, base_config
from diffc_jax.config.sources import plain
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime import files

# What belongs to the training of a run, and what does not: the longest name above a field decides.
# tests/runtime/test_run_config.py has every field; one that stands nowhere counts as part of the training.
_TRAINED = (
    *("seed", "model", "schedule", "hific"),
    *("data.image_size", "data.train", "data.random_flip"),
    *("train.batch_size", "train.init_params", "train.gamma_range", "train.low_rate_emphasis"),
    *("train.optimizer", "train.learning_rate", "train.muon_learning_rate", "train.warmup_steps"),
    *("train.lr_decay", "train.decay_fraction", "train.beta2", "train.weight_decay"),
    *("train.clip_norm", "train.ema_decay", "train.second_ema_decay"),
)
# How long, how often, where, and what is measured. mesh, train.accumulation_steps and model.remat leave the
# updates as they are, up to rounding (and the draw of dropout's masks, for accumulation), so that a run can
# move to other devices; its images can move too, and are known by their pixels.
_FREE_TO_CHANGE = (
    *("mesh", "train.accumulation_steps"),
    *("model.remat", "model.fine.remat", "model.noisy.remat"),
    *("train.num_steps", "train.num_epochs", "train.num_examples", "train.max_seconds"),
    *("train.log_every_steps", "train.eval_every_steps", "train.eval_images"),
    *("train.checkpoint_every_steps", "train.keep_checkpoints", "train.steps_per_call"),
    *("train.trackers", "data.num_threads", "data.placement"),
    *("data.train.path", "data.train.max_pixels"),
    *("data.eval", "data.reference", "eval", "baselines"),
)
# Fields that a trained model depends on, and those of them that leave its weights what they are.
_OF_THE_MODEL = ("model", "schedule", "hific", "data.image_size")
_HOW_IT_IS_COMPUTED = re.compile(r"model\.(\w+\.)?(dtype|dropout|remat)")
_NUMBER_IN_MIXTURE = re.compile(r"\[\d+\]")

# Fields of config.train that decide which arrays a checkpoint has, and what its averages are.
_OF_CHECKPOINTS = ("optimizer", "ema_decay", "second_ema_decay")

# Fields by name, as `flatten` gives them.
_Flat = dict[str, Any]
_NO_DEFAULTS: Mapping[str, Any] = types.MappingProxyType({})
_Group = Mapping | ConfigDict


def config_path(workdir: files.AnyPath) -> files.AnyPath:
    """Where the config of a run is kept."""
    return workdir / "config.json"


def is_trained(field: str) -> bool | None:
    """Whether a field of a config belongs to what is trained, or may change; None: it is not known here.

    `field` is named as `flatten` does.
    """
    name = _NUMBER_IN_MIXTURE.sub("", field)
    while name:
        if name in _TRAINED or name in _FREE_TO_CHANGE:
            return name in _TRAINED
        name = name.rpartition(".")[0]
    return None


def claim_workdir(
    config: ConfigDict,
    workdir: files.AnyPath,
    write: bool = True,
    model_defaults: Mapping[str, Any] = _NO_DEFAULTS,
) -> None:
    """Checks that an earlier config.json describes the same training, and if so may write the new one.

    `model_defaults` are the values of fields that config.model may leave out (`models.default_fields`).

    Raises:
        UsageError: the folder holds a run with another config; the differences are listed.
    """
    path = config_path(workdir)
    if path.exists():
        _refuse_other_run(
            config, workdir, lambda field: is_trained(field) is not False, model_defaults
        )
    if write:
        files.write_json(path, plain(config))


def check_no_training(workdir: files.AnyPath) -> None:
    """Checks that a folder has no run of experiments/train.py, whose config.json another one would replace.

    Raises:
        UsageError: it has.
        InputError: its config.json is damaged.
    """
    path = config_path(workdir)
    if path.exists() and "train" in _read(path):
        raise UsageError(
            "holds a run of experiments/train.py, whose config.json would be replaced; use another --workdir",
            field=f"--workdir {workdir}",
        )


def check_same_model(
    config: ConfigDict,
    workdir: files.AnyPath,
    model_defaults: Mapping[str, Any] = _NO_DEFAULTS,
) -> None:
    """Checks that a run's model is the one that `config` describes; `model_defaults` as for `claim_workdir`.

    Raises:
        UsageError: it is another one; the differences are listed.
        InputError: the folder holds no run.
    """
    if not config_path(workdir).exists():
        raise InputError(
            f"--workdir {workdir}: holds no trained model; run experiments/train.py with the same"
            " flags first"
        )
    _refuse_other_run(
        config,
        workdir,
        lambda field: _is_below(field, _OF_THE_MODEL) and is_trained(field) is not False,
        model_defaults,
    )


def trained_batch_size(workdir: files.AnyPath) -> int:
    """How many images each step of the run in a folder sees.

    Raises:
        InputError: its config.json is damaged.
    """
    recorded: _Trained = _read(config_path(workdir), _Trained)
    return recorded["train"]["batch_size"]


def as_trained(config: ConfigDict, workdir: files.AnyPath) -> ConfigDict:
    """`config` with the optimiser and the averages of the run in a folder, on which its checkpoints depend.

    Raises:
        InputError: its config.json is damaged.
    """
    recorded: _Trained = _read(config_path(workdir), _Trained)
    known = base_config().train.to_dict() | recorded["train"]
    own = config.copy_and_resolve_references()
    own.train.update({name: known[name] for name in _OF_CHECKPOINTS})
    return own


class _Training(TypedDict):
    batch_size: typed.Positive
    optimizer: NotRequired[str]
    ema_decay: NotRequired[float]
    second_ema_decay: NotRequired[float]


class _Trained(TypedDict):
    train: _Training


def _read(path: files.AnyPath, kind: Any = dict[str, Any]) -> Any:
    return files.read_json(path, kind, "restore it, or use another --workdir")


def check_same_weights(
    config: ConfigDict,
    card: Mapping[str, Any],
    path: files.AnyPath,
    asked_by: str = "eval.params",
    model_defaults: Mapping[str, Any] = _NO_DEFAULTS,
) -> None:
    """Checks that the model of exported weights at `path`, with this card, is the one of `config`.

    `asked_by` is the field of the config that names them, `model_defaults` as for `claim_workdir`.

    What a card does not say is not compared.

    Raises:
        UsageError: it is another one; the differences are listed.
    """
    recorded = flatten(
        {
            **{name: card[name] for name in ("model", "schedule") if name in card},
            "data": {name: card[name] for name in ("image_size",) if name in card},
        }
    )
    groups = tuple({field.split(".")[0] for field in recorded})
    _refuse(
        asked_by,
        f"{path} was made",
        _differences(
            config,
            recorded,
            lambda field: (
                _is_below(field, _OF_THE_MODEL)
                and _is_below(field, groups)
                and not _HOW_IT_IS_COMPUTED.fullmatch(field)
            ),
            model_defaults,
        ),
        "other weights",
    )


def _refuse_other_run(
    config: ConfigDict,
    workdir: files.AnyPath,
    compared: Callable[[str], bool],
    model_defaults: Mapping[str, Any],
) -> None:
    recorded = flatten(_read(config_path(workdir)))
    differences = _differences(config, recorded, compared, model_defaults)
    _refuse(f"--workdir {workdir}", "holds a run", differences, "another --workdir")


def _refuse(field: str, what: str, differences: list[str], instead: str) -> None:
    if differences:
        raise UsageError(
            f"{what} with another config: {'; '.join(differences)}. Use these values or {instead}",
            field=field,
        )


def _differences(
    config: ConfigDict,
    recorded: _Flat,
    compared: Callable[[str], bool],
    model_defaults: Mapping[str, Any] = _NO_DEFAULTS,
) -> list[str]:
    """One text for each compared field that was recorded with another value."""
    recorded = {FORMER_NAMES.get(field, field): value for field, value in recorded.items()}
    left_out = flatten(model_defaults, "model.")
    new = left_out | flatten(config)
    old = _defaults(new, recorded) | left_out | recorded
    return [
        f"{field} was {old.get(field, 'absent')!r}, is {new.get(field, 'absent')!r}"
        for field in sorted(old.keys() | new.keys())
        if compared(field) and old.get(field) != new.get(field)
    ]


def _defaults(new: _Flat, recorded: _Flat) -> _Flat:
    """Values of fields that did not exist when a run was recorded: it did what their defaults do."""
    defaults = flatten(base_config())
    found = {}
    for field in new:
        name = _NUMBER_IN_MIXTURE.sub("", field)
        group = field.rpartition(".")[0]
        # A source that a mixture has not had is not one with all defaults.
        if name in defaults and (
            name == field or any(one.startswith(f"{group}.") for one in recorded)
        ):
            found[field] = defaults[name]
    return found


def flatten(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> _Flat:
    """A nested config as {"a.b": value, "c[0].d": value}; other tuples become lists, as in JSON."""
    flat: _Flat = {}
    for name, value in config.items():
        if isinstance(value, _Group):
            flat |= flatten(value, f"{prefix}{name}.")
        elif (
            isinstance(value, tuple | list)
            and value
            and all(isinstance(part, _Group) for part in value)
        ):
            for number, part in enumerate(value):
                flat |= flatten(part, f"{prefix}{name}[{number}].")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def _is_below(field: str, prefixes: tuple[str, ...]) -> bool:
    return any(field == prefix or field.startswith(prefix + ".") for prefix in prefixes)
