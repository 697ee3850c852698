"""Texts of JSON (RFC 8259) as values of the type that their reader needs; any other text is one line."""

import json
import math
import os
from typing import Any

from diffc_jax import typed
from diffc_jax.errors import InputError

# Levels of nested objects and arrays; configs have five.
_DEEPEST = 64
_TOO_DEEP = f"nested more than {_DEEPEST} deep"


def parse_json(data: bytes, path: str | os.PathLike[str], kind: Any = Any, fix: str = "") -> Any:
    """The value in a text of JSON from `path`; arguments and errors as of `read_json`."""
    remedy = f"; {fix}" if fix else ""
    try:
        value = json.loads(
            data.decode(), parse_constant=_number, parse_float=_number, object_pairs_hook=_object
        )
        _check_nesting(value)
    except RecursionError:
        raise InputError(f"{path}: is not valid JSON ({_TOO_DEEP}){remedy}") from None
    except ValueError as error:
        raise InputError(f"{path}: is not valid JSON ({error}){remedy}") from error
    if flaw := typed.mismatch(value, kind):
        raise InputError(f"{path}: {flaw}{remedy}")
    return value


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object has {max(names, key=names.count)!r} twice")
    return found


def _check_nesting(value: Any) -> None:
    """Refuses what recursive functions could not go through, integers beyond 64 bits, and no Unicode."""
    level = [value]
    for _ in range(_DEEPEST):
        for one in level:
            if isinstance(one, int) and not -(2**63) <= one < 2**63:
                raise ValueError("an integer has more than 64 bits")
            for text in one if isinstance(one, dict) else [one] if isinstance(one, str) else []:
                text.encode()
        groups = [
            one.values() if isinstance(one, dict) else one
            for one in level
            if isinstance(one, dict | list)
        ]
        level = [part for group in groups for part in group]
        if not level:
            return
    raise ValueError(_TOO_DEEP)
