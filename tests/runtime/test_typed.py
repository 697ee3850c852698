"""Values against types, and texts of JSON that no reader can go through."""

from typing import Annotated, NotRequired, Required, TypedDict

import pytest

from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.files import read_json
from diffc_jax.runtime.parsing import parsing
from diffc_jax.typed import Count, Meta, NotNegative, Positive, check_arguments, mismatch
from tests.support.refusals import fails


class Shard(TypedDict):
    file: Annotated[str, Meta(pattern=".+")]
    images: Count
    bytes: NotRequired[Positive]


class Manifest(TypedDict, total=False):
    shards: Required[list[Shard]]
    seconds: NotNegative | None
    counts: dict[str, Count]
    ends: tuple[float, float]


@pytest.mark.parametrize(
    ("value", "flaw"),
    [
        ({"shards": []}, ""),
        ({"shards": [{"file": "a", "images": 3, "new": []}], "seconds": 1}, ""),
        ({"shards": {}}, "shards: expected `array`, got `object`"),
        ({}, "object missing required field `shards`"),
        ({"shards": [{"file": "a"}]}, "shards[0]: object missing required field `images`"),
        ({"shards": [{"file": "", "images": 1}]}, "shards[0].file: expected `str` like .+"),
        ({"shards": [{"file": "a", "images": -1}]}, "shards[0].images: expected `int` >= 0"),
        (
            {"shards": [{"file": "a", "images": 1.0}]},
            "shards[0].images: expected `int`, got `float`",
        ),
        (
            {"shards": [{"file": "a", "images": True}]},
            "shards[0].images: expected `int`, got `bool`",
        ),
        (
            {"shards": [{"file": "a", "images": 1, "bytes": 10**30}]},
            "shards[0].bytes: expected `int` <= 4611686018427387904",
        ),
        ({"shards": [], "seconds": "1"}, "seconds: expected `float | null`, got `str`"),
        ({"shards": [], "seconds": -0.5}, "seconds: expected `float` >= 0"),
        ({"shards": [], "counts": {"a": 1, "b": None}}, "counts['b']: expected `int`, got `null`"),
        ({"shards": [], "ends": [1, 2]}, ""),
        ({"shards": [], "ends": [1, 2, 3]}, "ends: expected `array` of length 2, got 3"),
        (
            {"shards": [{"file": "\ud800", "images": 1}]},
            "shards[0].file: a text in it is not Unicode",
        ),
        ([], "expected `object`, got `array`"),
    ],
)
def test_where_values_differ_from_their_type(value, flaw):
    assert mismatch(value, Manifest) == flaw


def test_arguments_are_compared_with_annotations():
    def build(shape: tuple[int, int], width: Annotated[int, Meta(le=8)], rate: float = 0.1) -> None:
        raise AssertionError((shape, width, rate))

    def check(**fields):
        check_arguments(build, fields, "model", "net", given=["shape"])

    check(width=3)
    check(width=3, rate=1)
    fails(UsageError, "model.width: is missing; net needs it", check)
    for fields, text in (
        ({"depth": 2}, "model.depth: net has no such field; it has rate, width"),
        ({"width": 3, "shape": (1, 1)}, "model.shape: net has no such field; it has rate, width"),
        ({"width": "3"}, "model.width: expected `int`, got `str`"),
        ({"width": 9}, "model.width: expected `int` <= 8"),
        ({"width": 3, "rate": None}, "model.rate: expected `float`, got `null`"),
    ):
        fails(UsageError, text, lambda fields=fields: check(**fields))


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ('{"images": 1, "images": 2}', "an object has 'images' twice"),
        ("9" * 20, "an integer has more than 64 bits"),
        (str(2**63), "an integer has more than 64 bits"),
        (str(-(2**63) - 1), "an integer has more than 64 bits"),
        ("[" * 65 + "]" * 65, "nested more than 64 deep"),
        ("[" * 100_000, "nested more than 64 deep"),
        ('"\xe9"'.encode("latin1"), "'utf-8' codec can't decode byte 0xe9 in position 1: "),
        ("[1", "Expecting ',' delimiter: line 1 column 3 (char 2)"),
    ],
)
def test_json_that_is_refused(tmp_path, text, flaw):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError) as caught:
        read_json(path, list[int], "make it again")
    assert str(caught.value).startswith(f"{path}: is not valid JSON ({flaw}")
    assert str(caught.value).endswith("; make it again")


def test_numbers_that_are_no_floats_are_null(tmp_path):
    (tmp_path / "x.json").write_text("[NaN, 1e999, -Infinity, 1e308]")
    assert read_json(tmp_path / "x.json", list[float | None]) == [None, None, None, 1e308]
    ends = [-(2**63), 2**63 - 1]
    (tmp_path / "x.json").write_text(f"[{ends[0]}, {ends[1]}]")
    assert read_json(tmp_path / "x.json", list[int]) == ends


def test_errors_of_libraries_become_one_line(tmp_path):
    path = tmp_path / "x"

    def raising(error):
        with parsing(path, "is no image", "make it again"):
            raise error

    for error, text in (
        (ValueError("two\nlines"), f"{path}: is no image (two lines); make it again"),
        (KeyError("data"), f"{path}: is no image (no 'data'); make it again"),
        (MemoryError(), f"{path}: is no image (MemoryError); make it again"),
        (FileNotFoundError(2, "No such file"), f"{path}: cannot be read (No such file)"),
        (InputError("its own"), "its own"),
    ):
        fails(InputError, text, lambda error=error: raising(error))
    with pytest.raises(KeyboardInterrupt):
        raising(KeyboardInterrupt())
