"""What errors of use know about the field that they complain about."""

import ast
import pathlib
import re

from diffc_jax.errors import InputError, UsageError

ROOT = pathlib.Path(__file__).parents[1]


def test_the_text_begins_with_the_field():
    error = UsageError("0 is not at least 1", field="batch_size")
    assert str(error) == "batch_size: 0 is not at least 1"
    assert (error.message, error.field) == ("0 is not at least 1", "batch_size")
    assert str(UsageError("unexpected argument 'x'")) == "unexpected argument 'x'"


def test_an_error_is_one_line():
    assert str(InputError("a\nb: is\r\nbad")) == "a b: is bad"
    assert str(UsageError("is\nbad", field="x\ny")) == "x y: is bad"


def test_a_field_can_belong_to_a_group():
    error = UsageError("is empty", field="path").in_group("train").in_group("data")
    assert (str(error), error.field) == ("data.train.path: is empty", "data.train.path")
    assert UsageError("is empty").in_group("data").field == "data"


def test_nobody_edits_the_text_of_an_error():
    edits = re.compile(r"str\((error|caught)\)\.(replace|startswith|removeprefix)\(")
    for folder in ("diffc_jax", "experiments", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not edits.search(path.read_text()), path.name


def test_a_field_is_not_named_in_the_message():
    found = []
    for folder in ("diffc_jax", "experiments", "scripts"):
        for path in (ROOT / folder).rglob("*.py"):
            found += [
                f"{path.relative_to(ROOT)}:{node.lineno}"
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "UsageError"
                if not node.keywords and ": " in ast.unparse(node)
            ]
    assert found == []
