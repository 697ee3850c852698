"""Unconditional samples: of an exact model they are samples of the data, and they are drawn once."""

import dataclasses
import shutil

import numpy as np
import PIL.Image
import pytest

from diffc_jax.commands import train
from diffc_jax.config import validate
from diffc_jax.errors import UsageError
from diffc_jax.evaluation import measures, samples
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.evaluation.result_files import SPECTRA
from diffc_jax.evaluation.samples import DECODERS, PHOTOGRAPHS
from diffc_jax.evaluation.store import Store
from diffc_jax.evaluation.trained import load_trained
from diffc_jax.metrics.features.extract import Extractor
from diffc_jax.metrics.frechet import frechet_distance
from diffc_jax.metrics.statistics import RunningCovariance
from diffc_jax.runtime.sharding import make_mesh
from diffc_jax.training.experiment import build_experiment
from tests.support.feature_network import small_network
from tests.support.image_files import write_smooth_images
from tests.support.run_files import arrays, table
from tests.support.small_configs import QUICK_EVALUATION, small_config

SIDE, N_IMAGES, N_SAMPLES = 16, 24, 40


def configured(images, **evaluation):
    config = small_config(images, SIDE, **QUICK_EVALUATION)
    config.data.reference.update(source="folder", path=str(images), name="mine", split="all")
    config.eval.update({"features": "efficientnet_lite0", "decoders": ("flow", "mean")})
    config.eval.update({"samples": N_SAMPLES, "sample_steps": 30, "batch_size": 16})
    config.eval.update(evaluation)
    validate(config)
    return config


@pytest.fixture(scope="module", autouse=True)
def _network():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "load_feature_network", lambda *_: small_network(SIDE, 4))
        yield


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return write_smooth_images(tmp_path_factory.mktemp("images"), N_IMAGES, SIDE, coarse=6)


