"""What a stopped evaluation of baselines has measured is not measured again."""

import concurrent.futures
import dataclasses
import json
import types

import numpy as np
import PIL.Image
import pytest

from diffc_jax.baselines import classical, codecs, lossless, stores
from diffc_jax.baselines.evaluate import _kept_arrays, evaluate_baselines
from diffc_jax.baselines.hific import codec
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.results import read_rate_points, write_rate_points
from tests.support.rate_points import make_points
from tests.support.run_files import arrays
from tests.support.subset_images import configured, write_images

pytestmark = pytest.mark.usefixtures("subset_features")

LADDER, COUNT, BATCH = (30, 60, 90), 18, 4
# The subsets have 9 images each, and no batch has images of both.
BATCHES = [4, 4, 1, 4, 4, 1]


class StoppedError(Exception):
    """What ends a run in a test."""


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """Qualities of files that a codec with few of them has made; and after how many it stops, if it shall."""
    codec, asked, limit = codecs.CODECS["jpeg_444"], [], {}

    def encoder(image, quality, **settings):
        if (image == 128).all():  # the image that every codec is tried with first
            return codec.encoder(image, quality, **settings)
        if len(asked) == limit.get("files"):
            raise StoppedError
        asked.append(quality)
        return codec.encoder(image, quality, **settings)

    replaced = dataclasses.replace(codec, encoder=encoder, qualities=LADDER)
    monkeypatch.setitem(codecs.CODECS, "jpeg_444", replaced)
    monkeypatch.setattr(stores, "_BATCH", BATCH)
    return asked, limit


@pytest.fixture
def run(subset_images):
    def evaluate(workdir, folder=subset_images, **evaluation):
        config = configured(folder, **evaluation)
        config.baselines.codecs = ("jpeg_444",)
        evaluate_baselines(config, workdir)

    return evaluate


def contents(workdir):
    """All results."""
    found = {}
    for folder in (workdir / "eval", workdir / "small" / "eval", workdir / "big" / "eval"):
        names = ("rd.csv", "per_image_baselines.csv", "spectra_baselines.csv", "lossless.json")
        found |= {folder.parent.name + name: (folder / name).read_text() for name in names}
        pixels = arrays(folder / "reconstructions_baselines.npz")
        found[folder.parent.name] = {name: array.tolist() for name, array in pixels.items()}
    found["eval"] = found.pop(workdir.name)
    return {name.removeprefix(workdir.name): content for name, content in found.items()}


def test_a_stopped_run_goes_on_with_what_is_finished(tmp_path, made, run, monkeypatch, caplog):
    asked, limit = made
    run(tmp_path / "whole")
    assert asked == [quality for quality in LADDER for _ in range(COUNT)]
    asked.clear()
    limit["files"] = COUNT + 10  # in the third batch of the second quality
    with pytest.raises(StoppedError):
        run(tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "eval" / "rd.csv").exists()
    asked.clear()
    limit.clear()
    with caplog.at_level("INFO", "absl"):
        run(tmp_path / "stopped")
    n_files = COUNT * (len(LADDER) + sum(len(one.settings) for one in lossless.LOSSLESS.values()))
    assert f"baselines: {n_files}/{n_files} files (100 %)" in caplog.text
    assert asked == [LADDER[1]] * (COUNT - 9) + [LADDER[2]] * COUNT
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    asked.clear()
    monkeypatch.setattr(lossless, "_file_bytes", None)  # not called again either
    run(tmp_path / "stopped")
    assert not asked
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_one_batch_is_in_memory_at_a_time(tmp_path, run, monkeypatch):
    seen = []
    code = classical.ClassicalBaseline.code

    def counted(self, images, *args):
        seen.append(len(images))
        return code(self, images, *args)

    monkeypatch.setattr(classical.ClassicalBaseline, "code", counted)
    run(tmp_path)
    assert seen == len(LADDER) * BATCHES


def test_other_images_settings_and_measures_are_not_taken_for_these(
    tmp_path, made, run, monkeypatch, caplog
):
    asked, _ = made
    folder = tmp_path / "images"
    folder.mkdir()
    write_images(folder)
    run(tmp_path, folder)
    asked.clear()
    PIL.Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "small" / "00.png")
    run(tmp_path, folder)
    assert asked == [quality for quality in LADDER for _ in range(BATCH)]
    assert f"{BATCH} images are measured again: they, or neighbours in their batches" in caplog.text
    asked.clear()
    codec = codecs.CODECS["jpeg_444"]
    other = dataclasses.replace(codec, settings={**codec.settings, "progressive": True})
    monkeypatch.setitem(codecs.CODECS, "jpeg_444", other)
    run(tmp_path, folder)
    assert len(asked) == len(LADDER) * COUNT
    asked.clear()
    run(tmp_path, folder, image_metrics=())
    assert len(asked) == len(LADDER) * COUNT


