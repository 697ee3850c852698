"""Annotations are checked at calls; shapes, which take far longer, where a signature names some.

At all of the first calls of a function, and then now and then: those that are called most would otherwise
take more time for their checks than for their work.
"""

import collections
import dataclasses
import functools
import inspect
import itertools
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping

# The first calls of a function in a process are all checked, later ones as often as one in so many: a prime,
# so that of places that call it in turn none is left out.
ALWAYS, ONE_IN = 100, 17
# A function within a function is a new one at each call of that; only the first of them are checked.
MOST_COPIES = 20

_checking_shapes = jaxtyping.jaxtyped
copies: collections.Counter[types.CodeType] = collections.Counter()


def check_shapes_where_named(*, typechecker: Callable) -> Callable:
    """In place of `jaxtyping.jaxtyped`, which binds the arguments of every call and checks them twice."""

    def decorate(decorated: Any) -> Any:
        is_class = inspect.isclass(decorated)
        if is_class and not (dataclasses.is_dataclass(decorated) and "__init__" in vars(decorated)):
            return decorated
        if is_class:
            if names_shapes(decorated.__init__):
                return _checking_shapes(decorated, typechecker=typechecker)
            decorated.__init__ = typechecker(decorated.__init__)
            return decorated
        copies[decorated.__code__] += 1
        if copies[decorated.__code__] > MOST_COPIES:
            return decorated
        if names_shapes(decorated):
            return _now_and_then(decorated, _checking_shapes(decorated, typechecker=typechecker))
        return _now_and_then(decorated, typechecker(decorated))

    return decorate


def _now_and_then(plain: Callable, checked: Callable) -> Callable:
    numbers = itertools.count()

    @functools.wraps(plain)
    def call(*arguments: Any, **named: Any) -> Any:
        number = next(numbers)
        chosen = checked if number < ALWAYS or number % ONE_IN == 0 else plain
        return chosen(*arguments, **named)

    return call


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
