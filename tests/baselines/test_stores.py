"""What a stopped evaluation of baselines has measured is not measured again."""

import dataclasses
import json

import numpy as np
import PIL.Image
import pytest

from diffc_jax.baselines import classical, codecs, lossless, stores
from diffc_jax.baselines.evaluate import evaluate_baselines
from diffc_jax.errors import InputError
from diffc_jax.evaluation.results import read_rate_points
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


def test_a_stopped_run_goes_on_with_what_is_finished(tmp_path, made, run, monkeypatch):
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
    run(tmp_path / "stopped")
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
