"""What the fields of a config mean, read from the source; docs/config.md is this as a page."""

import dataclasses
import functools
import inspect
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from diffc_jax.config.base import base_config
from diffc_jax.config.sources import SourceSpec, source_config, training_source

_ASSIGNMENT = re.compile(r"config\.([\w.]+) = ")
_COMMENT = re.compile(r"\[([^\]]+)\] (.+)")

_PAGE = """\
# Fields of a config

`scripts/update_docs.py` writes this page from comments and docstrings in `diffc_jax/`; edit those.
`--config.FIELD=VALUE` overrides a field; one that the config does not have has to be added to its
file first. Where the unit is "-", a field is a plain number; -log SNR is the noise level gamma, a
natural logarithm.

## Training, evaluation and baselines

| field | default | unit | meaning |
|---|---|---|---|
{fields}

## A source of images

`data.train`, `data.eval` and `data.reference` have these fields.

| field | default | meaning |
|---|---|---|
{source}

One of several sources of `data.train` (`training_source`) has two more:

| field | meaning |
|---|---|
{mixture}

## Models

`model.name` chooses one of these networks; its other fields are those of `model`. One that a config
does not have takes its default.
{models}
## Elsewhere

HiFiC and the hyper-prior have `model` and `hific`, described in
`diffc_jax/baselines/hific/config.py`; `gaussian.py` and `channel_simulation.py` have configs of
their own, described in `diffc_jax/studies/*/config.py`.
"""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of `base_config`; its name has its group, as in "train.batch_size"."""

    name: str
    unit: str
    meaning: str
    default: Any


def describe_fields() -> Iterator[Field]:
    """The fields of `base_config` in their order, from the comments above them.

    Raises:
        ValueError: a field without such a comment.
    """
    config, comment = base_config(), ""
    for line in map(str.strip, inspect.getsource(base_config).splitlines()):
        if line.startswith("#"):
            comment += line.removeprefix("#")
            continue
        if match := _ASSIGNMENT.match(line):
            default = functools.reduce(operator.getitem, match[1].split("."), config)
            is_group = isinstance(default, ConfigDict) and "source" not in default
            described = _COMMENT.fullmatch(comment.strip())
            if described is not None:
                yield Field(match[1], described[1], described[2], default)
            elif not is_group:
                raise ValueError(f"{match[1]}: needs a comment '# [unit] Meaning.' above it")
        comment = ""


def config_page(models: Mapping[str, Callable[..., Any]]) -> str:
    """docs/config.md, with a section for each of `models`, which are builders by name."""
    defaults = source_config()
    return _PAGE.format(
        fields="\n".join(
            f"| `{field.name}` | {_shown(field.default)} | {field.unit} | {field.meaning} |"
            for field in describe_fields()
        ),
        source="\n".join(
            f"| `{name}` | {_shown(defaults[name])} | {meaning} |"
            for name, meaning in _entries(SourceSpec, "Attributes").items()
            if name in defaults
        ),
        mixture="\n".join(
            f"| `{name}` | {meaning} |"
            for name, meaning in _entries(training_source, "Args").items()
            if name != "**fields"
        ),
        models="".join(_model_section(name, builder) for name, builder in models.items()),
    )


def _model_section(name: str, builder: Callable[..., Any]) -> str:
    parameters = {
        field: parameter.default
        for field, parameter in inspect.signature(builder).parameters.items()
        if field not in ("image_shape", "group")
    }
    if not parameters:
        return f"\n### `{name}`\n\nNo other fields.\n"
    meanings = _entries(builder, "Args")
    rows = "\n".join(
        f"| `{field}` | {'required' if default is inspect.Parameter.empty else f'`{default!r}`'}"
        f" | {meanings[field]} |"
        for field, default in parameters.items()
    )
    return f"\n### `{name}`\n\n| field | default | meaning |\n|---|---|---|\n{rows}\n"


def _shown(value: Any) -> str:
    if isinstance(value, ConfigDict):
        return f'`{value.source}`, split `"{value.split}"`' if value.source else 'source `""`: none'
    return f"`{value!r}`"


def _entries(documented: type | Callable[..., Any], section: str) -> dict[str, str]:
    """Names and texts of a section of a docstring."""
    lines = inspect.cleandoc(documented.__doc__ or "").splitlines()
    entries: dict[str, str] = {}
    for line in lines[lines.index(f"{section}:") + 1 :]:
        if match := re.match(r" {4}([\w*]+): (.*)", line):
            name = match[1]
            entries[name] = match[2]
        elif line.startswith(" " * 8):
            entries[name] += f" {line.strip()}"
        else:
            break
    return entries