@pytest.fixture(scope="module")
def workdir(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(configured(images), folder)
    evaluate(configured(images), folder)
    return folder


def kept(workdir, name):
    (folder,) = (workdir / "eval" / "progress").glob("samples-*")
    batches = list(Store(folder).read(range(N_SAMPLES)))
    return np.concatenate([batch[name] for batch in batches])


def test_files_of_samples_go_with_an_evaluation_without_them(images, workdir, tmp_path):
    folder = shutil.copytree(workdir, tmp_path / "run")
    assert (folder / "eval" / "samples.csv").exists()
    evaluate(configured(images, samples=0), folder)
    assert not list((folder / "eval").glob("samples*"))


def test_all_decoders_start_from_the_same_noise(images, workdir, monkeypatch):
    parse = samples.parse_decoder
    monkeypatch.setattr(
        samples,
        "parse_decoder",
        lambda name: dataclasses.replace(parse(name), reconstruct=lambda _, z, *__: z / 4),
    )
    config = configured(images)
    trained = load_trained(build_experiment(config), workdir)
    index = np.arange(8)
    sampler = samples._Sampler(trained, n_steps=2, seed=0)
    first, second = (sampler(decoder, index) for decoder in DECODERS)
    np.testing.assert_array_equal(first, second)
    assert (first[0] != first[1]).any()
    other = samples._Sampler(trained, n_steps=2, seed=1)("flow", index)
    assert (other != first).any()


def test_rows_are_the_distances_of_the_samples(images, workdir):
    rows = table(workdir / "eval" / "samples.csv")
    named = [(row["decoder"], row["fid_reference"]) for row in rows]
    others = f"mine all, {N_IMAGES} images"
    assert named == [
        *((decoder, "originals") for decoder in DECODERS),
        *((decoder, others) for decoder in (*DECODERS, PHOTOGRAPHS)),
    ]
    pixels = np.stack([np.asarray(PIL.Image.open(path)) for path in sorted(images.glob("*.png"))])
    extractor = Extractor(small_network(SIDE, 4), make_mesh(), 8)
    photographs = RunningCovariance.of(extractor(pixels))
    for row in rows[:2]:
        drawn = extractor(kept(workdir, f"pixels/{row['decoder']}"))
        expected = frechet_distance(RunningCovariance.of(drawn), photographs)
        assert float(row["fid"]) == pytest.approx(expected, rel=1e-3)
        assert (row["n_images"], row["n_reference"]) == (str(N_SAMPLES), str(N_IMAGES))
        assert float(row["fid_stderr"]) > 0
        assert 0 <= float(row["recall"]) <= 1
    # The reference is the evaluated images under another name: nothing is nearer.
    assert float(rows[4]["fid"]) == pytest.approx(0.0, abs=1e-9)
    assert rows[4]["n_steps"] == ""


def test_samples_of_a_gaussian_have_its_mean_and_spread(images, workdir):
    """The Gaussian baseline is exact, and 30 steps of second order are enough."""
    pixels = np.stack([np.asarray(PIL.Image.open(path)) for path in images.glob("*.png")])
    for decoder in DECODERS:
        drawn = kept(workdir, f"pixels/{decoder}").astype(float)
        assert drawn.mean() == pytest.approx(pixels.mean(), abs=8)
        assert drawn.std() == pytest.approx(pixels.std(), rel=0.15)
        with PIL.Image.open(workdir / "eval" / f"samples_{decoder}.png") as picture:
            assert picture.size == (8 * SIDE, 5 * SIDE)


def test_samples_are_drawn_once_and_do_not_depend_on_batches(images, workdir, monkeypatch):
    before = kept(workdir, "pixels/flow")
    rows = table(workdir / "eval" / "samples.csv")
    drawn = []
    call = samples._Sampler.__call__
    monkeypatch.setattr(
        samples._Sampler,
        "__call__",
        lambda self, decoder, index: drawn.append(index) or call(self, decoder, index),
    )
    evaluate(configured(images), workdir)
    assert not drawn
    assert table(workdir / "eval" / "samples.csv") == rows
    (folder,) = (workdir / "eval" / "progress").glob("samples-*")
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    evaluate(configured(images, batch_size=5), workdir)
    # 24 images by each decoder, in batches of one for each of the eight devices.
    assert len(drawn) == 2 * 3
    # A value of 8 bits may round the other way in another program.
    assert np.abs(kept(workdir, "pixels/flow").astype(int) - before).max() <= 1


def test_spectra_are_those_of_the_reconstructions(images, workdir):
    evaluate(configured(images, grid_images=N_IMAGES, samples=0), workdir)
    everything = arrays(workdir / "eval" / "reconstructions.npz")
    rows = table(workdir / "eval" / SPECTRA)
    assert len(rows) == 2 * 2 * (SIDE // 2 + 1)
    originals = everything["original"].astype(float)
    for decoder in ("flow", "mean"):
        found = everything[decoder][:, 0].astype(float)
        own = [row for row in rows if row["decoder"] == decoder][: SIDE // 2 + 1]
        for name, values in (("original_power", originals), ("power", found)):
            constant = np.square(values.mean((1, 2))).mean() * SIDE**2
            assert float(own[0][name]) == pytest.approx(constant, rel=1e-4)
        error = np.square(found - originals).mean()
        assert float(own[0]["error_power"]) < SIDE**2 * error
        assert own[3]["frequency"] == str(3 / SIDE)
        assert own[3]["n_images"] == str(N_IMAGES)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"samples": -1}, "eval.samples: -1 is not at least 0"),
        ({"samples": 1}, "eval.samples: one has no distribution; use 0, or two or more"),
        (
            {"max_images": 1},
            "eval.max_images: samples are compared with the evaluated images, too, and one has no "
            "distribution; use 0, or two or more",
        ),
        (
            {"features": ""},
            "eval.samples: 40 are compared in features; set eval.features too, or 0",
        ),
        ({"sample_steps": 0}, "eval.sample_steps: 0 is not at least 1"),
        (
            {"set_metrics": ("recall",)},
            "eval.set_metrics: unknown 'recall'; choose one of precision_recall, classifier",
        ),
    ],
)
def test_refusals(images, fields, message):
    with pytest.raises(UsageError) as error:
        configured(images, **fields)
    assert str(error.value) == message
