"""What the fields of a config mean, read from the source; docs/config.md is this as a page."""

import dataclasses
import functools
import inspect
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from diffc_jax.config.base import base_config
from diffc_jax.config.sources import SourceSpec, source_config, training_source

_ASSIGNMENT = re.compile(r"config\.([\w.]+) = ")
_COMMENT = re.compile(r"\[([^\]]+)\] (.+)")

_PAGE = """\
# Fields of a config

`scripts/update_docs.py` writes this page from the comments in `diffc_jax/config/`; edit those.
`--config.FIELD=VALUE` overrides any field. Where the unit is "-", a field is a plain number; -log
SNR is the noise level gamma, a natural logarithm.

## All jobs

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


def config_page() -> str:
    """docs/config.md."""
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
    )


def _shown(value: Any) -> str:
    if isinstance(value, ConfigDict):
        return f'`{value.source}`, split `"{value.split}"`' if value.source else "none"
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
