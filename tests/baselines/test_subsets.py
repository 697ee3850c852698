"""Baselines of several subsets of images: each file is made and measured once."""

import numpy as np
import pytest

from diffc_jax.baselines import classical, lossless
from diffc_jax.baselines.evaluate import evaluate_baselines
from diffc_jax.baselines.points import CodecPoint
from diffc_jax.evaluation.results import read_rate_points
from diffc_jax.metrics.features.extract import Extractor
from tests.support.subset_images import FILES, configured

pytestmark = pytest.mark.usefixtures("subset_features")


def test_estimates_of_trained_networks_are_means_over_pixels():
    identity = {"method": "hific", "model": "width 1", "level": 0.5, "dataset": "x", "split": "a"}
    sizes, errors = np.arange(4, 10).reshape(3, 2), np.ones(3)
    point = CodecPoint(identity, range(2, 5), 8, sizes, errors, np.arange(2.0, 5.0))
    assert (point.point.bpp_estimate, point.point.bpp) == (3.0 / 8, 8 * 6.0 / 8)
    assert (point.point.n_images, point.point.split) == (3, "a")
    assert [row["index"] for row in point.rows()] == [2, 3, 4]


def test_every_file_is_made_and_measured_once(subset_images, tmp_path, monkeypatch):
    calls = {"files": 0, "lossless": 0, "features": 0}

    def counted(owner, name, key, size=lambda *args: 1):
        function = getattr(owner, name)

        def call(*args, **kwargs):
            calls[key] += size(*args)
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    counted(classical, "_encode", "files")
    counted(lossless, "_file_bytes", "lossless")
    counted(Extractor, "__call__", "features", lambda self, batch: len(batch))
    evaluate_baselines(configured(subset_images), tmp_path)
    points = len(read_rate_points(tmp_path / "eval" / "rd.csv"))
    marks = sum(len(codec.settings) for codec in lossless.LOSSLESS.values())
    expected = {"files": 18 * points, "lossless": 18 * marks, "features": 18 * (points + 1)}
    assert calls == expected


def test_features_of_originals_and_of_another_reference_are_computed_once(
    subset_images, tmp_path, monkeypatch
):
    config = configured(subset_images)
    config.data.reference.update(
        source="folder", path=str(subset_images / "unnamed"), name="three", split="all"
    )
    seen = []
    function = Extractor.__call__
    monkeypatch.setattr(
        Extractor, "__call__", lambda self, x: seen.append(len(x)) or function(self, x)
    )
    evaluate_baselines(config, tmp_path)
    points = read_rate_points(tmp_path / "small" / "eval" / "rd.csv")
    assert sorted(seen) == [FILES["unnamed"]] + 2 * [9] * (len(points) + 1)
    assert {point.fid_reference for point in points} == {"three all, 3 images"}
    assert not (tmp_path / "small" / "eval" / "reference").exists()


def test_methods_that_are_not_measured_again_keep_all_they_have(subset_images, tmp_path):
    config = configured(subset_images)
    config.eval.grid_images = 2
    config.baselines.codecs = ("jpeg_420", "jpeg_444")
    evaluate_baselines(config, tmp_path)
    folder = tmp_path / "eval"

    def contents():
        tables = [
            sorted((folder / name).read_text().splitlines())
            for name in ("rd.csv", "per_image_baselines.csv", "spectra_baselines.csv")
        ]
        with np.load(folder / "reconstructions_baselines.npz") as arrays:
            return tables, {name: arrays[name].tolist() for name in arrays.files}

    before = contents()
    config.baselines.codecs = ("jpeg_444",)
    evaluate_baselines(config, tmp_path)
    assert contents() == before
