"""Which images an evaluation by subset has."""

import json
import os
import pathlib
import re
import subprocess
import sys
import tarfile

import numpy as np
import PIL.Image
import pytest

from diffc_jax import data
from diffc_jax.config import base_config, validate
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.subsets import images_to_evaluate, open_references, select_images
from diffc_jax.runtime import run_config
from diffc_jax.training.experiment import open_source
from tests.support.subset_images import RANGES, configured, read_pixels

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pixels(subset_images):
    return read_pixels(subset_images)


def test_first_images_of_each_subset_one_subset_after_the_other(subset_images, pixels):
    config = configured(subset_images)
    selection = select_images(
        open_source(config, "eval"), config.eval.max_images, config.eval.subsets
    )
    assert isinstance(selection, data.ImageSource)
    assert (selection.name, selection.split) == ("corpus", "eval")
    assert dict(selection.subsets) == RANGES
    np.testing.assert_array_equal(np.stack([selection[i] for i in range(len(selection))]), pixels)
    assert selection.label(11) == str(subset_images / "big" / "02.png")
    assert np.flatnonzero(selection.are_first(2)).tolist() == [0, 1, 9, 10]
    config.eval.max_images = 0
    everything = select_images(
        open_source(config, "eval"), config.eval.max_images, config.eval.subsets
    )
    assert dict(everything.subsets) == {"small": range(9), "big": range(9, 20)}


def test_without_subsets_the_first_images_of_all(subset_images):
    config = configured(subset_images, subsets=(), max_images=12)
    selection = select_images(
        open_source(config, "eval"), config.eval.max_images, config.eval.subsets
    )
    assert dict(selection.subsets) == {}
    assert [pathlib.Path(selection.label(i)).parts[-2] for i in range(len(selection))] == [
        *(["big"] * 11),
        "small",
    ]
    assert np.flatnonzero(selection.are_first(3)).tolist() == [0, 1, 2]
    config.eval.max_images = 0
    assert (
        len(select_images(open_source(config, "eval"), config.eval.max_images, config.eval.subsets))
        == 23
    )


@pytest.mark.parametrize("subsets", [(), ("small", "big")])
def test_images_are_drawn_where_they_are_compared_with_the_rest(subset_images, subsets):
    """Both parts have the same distribution, whatever the order of the set."""
    config = configured(subset_images, subsets=subsets, max_images=3)
    source = open_source(config, "eval")
    first = images_to_evaluate(config, source)
    config.data.reference.source = "rest"
    drawn = images_to_evaluate(config, source)
    assert drawn.subsets == first.subsets
    for name in drawn.subsets or ("",):
        members = {source.label(i) for i in range(len(source)) if name in source.label(i)}
        within = drawn.subsets.get(name, range(len(drawn)))
        chosen = [drawn.label(i) for i in within]
        left = drawn.left_out()[list(drawn.subsets).index(name) + 1 if name else 0]
        kept = [left.label(i) for i in range(len(left))]
        assert (chosen, kept) == (sorted(chosen), sorted(kept))
        assert set(chosen) != {first.label(i) for i in within}
        assert {*chosen, *kept} == members
        assert not {*chosen} & {*kept}
    config.eval.max_images = 4
    more = images_to_evaluate(config, source)
    labels = [{one.label(i) for i in range(len(one))} for one in (drawn, more)]
    assert labels[0] < labels[1]


def test_subsets_are_words_of_the_names_of_tars_and_nothing_is_decoded(tmp_path):
    (tmp_path / "notaref").mkdir()
    content = tmp_path / "0.png"
    PIL.Image.new("RGB", (4, 4)).save(content)
    names = ("hq64.tar", "hq64_01.tar", "hq640.tar", "ref.tar")
    for number, name in enumerate(names):
        with tarfile.open(tmp_path / "notaref" / name, "w") as archive:
            archive.add(content, f"n{number}/reflex.png")
            content.write_bytes(b"broken")
    spec = data.SourceSpec(source="tar", path=str(tmp_path / "notaref"), image_size=4)
    selection = select_images(data.open_source(spec), subsets=("ref", "hq64"))
    assert dict(selection.subsets) == {"ref": range(1), "hq64": range(1, 3)}
    found = [pathlib.Path(selection.label(i).split(", member")[0]).name for i in range(3)]
    assert found == ["ref.tar", "hq64.tar", "hq64_01.tar"]


def test_a_dot_in_the_name_of_a_subset_is_a_dot(tmp_path):
    for name in ("v1.0", "v1x0"):
        (tmp_path / name).mkdir()
        PIL.Image.new("RGB", (4, 4)).save(tmp_path / name / "0.png")
    spec = data.SourceSpec(source="folder", path=str(tmp_path), image_size=4)
    selection = select_images(data.open_source(spec), subsets=("v1.0",))
    assert [selection.label(i) for i in range(len(selection))] == [f"{tmp_path}/v1.0/0.png"]


