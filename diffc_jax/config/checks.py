"""Checks of config values; every message starts with the field and says what it may be."""

from diffc_jax.errors import UsageError


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


def one_of(field: str, value: str, names: tuple[str, ...]) -> None:
    """Raises UsageError unless value is one of the names."""
    if value not in names:
        raise UsageError(f"unknown {value!r}; choose one of {', '.join(names)}", field=field)
