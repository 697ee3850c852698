"""Checks of config values; every message starts with the field and says what it may be."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from diffc_jax.errors import UsageError


def has_fields(config: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises UsageError unless a config has all groups of `expected`, and these all of its fields."""
    for group, fields in expected.items():
        if group not in config:
            raise UsageError(
                f"has no {group!r}, so it is the config of another program", field="--config"
            )
        for name in fields if isinstance(fields, Mapping) else ():
            if name not in config[group]:
                raise UsageError("is missing", field=f"{group}.{name}")


def finite(field: str, *values: float) -> None:
    """Raises UsageError if a value is infinity or not a number."""
    for value in values:
        if not math.isfinite(value):
            raise UsageError(f"{value} is not a finite number", field=field)


def all_finite(config: Mapping[str, Any], group: str = "") -> None:
    """Raises UsageError for the first number in nested dicts that is infinity or not a number."""
    for name, value in config.items():
        _check_finite(f"{group}{name}", value)


def _check_finite(field: str, value: Any) -> None:
    if isinstance(value, Mapping):
        all_finite(value, f"{field}.")
    elif isinstance(value, tuple | list):
        for number, part in enumerate(value):
            _check_finite(f"{field}[{number}]" if isinstance(part, Mapping) else field, part)
    elif isinstance(value, float):
        finite(field, value)


def names(field: str, values: Iterable[Any]) -> None:
    """Raises UsageError for the first value that is no text."""
    for value in values:
        if not isinstance(value, str):
            raise UsageError(
                f"{value!r} is not a name; give a tuple of names in quotes, ('{value}',)",
                field=field,
            )


def numbers(field: str, values: Iterable[Any]) -> None:
    """Raises UsageError for the first value that is no number."""
    for value in values:
        if not isinstance(value, int | float):
            raise UsageError(
                f"{value!r} is not a number; give a tuple of numbers, without quotes", field=field
            )


def integers(field: str, values: Iterable[Any]) -> None:
    """Raises UsageError for the first value that is no whole number."""
    for value in values:
        if not isinstance(value, int):
            raise UsageError(
                f"{value!r} is not a whole number; give a tuple of them, without quotes",
                field=field,
            )


def at_least(field: str, value: int | float, low: int | float) -> None:
    """Raises UsageError unless value >= low."""
    if not value >= low:
        raise UsageError(f"{value} is not at least {low}", field=field)


def above(field: str, value: int | float, low: int | float) -> None:
    """Raises UsageError unless value > low."""
    if not value > low:
        raise UsageError(f"{value} is not above {low}", field=field)


def within(field: str, value: int | float, low: int | float, high: int | float) -> None:
    """Raises UsageError unless low <= value < high."""
    if not low <= value < high:
        raise UsageError(f"{value} is not in [{low}, {high})", field=field)