def test_subsets_that_are_refused(subset_images):
    def message(subsets):
        config = configured(subset_images)
        config.eval.subsets = subsets
        source = open_source(config, "eval")
        with pytest.raises(UsageError) as error:
            validate(config) or select_images(source, 0, config.eval.subsets)
        return str(error.value)

    assert message(("small", "small")) == ("eval.subsets: ('small', 'small') must name each once")
    assert message(("a/b",)) == (
        "eval.subsets: 'a/b' cannot name a folder; use letters, digits, '_', '-' and '.'"
    )
    for name in ("", ".."):
        assert message((name,)).startswith(f"eval.subsets: {name!r} cannot name a folder; ")
    first = subset_images / "big" / "00.png"
    assert message(("small", "smal")) == (
        "eval.subsets: no image of corpus eval is of 'smal'; name words of the images' paths, such as"
        f" {first}"
    )
    assert message(("big", "00")) == (
        f"eval.subsets: {first} is of 'big' and of '00'; choose names of which only one is a word of each"
        " image's path"
    )


def test_old_command_lines_and_runs_with_the_former_name(tmp_path):
    command = [sys.executable, "experiments/evaluate.py", "--config=configs/quickstart.py:smoke"]
    command += [f"--workdir={tmp_path}", "--config.eval.families=('small','big')", "--dry_run"]
    found = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True
    )
    assert found.returncode == 0, found.stderr.decode()
    described = json.loads(found.stdout)
    assert described["eval"]["subsets"] == ["small", "big"]
    assert "families" not in described["eval"]

    described["eval"]["families"] = described["eval"].pop("subsets")
    recorded = run_config.flatten(described)
    config = base_config()
    config.eval.subsets = ("small", "big")
    assert run_config._differences(config, recorded, lambda field: "subsets" in field) == []
    config.eval.subsets = ("small",)
    (found,) = run_config._differences(config, recorded, lambda field: "subsets" in field)
    assert found == "eval.subsets was ['small', 'big'], is ['small']"


def test_images_that_are_not_evaluated_may_be_the_reference(subset_images):
    config = configured(subset_images, features="efficientnet_lite0")
    config.data.reference.source = "rest"

    def references(**evaluation):
        config.eval.update(evaluation)
        return open_references(config, images_to_evaluate(config, open_source(config, "eval")))

    # Five of eleven and four of nine, though nine are asked for: at most half.
    whole, small, big = references()
    assert [len(one) for one in (whole, small, big)] == [11, 5, 6]
    whole, small, big = references(max_images=3)
    folders = [
        [pathlib.Path(one.label(i)).parts[-2] for i in range(len(one))] for one in (small, big)
    ]
    assert folders == [["small"] * 6, ["big"] * 8]
    assert [one.split for one in (whole, small, big)] == [
        "eval small big rest",
        "eval small rest",
        "eval big rest",
    ]
    (others,) = references(subsets=(), max_images=20)
    assert (len(others), others.split) == (12, "eval rest")
    config.data.reference.source = ""
    assert references() == [None]
    config.data.reference.update(source="rest", path="a")
    with pytest.raises(UsageError, match=r"^data.reference.path: 'a' is not used by source=rest"):
        validate(config)


def test_the_rest_of_all_subsets_has_their_shares(subset_images):
    """As many of each as are evaluated, or the same multiple of them."""
    config = configured(subset_images, max_images=5)
    config.data.reference.source = "rest"

    def counts(images):
        config.eval.max_images = images
        selection = images_to_evaluate(config, open_source(config, "eval"))
        evaluated = {name: len(images) for name, images in selection.subsets.items()}
        whole, *subsets = selection.left_out()
        labels = [whole.label(i) for i in range(len(whole))]
        assert len({*labels}) == len(labels)
        members = [{one.label(i) for i in range(len(one))} for one in subsets]
        kept = [[label for label in labels if label in of] for of in members]
        assert labels == [label for of in kept for label in of]
        assert all(of == sorted(of) for of in kept)
        return evaluated, dict(zip(selection.subsets, map(len, kept), strict=True))

    # Of 9 and 11 images.
    assert counts(2) == ({"small": 2, "big": 2}, {"small": 7, "big": 7})
    assert counts(4) == ({"small": 4, "big": 4}, {"small": 5, "big": 5})
    assert counts(5) == ({"small": 4, "big": 5}, {"small": 5, "big": 6})


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_subset_of_which_too_little_is_left(subset_images, count):
    config = configured(subset_images, features="efficientnet_lite0")
    config.data.reference.source = "rest"
    config.data.eval.max_images = 11 + count
    selection = images_to_evaluate(config, open_source(config, "eval"))
    assert len(selection.subsets["small"]) == 1
    left = count - 1
    if left == 2:
        assert [len(one) for one in open_references(config, selection)] == [1 + 6, 2, 6]
        return
    message = (
        f"data.reference.source: corpus eval small rest has {left} images, and a reference has at least 2;"
        " evaluate a subset of at least 3 images, or name another reference"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        open_references(config, selection)
