"""Tests check types and shapes at run time, the cheap way where a signature names no shapes."""

import collections
import dataclasses
from collections.abc import Callable

import jaxtyping
import numpy as np
import pytest
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float, PyTree

from tests.support import type_checks
from tests.support.type_checks import (
    ALWAYS,
    MOST_COPIES,
    ONE_IN,
    check_shapes_where_named,
    names_shapes,
)

checked = check_shapes_where_named(typechecker=beartype)
Row = Float[np.ndarray, " n"]


@checked
def total(row: Row, other: Row) -> float:
    return float(row.sum() + other.sum())


@checked
def twice(number: int) -> int:
    return 2 * number if number else "nothing"


@checked
@dataclasses.dataclass
class Pair:
    first: Row
    second: Row


@checked
@dataclasses.dataclass
class Named:
    name: str


def test_shapes_of_arguments_are_compared():
    assert total(np.ones(2), np.ones(2)) == 4.0
    assert Pair(np.ones(2), np.ones(2)).first.size == 2
    for call in (total, Pair):
        with pytest.raises(jaxtyping.TypeCheckError):
            call(np.ones(2), np.ones(3))


def test_other_arguments_and_results_are_checked():
    assert twice(2) == 4
    assert Named("a").name == "a"
    for call, value in ((twice, 2.0), (twice, 0), (Named, 1)):
        with pytest.raises(BeartypeCallHintViolation):
            call(value)


@pytest.mark.parametrize(
    "hint",
    [Row, Row | None, dict[str, Row], tuple[Row, ...], Callable[[Row], int], PyTree, "Unknown"],
)
def test_shapes_are_found_wherever_they_are_named(hint):
    def function(argument): ...

    function.__annotations__["argument"] = hint
    assert names_shapes(function)
    function.__annotations__["argument"] = Callable[[int], dict[str, np.ndarray]]
    assert not names_shapes(function)


def test_later_calls_are_checked_now_and_then(monkeypatch):
    monkeypatch.setattr(type_checks, "copies", collections.Counter())

    @checked
    def triple(number: int) -> int:
        return 3 * number

    refused = 0
    for _ in range(ALWAYS + 10 * ONE_IN):
        try:
            assert triple(1.0) == 3.0
        except BeartypeCallHintViolation:
            refused += 1
    assert refused == ALWAYS + 10


def test_of_functions_within_functions_the_first_are_checked(monkeypatch):
    monkeypatch.setattr(type_checks, "copies", collections.Counter())

    def make():
        @checked
        def triple(number: int) -> int:
            return 3 * number

        return triple

    for copy in range(MOST_COPIES + 5):
        triple = make()
        if copy < MOST_COPIES:
            with pytest.raises(BeartypeCallHintViolation):
                triple(1.0)
        else:
            assert triple(1.0) == 3.0
