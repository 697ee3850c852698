"""JSON that every reader takes: no NaN, no infinity."""

import ast
import json
import math
import os
import pathlib

import numpy as np
import pytest

from diffc_jax.errors import InputError
from diffc_jax.metrics.statistics import standard_error
from diffc_jax.runtime.files import as_json, read_json, to_json, write_json
from diffc_jax.runtime.json_text import parse_json
from diffc_jax.runtime.writers import MetricWriter, drop_after
from diffc_jax.training.validation import describe_elbo
from tests.support.processes import ROOT

PROGRAMS = ("diffc_jax", "experiments", "scripts", "benchmarks", "examples", "configs")


def strict(text):
    """What a reader sees that keeps to the standard."""

    def refuse(name):
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


def test_what_is_not_finite_is_null(tmp_path):
    value = {"b": [1.5, math.nan, (np.float64("inf"), {"x": -math.inf})], "a": "NaN"}
    expected = {"a": "NaN", "b": [1.5, None, [None, {"x": None}]]}
    write_json(tmp_path / "value.json", value)
    text = (tmp_path / "value.json").read_text()
    assert strict(text) == expected
    assert text.startswith('{\n  "a"')
    assert to_json({"step": 1, "a": math.nan}, in_one_line=True) == '{"step": 1, "a": null}'


def test_names_of_files_that_are_not_utf8_can_be_read_back(tmp_path):
    name = os.fsdecode(b"\xe9t\xe9.png")
    write_json(tmp_path / "value.json", {"skipped": [name], name: "\u00e9"})
    found = read_json(tmp_path / "value.json")
    assert found == {"skipped": [r"\udce9t\udce9.png"], r"\udce9t\udce9.png": "\u00e9"}
    assert as_json(found) == found


def test_files_of_older_versions_are_read(tmp_path):
    (tmp_path / "old.json").write_text('{"stderr": NaN, "psnr": [Infinity, -Infinity, 1.0]}')
    assert read_json(tmp_path / "old.json") == {"stderr": None, "psnr": [None, None, 1.0]}


def test_metrics_that_are_not_finite_are_left_out(tmp_path):
    writer = MetricWriter(tmp_path, 0)
    writer.scalars(3, {"eval/bits_per_dim": 2.0, "eval/bits_per_dim_stderr": math.nan})
    writer.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert strict(line) == {"step": 3, "eval/bits_per_dim": 2.0}
    assert line.startswith('{"step"')


def test_lines_of_metrics_that_are_damaged_are_dropped(tmp_path, caplog):
    path, whole = tmp_path / "metrics.jsonl", b'{"step": 2, "loss": 1.5}\n'
    damaged = (
        b"[]",
        b'{"step": "2"}',
        b'{"step": [1]}',
        b"{}",
        b"[" * 9999,
        b'{"step": 1, "a": "\xff"}',
    )
    path.write_bytes(b"".join(whole + line + b"\n" for line in damaged) + b'{"step": 2, "lo')
    drop_after(path, 2)
    assert path.read_bytes() == whole * len(damaged)
    assert caplog.messages == [f"{path}: dropped a damaged line"] * len(damaged)


@pytest.mark.parametrize(
    ("count", "text"), [(1, "4.0000 bits/dim"), (2, "4.0000 +- 0.0000 bits/dim")]
)
def test_one_image_has_no_standard_error(count, text):
    values = np.full(count, 4.0)
    average = {"bits_per_dim": 4.0, "bits_per_dim_stderr": standard_error(values)}
    assert describe_elbo(average) == text
    expected = None if count == 1 else 0.0
    assert strict(to_json(average))["bits_per_dim_stderr"] == expected


def calls_of_json(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            where = node.func.value
            if isinstance(where, ast.Name) and where.id == "json" and "dump" in node.func.attr:
                yield node


@pytest.mark.parametrize("folder", PROGRAMS)
def test_nothing_writes_json_that_is_none(folder):
    for path in pathlib.Path(ROOT / folder).rglob("*.py"):
        for call in calls_of_json(path):
            words = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
            assert words.get("allow_nan") is False, f"{path.relative_to(ROOT)}, line {call.lineno}"


@pytest.mark.parametrize("text", [r'{"a": ["\ud800"]}', r'{"\ud800": 1}'])
def test_halves_of_characters_are_refused(text):
    with pytest.raises(InputError, match=r"^x: is not valid JSON \(.*surrogates not allowed\)$"):
        parse_json(text.encode(), "x")
