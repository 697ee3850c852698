"""Values from outside against types: what files of JSON hold, and the fields of what a config describes.

Types are written as for type checkers: `TypedDict`, `list[int]`, `Annotated[int, Meta(ge=1)]`.
Keys that a type does not name may be there: newer versions write more. An integer counts as a float, but no
float as an integer, and a boolean is no number.
"""

import dataclasses
import functools
import inspect
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import (
    Annotated,
    Any,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from diffc_jax.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Meta:
    """Bounds of a number or of the length of a text, and a pattern for all of it."""

    ge: int | float | None = None
    le: int | float | None = None
    max_length: int | None = None
    pattern: str = ""

    def flaw(self, value: Any) -> str:
        """What of this does not hold for a value of the right type."""
        if self.ge is not None and value < self.ge:
            return f" >= {self.ge}"
        if self.le is not None and value > self.le:
            return f" <= {self.le}"
        if self.max_length is not None and len(value) > self.max_length:
            return f" of length <= {self.max_length}"
        if self.pattern and not re.fullmatch(self.pattern, value):
            return f" like {self.pattern}"
        return ""


Count = Annotated[int, Meta(ge=0, le=2**62)]
Positive = Annotated[int, Meta(ge=1, le=2**62)]
# JSON has neither NaN nor infinity, and `read_json` lets no number stand for one.
NotNegative = Annotated[float, Meta(ge=0)]

_NAMES: dict[Any, str] = {None: "null", types.NoneType: "null"}
_NAMES |= {one: one.__name__ for one in (bool, int, float, str)}
_NAMES |= dict.fromkeys((dict, Mapping), "object")
_NAMES |= dict.fromkeys((list, tuple, Sequence), "array")
_AGREES = "", ""


def mismatch(value: Any, kind: Any) -> str:
    """How `value` differs from a type, "shards[0].images: expected `int`, got `str`"; empty if not."""
    place, flaw = _difference(value, kind)
    return f"{place.removeprefix('.')}: {flaw}" if place else flaw


def check_arguments(
    function: Callable[..., Any],
    fields: Mapping[str, Any],
    group: str,
    owner: str,
    given: Collection[str] = (),
) -> None:
    """Checks names and types of keyword arguments by the annotations of a function.

    Args:
        function: what will be called with `fields`.
        fields: of a config or of a card.
        group: what they belong to in a config ("model").
        owner: whose they are, for messages.
        given: arguments that are no fields.

    Raises:
        UsageError: a field that the function does not have, or that it needs and lacks, or of another type.
    """
    parameters = inspect.signature(function).parameters
    known = {name: one for name, one in parameters.items() if name not in given}
    for field in fields:
        if field not in known:
            raise UsageError(
                f"{owner} has no such field; it has {', '.join(sorted(known)) or 'none'}",
                field=f"{group}.{field}",
            )
    for field, parameter in known.items():
        if parameter.default is parameter.empty and field not in fields:
            raise UsageError(f"is missing; {owner} needs it", field=f"{group}.{field}")
        kind = Any if parameter.annotation is parameter.empty else parameter.annotation
        if field in fields:
            place, flaw = _difference(fields[field], kind)
            if flaw:
                raise UsageError(flaw, field=f"{group}.{field}{place}")


def _difference(value: Any, kind: Any) -> tuple[str, str]:
    """Where a value differs from a type, ".shards[0]", and how; two empty texts if it does not."""
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if kind is Any:
        return _AGREES
    if origin is Annotated:
        place, flaw = _difference(value, arguments[0])
        bound = "" if flaw else "".join(one.flaw(value) for one in arguments[1:])
        return ("", f"expected `{_name(kind)}`{bound}") if bound else (place, flaw)
    if origin in (Union, types.UnionType):
        found = [_difference(value, one) for one in arguments]
        close = [one for one in found if one[0] or ", got `" not in one[1]]
        return min(close, key=lambda one: one != _AGREES) if close else _wrong(value, kind)
    if is_typeddict(kind) or origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            return _wrong(value, kind)
        if not is_typeddict(kind):
            return _first(
                (f"[{key[:40]!r}]", part, (*arguments, Any)[1]) for key, part in value.items()
            )
        for name in (hints := _hints(kind)):
            if name in kind.__required_keys__ and name not in value:
                return "", f"object missing required field `{name}`"
        return _first((f".{name}", value[name], hints[name]) for name in hints if name in value)
    if origin in (list, tuple, Sequence):
        if not isinstance(value, list | tuple):
            return _wrong(value, kind)
        if origin is tuple and len(value) != len(arguments):
            return "", f"expected `array` of length {len(arguments)}, got {len(value)}"
        kinds = arguments if origin is tuple else [arguments[0]] * len(value)
        return _first((f"[{i}]", *pair) for i, pair in enumerate(zip(value, kinds, strict=True)))
    wanted: Any = {float: (float, int), None: types.NoneType}.get(kind, kind)
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        return _wrong(value, kind)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "", "a text in it is not Unicode"
    return _AGREES


def _first(parts: Iterable[tuple[str, Any, Any]]) -> tuple[str, str]:
    """The first difference among (place, value, type)."""
    for place, value, kind in parts:
        inner, flaw = _difference(value, kind)
        if flaw:
            return place + inner, flaw
    return _AGREES


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Types of the fields of a `TypedDict`."""
    hints = get_type_hints(kind, include_extras=True)
    wrapped = (Required, NotRequired)
    return {n: get_args(one)[0] if get_origin(one) in wrapped else one for n, one in hints.items()}


def _wrong(value: Any, kind: Any) -> tuple[str, str]:
    found = _NAMES.get(type(value), type(value).__name__)
    return "", f"expected `{_name(kind)}`, got `{found}`"


def _name(kind: Any) -> str:
    origin = get_origin(kind) or kind
    if origin is Annotated:
        return _name(get_args(kind)[0])
    if origin in (Union, types.UnionType):
        return " | ".join(map(_name, get_args(kind)))
    return "object" if is_typeddict(kind) else _NAMES.get(origin, str(origin))


def one_of(field: str, value: str | int, choices: Iterable[str | int]) -> None:
    """Raises UsageError unless value is one of the choices."""
    known = tuple(choices)
    if value not in known:
        names = ", ".join(map(str, known))
        raise UsageError(f"unknown {value!r}; choose one of {names}", field=field)
