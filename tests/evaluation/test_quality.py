"""An evaluation with perceptual measures, from images to result files."""

import json
import re

import numpy as np
import pytest

from diffc_jax import data
from diffc_jax.baselines import lossless
from diffc_jax.baselines.evaluate import evaluate_baselines
from diffc_jax.commands import train
from diffc_jax.config import validate
from diffc_jax.errors import UsageError
from diffc_jax.evaluation import measures
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.evaluation.results import read_rate_points
from diffc_jax.metrics.features.extract import Extractor
from diffc_jax.metrics.features.registry import load_feature_network
from diffc_jax.metrics.frechet import frechet_distance
from diffc_jax.metrics.lpips import PairwiseLPIPS, lpips_alex
from diffc_jax.metrics.statistics import RunningCovariance
from diffc_jax.runtime.sharding import make_mesh
from tests.support.feature_network import small_network
from tests.support.image_files import write_smooth_images
from tests.support.run_files import arrays, table
from tests.support.small_configs import small_config

N_IMAGES, SIDE = 20, 32


def configured(folder, **evaluation):
    config = small_config(folder, SIDE)
    config.eval.update({"rate_steps": 30, "rate_evaluations": 10, "num_levels": 2})
    config.eval.update({"flow_steps": 4, "decoders": ("flow", "mean"), "batch_size": 8})
    config.eval.codec_decoders = ()
    config.eval.update(evaluation)
    config.baselines.codecs = ("jpeg_420",)
    return config


def features():
    return small_network(SIDE, dimension=12)


@pytest.fixture(scope="module", autouse=True)
def _network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            measures,
            "load_feature_network",
            lambda *arguments: load_feature_network(*arguments) and features(),
        )
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_smooth_images(tmp_path_factory.mktemp("images"), N_IMAGES, SIDE, coarse=6)


