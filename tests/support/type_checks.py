"""Annotations are checked at every call; shapes, which take far longer, where a signature names some."""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping

_checking_shapes = jaxtyping.jaxtyped


def check_shapes_where_named(*, typechecker: Callable) -> Callable:
    """In place of `jaxtyping.jaxtyped`, which binds the arguments of every call and checks them twice."""

    def decorate(decorated: Any) -> Any:
        is_class = inspect.isclass(decorated)
        if is_class and not (dataclasses.is_dataclass(decorated) and "__init__" in vars(decorated)):
            return decorated
        if names_shapes(decorated.__init__ if is_class else decorated):
            return _checking_shapes(decorated, typechecker=typechecker)
        if not is_class:
            return typechecker(decorated)
        decorated.__init__ = typechecker(decorated.__init__)
        return decorated

    return decorate


def names_shapes(function: Callable) -> bool:
    """Whether an annotation holds one of jaxtyping, or is text that does not say yet what it is."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, SyntaxError, TypeError):
        # Shapes as text are no Python, some names are defined later, and `array.array[str]` is of stubs only.
        return True
    return any(map(_holds_shape, hints.values()))


def _holds_shape(hint: Any) -> bool:
    if isinstance(hint, list):  # arguments of a Callable
        return any(map(_holds_shape, hint))
    return type(hint).__module__.partition(".")[0] == "jaxtyping" or any(
        map(_holds_shape, typing.get_args(hint))
    )