def test_a_damaged_file_is_named(tmp_path, run):
    run(tmp_path)
    path = min((tmp_path / "eval" / "progress").glob("jpeg-60-*/*.npz"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=rf"jpeg-60-.*{path.name}.*delete it and run again"):
        run(tmp_path)
    path.unlink()
    run(tmp_path)
    assert len(read_rate_points(tmp_path / "eval" / "rd.csv")) == len(LADDER)


def test_pictures_that_are_not_wanted_any_more_go(tmp_path, run):
    shown = tmp_path / "eval" / "reconstructions_baselines.npz"
    run(tmp_path)
    assert shown.exists()
    run(tmp_path, grid_images=0)
    assert not shown.exists()


def test_reconstructions_are_kept_with_the_images_that_they_are_of(tmp_path):
    path, images = tmp_path / "a.npz", np.zeros((2, 4, 4, 3), np.uint8)
    shown = {"a/method": np.array("jpeg"), "a/model": np.array("4:4:4"), "a/images": images}
    np.savez(path, originals=images, **shown)
    kept = [("jpeg", "4:4:4")]
    assert _kept_arrays(path, {"originals": images}, kept).keys() == shown.keys()
    assert _kept_arrays(path, {"originals": images}, [("jpeg", None)]) == {}
    assert _kept_arrays(path, {"originals": images + np.uint8(1)}, kept) == {}


def test_rows_that_are_replaced_by_fewer_are_named(tmp_path, run, monkeypatch, caplog):
    run(tmp_path)
    fewer = dataclasses.replace(codecs.CODECS["jpeg_444"], qualities=LADDER[:2])
    monkeypatch.setitem(codecs.CODECS, "jpeg_444", fewer)
    with caplog.at_level("WARNING", "absl"):
        run(tmp_path)
    folders = (tmp_path / "eval", tmp_path / "small" / "eval", tmp_path / "big" / "eval")
    assert caplog.messages == [
        f"{folder}/rd.csv: removed the row of jpeg 4:4:4 at level 90, which is not measured with the"
        " others now"
        for folder in folders
    ]
    assert len(read_rate_points(tmp_path / "eval" / "rd.csv")) == 2


def test_config_and_machine_of_a_sweep_stay(tmp_path, run):
    folder = tmp_path / "eval"
    folder.mkdir()
    write_rate_points(folder / "rd.csv", make_points(dataset="corpus", split="eval"))
    (folder / "config.json").write_text('{"of": "the sweep"}')
    (folder / "environment.json").write_text('{"device": "another"}')
    run(tmp_path)
    assert json.loads((folder / "config.json").read_text()) == {"of": "the sweep"}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["device"] == "another"
    assert "jpeg_444" in environment["encoders"]
    assert {p.method for p in read_rate_points(folder / "rd.csv")} == {"diffc", "jpeg"}


def test_runs_whose_rows_would_look_the_same_are_refused(tmp_path, monkeypatch):
    def load(path):
        run = object.__new__(codec.TrainedBaseline)
        level = 0.4 if path.name == "b" else 1.6
        run.identity = {"method": "hific", "model": "width 1", "level": level}
        run.codec = types.SimpleNamespace(check_size=lambda _: None)
        return run

    monkeypatch.setattr(codec, "load_run", load)
    paths = [tmp_path / name for name in ("a", "b", "c", "link")]
    for path in paths[:3]:
        path.mkdir()
    paths[3].symlink_to(paths[0])
    runs = codec.load_runs([paths[0], paths[1], paths[3]], 16)
    assert [run.identity["level"] for run in runs] == [0.4, 1.6]
    with pytest.raises(UsageError) as error:
        codec.load_runs(paths, 16)
    assert str(error.value) == (
        f"baselines.trained: {paths[0]} and {paths[2]} are both hific of width 1 at 1.6 bpp; name one"
    )


def test_versions_of_encoders_stay_with_their_rows(tmp_path, run, subset_images):
    run(tmp_path)
    environment = tmp_path / "eval" / "environment.json"
    before = json.loads(environment.read_text())["encoders"]
    config = configured(subset_images)
    config.baselines.codecs = ("webp",)
    evaluate_baselines(config, tmp_path)
    now = json.loads(environment.read_text())["encoders"]
    assert now == before | {"webp": codecs.CODECS["webp"].version()}
    assert {"jpeg_444", "lossless png"} < before.keys()


@pytest.mark.parametrize("field", ["version", "settings", "quality"])
def test_files_are_those_of_an_encoder_its_settings_and_a_quality(field):
    first = codecs.CODECS["webp"]
    changes = {"version": lambda: "webp 0"} if field == "version" else {"settings": {"preset": "x"}}
    second = first if field == "quality" else dataclasses.replace(first, **changes)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        made_by = [
            classical.ClassicalBaseline("webp", codec, quality, pool).made_by()
            for codec, quality in ((first, 20), (first, 20), (second, 20 + (field == "quality")))
        ]
    assert made_by[0] == made_by[1] != made_by[2]