@pytest.fixture(scope="module")
def workdir(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = configured(images)
    validate(config)
    train(config, folder)
    evaluate(config, folder)
    evaluate_baselines(config, folder)
    return folder


@pytest.fixture(scope="module")
def everything(images, workdir):
    """A run that keeps all reconstructions, to measure them again in one batch."""
    evaluate(configured(images, grid_images=N_IMAGES, batch_size=N_IMAGES), workdir)
    return arrays(workdir / "eval" / "reconstructions.npz")


def test_distances_are_those_of_the_reconstructions(workdir, everything):
    extractor = Extractor(features(), make_mesh(), batch_size=N_IMAGES)
    reference = RunningCovariance.of(extractor(everything["original"]))
    points = [p for p in read_rate_points(workdir / "eval" / "rd.csv") if p.method == "diffc"]
    assert len(points) == 4
    for decoder in ("flow", "mean"):
        of_decoder = [p for p in points if p.decoder == decoder]
        for level, point in enumerate(of_decoder):
            found = RunningCovariance.of(extractor(everything[decoder][:, level]))
            assert point.fid_features == "efficientnet_lite0"
            assert point.fid == pytest.approx(frechet_distance(reference, found), rel=1e-3)
            assert point.kid is not None
            assert point.kid_stderr > 0
        # The second level has the higher rate.
        assert of_decoder[0].fid > of_decoder[1].fid
        assert of_decoder[0].lpips > of_decoder[1].lpips


def test_decoders_are_compared_with_the_mean_of_their_level(workdir):
    points = [p for p in read_rate_points(workdir / "eval" / "rd.csv") if p.method == "diffc"]
    means = {p.gamma: p for p in points if p.decoder == "mean"}
    for point in points:
        for name in ("fid", "kid"):
            found = getattr(point, f"{name}_minus_mean")
            if point.decoder == "mean":
                assert found is None
            else:
                expected = getattr(point, name) - getattr(means[point.gamma], name)
                assert found == pytest.approx(expected, abs=1e-9)


def test_lossless_codecs_are_measured_beside_the_lossy_ones(images, workdir, everything):
    found = json.loads((workdir / "eval" / "lossless.json").read_text())
    measured = lossless.measure_lossless(everything["original"])
    assert found == lossless.lossless_marks(measured) | {
        "n_images": N_IMAGES,
        "dataset": images.name,
        "split": "eval",
    }


def test_other_images_may_be_the_reference(images, workdir, tmp_path_factory):
    """Their moments are computed once and kept."""
    config = configured(images, max_images=8)
    config.data.reference.update(source="folder", path=str(images), name="mine", split="all")
    folder = tmp_path_factory.mktemp("reference")
    train(config, folder)
    evaluate(config, folder)
    kept = {p: p.stat().st_mtime_ns for p in (folder / "eval" / "reference").iterdir()}
    assert sorted(path.suffix for path in kept) == [".json", ".npz"]
    evaluate_baselines(config, folder)
    assert {p: p.stat().st_mtime_ns for p in (folder / "eval" / "reference").iterdir()} == kept

    everything = arrays(workdir / "eval" / "reconstructions_baselines.npz")
    extractor = Extractor(features(), make_mesh(), batch_size=N_IMAGES)
    source = data.open_source(data.SourceSpec(source="folder", path=str(images), image_size=32))
    reference = RunningCovariance.of(extractor(np.stack([source[i] for i in range(N_IMAGES)])))
    for point in read_rate_points(folder / "eval" / "rd.csv"):
        assert point.fid_reference == f"mine all, {N_IMAGES} images"
        # Eight images are too few for kernel distances and classifiers.
        assert point.kid is point.auc is None
        assert point.fid_stderr > 0
        assert 0 <= point.precision <= 1
        assert point.fid_originals != point.fid
        if point.method == "jpeg":
            level = list(everything["jpeg_420/level"]).index(point.level)
            found = RunningCovariance.of(extractor(everything["jpeg_420/images"][:, level]))
            assert point.fid == pytest.approx(frechet_distance(reference, found), rel=1e-3)


def test_metrics_of_images_are_those_of_the_reconstructions(workdir, everything):
    rows = table(workdir / "eval" / "per_image.csv")
    measure = PairwiseLPIPS(lpips_alex(), make_mesh(), batch_size=N_IMAGES)
    for decoder in ("flow", "mean"):
        for level, gamma in enumerate(everything["gammas"]):
            chosen = [
                row for row in rows if row["decoder"] == decoder and float(row["gamma"]) == gamma
            ]
            assert [int(row["index"]) for row in chosen] == list(range(N_IMAGES))
            found = measure(everything["original"], everything[decoder][:, level])
            np.testing.assert_allclose([float(r["lpips"]) for r in chosen], found, atol=1e-5)
            (point,) = (
                p
                for p in read_rate_points(workdir / "eval" / "rd.csv")
                if p.decoder == decoder and p.gamma == gamma
            )
            assert point.lpips == pytest.approx(found.mean(), abs=1e-5)
            assert point.lpips_stderr == pytest.approx(found.std(ddof=1) / N_IMAGES**0.5, rel=1e-3)


def test_rates_of_the_tables_belong_together(workdir):
    """The bound of every image and of the mean, and what rd.csv averages."""
    rows = table(workdir / "eval" / "per_image.csv")
    for point in read_rate_points(workdir / "eval" / "rd.csv"):
        if point.method != "diffc":
            continue
        chosen = [
            row
            for row in rows
            if (row["decoder"], float(row["gamma"])) == (point.decoder, point.gamma)
        ]
        bits, bound, mse, psnr = (
            np.array([float(row[name]) for row in chosen])
            for name in ("bits_kl", "bits_bound", "mse", "psnr")
        )
        np.testing.assert_allclose(bound, bits + np.log2(bits + 1) + 5, rtol=1e-12)
        np.testing.assert_allclose(psnr, 10 * np.log10(255**2 / mse), rtol=1e-12)
        mean = bits.mean()
        assert point.bpp_kl == pytest.approx(mean / 32**2, rel=1e-9)
        assert point.bpp == pytest.approx((mean + np.log2(mean + 1) + 5) / 32**2, rel=1e-9)
        # Of the bound, whose derivative by C is not 1.
        stderr = (1 + 1 / np.log(2) / (mean + 1)) * bits.std(ddof=1) / N_IMAGES**0.5
        assert point.bpp_stderr == pytest.approx(stderr / 32**2, rel=1e-9)
        assert point.mse == pytest.approx(mse.mean(), rel=1e-9)


def test_batches_change_nothing(images, workdir, tmp_path_factory):
    """Parts of eight images and one of twenty, and a run that was interrupted between them."""
    first = {
        (p.decoder, p.gamma): p
        for p in read_rate_points(workdir / "eval" / "rd.csv")
        if p.method == "diffc"
    }
    folder = tmp_path_factory.mktemp("again")
    train(configured(images), folder)
    evaluate(configured(images, max_images=8), folder)
    evaluate(configured(images, batch_size=N_IMAGES), folder)
    for point in read_rate_points(folder / "eval" / "rd.csv"):
        other = first[point.decoder, point.gamma]
        assert point.n_images == other.n_images == N_IMAGES
        assert point.bpp == pytest.approx(other.bpp, rel=1e-6)
        # A value of 8 bits may round the other way in another program.
        assert point.fid == pytest.approx(other.fid, rel=1e-3)
        assert point.kid == pytest.approx(other.kid, rel=1e-2, abs=1e-4)
        assert point.lpips == pytest.approx(other.lpips, rel=1e-3)
        assert point.psnr_mean == pytest.approx(other.psnr_mean, abs=1e-3)


def test_codecs_get_the_same_measures(workdir):
    decoded = arrays(workdir / "eval" / "reconstructions_baselines.npz")
    points = [p for p in read_rate_points(workdir / "eval" / "rd.csv") if p.method == "jpeg"]
    assert len(points) == len(decoded["jpeg_420/level"])
    worst, best = points[0], points[-1]
    assert best.fid < worst.fid
    assert best.lpips < worst.lpips
    assert best.fid_features == "efficientnet_lite0"
    first = decoded["jpeg_420/images"]
    assert first.shape == (8, len(points), 32, 32, 3)
    rows = table(workdir / "eval" / "per_image_baselines.csv")
    for i in range(8):
        for level, setting in enumerate(decoded["jpeg_420/level"]):
            (row,) = [r for r in rows if int(r["index"]) == i and float(r["level"]) == setting]
            assert float(row["bpp"]) == decoded["jpeg_420/bpp"][i, level]
            error = first[i, level].astype(float) - decoded["original"][i]
            assert float(row["mse"]) == pytest.approx(np.square(error).mean(), rel=1e-12)
    assert str(decoded["jpeg_420/method"]) == "jpeg"
    assert str(decoded["jpeg_420/model"]) == "4:2:0"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"features": "vgg"},
            "eval.features: unknown 'vgg'; choose one of efficientnet_lite0, inception_v3_fid",
        ),
        (
            {"image_metrics": ("lpips",)},
            "eval.image_metrics: unknown 'lpips'; choose one of lpips_alex, lpips_vgg, ms_ssim",
        ),
    ],
)
def test_unknown_measures(images, fields, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        validate(configured(images, **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"feature_weights": "file.pth"},
            "eval.feature_weights: efficientnet_lite0 brings its own; 'file.pth' is not used",
        ),
        (
            {"features": "inception_v3_fid"},
            "eval.feature_weights: inception_v3_fid needs a file; give the path of a copy of ",
        ),
    ],
)
def test_weights_that_do_not_belong(images, workdir, fields, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        evaluate(configured(images, **fields), workdir)
