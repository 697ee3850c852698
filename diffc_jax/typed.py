"""Values from outside against types: what files of JSON hold, and the fields of what a config describes.

Types are written as for type checkers: `TypedDict`, dataclasses, `list[int]`, `Annotated[int, Meta(ge=1)]`.
msgspec compares, and says where a value differs. Keys that a type does not name may be there: newer versions
write more. An integer counts as a float, but no float as an integer, and a boolean is no number.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from diffc_jax.errors import UsageError

Count = Annotated[int, Meta(ge=0, le=2**62)]
Positive = Annotated[int, Meta(ge=1, le=2**62)]
# JSON has neither NaN nor infinity, and `read_json` lets no number stand for one.
NotNegative = Annotated[float, Meta(ge=0)]


def mismatch(value: Any, kind: Any) -> str:
    """How `value` differs from a type, "shards[0].images: expected `int`, got `str`"; empty if not."""
    place, flaw = _difference(value, kind)
    return f"{place.removeprefix('.')}: {flaw}" if place else flaw


def _difference(value: Any, kind: Any) -> tuple[str, str]:
    """Where a value differs from a type, ".shards[0]", and how; two empty texts if it does not."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at ")
        return place.strip("`").removeprefix("$"), text[0].lower() + text[1:]
    except UnicodeEncodeError:
        return "", "a text in it is not Unicode"
    return "", ""


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
