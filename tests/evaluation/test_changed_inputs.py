"""Whatever has changed under the same name is measured again; training that began with it is refused."""

import csv
import json
import shutil

import jax
import numpy as np
import PIL.Image
import pytest

from diffc_jax.commands import train
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation import measures, result_files, tables
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.evaluation.image_sets import claim_images, read_images
from diffc_jax.evaluation.processes import StoppedError
from diffc_jax.evaluation.results import read_rate_points, write_rate_points
from diffc_jax.evaluation.subsets import ResultSet
from diffc_jax.metrics.features.extract import FeatureNetwork
from tests.support.feature_network import small_network
from tests.support.rate_points import make_points
from tests.support.refusals import message
from tests.support.subset_images import FEATURES, SIDE, configured

COUNT = 12
FILES = ("rd.csv", "per_image.csv", "rate_curve.csv", "images.json")


def write_images(folder, seed, numbers=range(COUNT)):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        generator = np.random.default_rng((seed, number))
        coarse = generator.integers(0, 256, (SIDE // 4, SIDE // 4, 3), np.uint8)
        picture = coarse.repeat(4, 0).repeat(4, 1)
        PIL.Image.fromarray(picture).save(folder / f"{number:02}.bmp")
    return folder


def make_config():
    """Images for training and for evaluation, in folders of their own."""
    config = configured(
        "evaluated",
        subsets=(),
        max_images=0,
        batch_size=4,
        grid_images=0,
        bound_times=1,
        rate_steps=4,
        rate_evaluations=4,
        num_levels=1,
        decoders=("mean",),
        codec_decoders=(),
        image_metrics=(),
    )
    config.data.train.path = "trained"
    return config


def prepare(patch, folder):
    """In a folder with images, on one device, with features that cost nothing."""
    patch.chdir(folder)
    patch.setattr(jax, "device_count", lambda: 1)
    patch.setattr(measures, "load_feature_network", lambda *_: small_network(SIDE, FEATURES))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Images and an evaluated run, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    write_images(folder / "trained", 0)
    write_images(folder / "evaluated", 1)
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch, folder)
        train(make_config(), folder / "run")
        evaluate(make_config(), folder / "run")
    return folder


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A copy of it."""
    copy = shutil.copytree(finished, tmp_path / "copy")
    prepare(monkeypatch, copy)
    return copy


@pytest.fixture
def workdir(folder):
    return folder / "run"


@pytest.fixture
def config(folder):  # noqa: ARG001
    return make_config()


def parts(workdir):
    found = (workdir / "eval" / "progress").rglob("*.npz")
    return {path.name: path.stat().st_mtime_ns for path in found}


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_replaced_images_are_measured_again(config, folder, workdir, caplog):
    before, kept = (workdir / "eval" / "rd.csv").read_text(), parts(workdir)
    write_images(folder / "evaluated", 2, range(5, 6))
    with caplog.at_level("INFO", "absl"):
        evaluate(config, workdir)
    (progress,) = (workdir / "eval" / "progress").iterdir()
    assert warnings_of(caplog) == [
        f"{progress}: 4 images are measured again: they, or neighbours in their batches, had other pixels"
        " before"
    ]
    changed = {name for name, time in parts(workdir).items() if time != kept[name]}
    assert changed == {"00000004-00000008.npz"}
    again = {name: (workdir / "eval" / name).read_bytes() for name in FILES}
    # As if nothing had been there before.
    shutil.rmtree(workdir / "eval")
    evaluate(config, workdir)
    for name, content in again.items():
        assert (workdir / "eval" / name).read_bytes() == content
    assert (workdir / "eval" / "rd.csv").read_text() != before
    assert read_images(workdir / "eval").n_images == COUNT


def test_a_stopped_evaluation_leaves_nothing_of_an_earlier_one(config, workdir, monkeypatch):
    eval_dir = workdir / "eval"
    ended = {path.name for path in eval_dir.iterdir()}
    config.eval.num_levels = 2
    write_rates = tables.Tables.write_rates

    def stop(files):
        write_rates(files)
        raise StoppedError("SIGTERM")

    with monkeypatch.context() as patch:
        patch.setattr(measures, "_SECONDS_BETWEEN_WRITES", 0.0)
        patch.setattr(tables.Tables, "write_rates", stop)
        with pytest.raises(StoppedError):
            evaluate(config, workdir)
    assert [point.n_images for point in read_rate_points(eval_dir / "rd.csv")] == [4, 4]
    assert ended - {path.name for path in eval_dir.iterdir()} == {
        *("per_image.csv", "spectra.csv", "summary.json")
    }
    evaluate(config, workdir)
    assert ended == {path.name for path in eval_dir.iterdir()}
    assert [point.n_images for point in read_rate_points(eval_dir / "rd.csv")] == [COUNT, COUNT]


def strip_digests(workdir):
    """What older versions left."""
    for path in (workdir / "eval" / "progress").rglob("*.npz"):
        with np.load(path) as batch:
            arrays = {name: batch[name] for name in batch.files if "made_from" not in name}
        np.savez(path, **arrays)
    (workdir / "eval" / "images.json").unlink()


def test_results_of_older_versions_are_used(config, workdir, caplog):
    strip_digests(workdir)
    kept = parts(workdir)
    with caplog.at_level("INFO", "absl"):
        evaluate(config, workdir)
    assert parts(workdir) == kept
    assert warnings_of(caplog) == []
    note = (
        f"{COUNT} images were measured by an older version without digests; they count as unchanged"
    )
    assert any(note in message for message in caplog.messages)


def test_other_weights_of_the_feature_network_are_noticed(config, workdir, monkeypatch, caplog):
    first, kept = read_rate_points(workdir / "eval" / "rd.csv"), parts(workdir)
    network = small_network(SIDE, FEATURES)
    other = FeatureNetwork(
        network.name, FEATURES, network.apply, {"weights": -2 * network.variables["weights"]}
    )
    monkeypatch.setattr(measures, "load_feature_network", lambda *_: other)
    with caplog.at_level("INFO", "absl"):
        evaluate(config, workdir)
    (warning,) = warnings_of(caplog)
    assert warning.endswith(
        f"{COUNT} images are measured again: they, or neighbours in their batches, had other feature weights"
        " before"
    )
    assert all(time != kept[name] for name, time in parts(workdir).items())
    second = read_rate_points(workdir / "eval" / "rd.csv")
    assert [p.psnr for p in second] == [p.psnr for p in first]
    assert [p.fid for p in second] != [p.fid for p in first]


def test_rows_of_other_methods_go_with_their_images(tmp_path, caplog):
    result = ResultSet(tmp_path, "pictures", "eval", range(COUNT))
    rows = [
        *make_points(n_images=COUNT, dataset="pictures", split="eval"),
        *make_points(method="jpeg", n_images=COUNT, dataset="pictures", split="eval"),
        *make_points(method="webp", n_images=3, dataset="pictures", split="eval"),
    ]
    write_rate_points(tmp_path / "rd.csv", rows)
    digests = np.arange(16 * COUNT, dtype=np.uint8).reshape(COUNT, 16)
    # Nothing said which images the rows are of, and then that they are the same.
    for _ in range(2):
        claim_images(result, digests, ["diffc"])
        assert read_rate_points(tmp_path / "rd.csv") == rows
    with caplog.at_level("INFO", "absl"):
        claim_images(result, digests[::-1], ["diffc"])
    assert caplog.messages == [
        f"{tmp_path}/rd.csv: removed the rows of jpeg: the {COUNT} images of pictures eval have other pixels"
        " now"
    ]
    assert {point.method for point in read_rate_points(tmp_path / "rd.csv")} == {"webp"}
    (tmp_path / "images.json").write_text("{}")
    assert message(lambda: read_images(tmp_path), InputError) == (
        f"{tmp_path}/images.json: object missing required field `dataset`; delete it and run again"
    )


def test_other_numbers_of_images_do_not_cost_rows(tmp_path, caplog):
    digests = np.arange(16 * COUNT, dtype=np.uint8).reshape(COUNT, 16)
    rows = make_points(n_images=COUNT, dataset="pictures", split="eval")
    few = make_points(method="jpeg", n_images=2, dataset="pictures", split="eval")
    written = []
    for count, method in ((COUNT, "diffc"), (2, "jpeg"), (COUNT, "jpeg"), (2, "diffc")):
        result = ResultSet(tmp_path, "pictures", "eval", range(count))
        claim_images(result, digests[:count], [method])
        assert read_images(tmp_path).n_images == count
        assert (read_rate_points(tmp_path / "rd.csv") if written else []) == written
        if len(written) < len(rows) + len(few):
            written = [*written, *(few if written else rows)]
            write_rate_points(tmp_path / "rd.csv", written)
    assert not caplog.messages
    claim_images(result, digests[1:3], ["diffc"])
    assert read_rate_points(tmp_path / "rd.csv") == rows
    assert "removed the rows of jpeg: the 2 images" in caplog.text


def test_all_that_is_about_other_pixels_goes(tmp_path):
    result = ResultSet(tmp_path, "pictures", "eval", range(COUNT))
    digests = np.arange(16 * COUNT, dtype=np.uint8).reshape(COUNT, 16)
    write_rate_points(
        tmp_path / "rd.csv", make_points(n_images=COUNT, dataset="pictures", split="eval")
    )
    for name in result_files.OF_IMAGES:
        (tmp_path / name).touch()
    for _ in range(2):
        claim_images(result, digests, ["jpeg"])
        assert all((tmp_path / name).exists() for name in result_files.OF_IMAGES)
    claim_images(result, digests[::-1], ["jpeg"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.json", "rd.csv"]


def test_pictures_that_are_not_wanted_any_more_go(config, workdir):
    names = {"reconstructions.npz", "reconstructions.png"}
    config.eval.grid_images = 2
    evaluate(config, workdir)
    (workdir / "eval" / "reconstructions.png").touch()
    assert names < {path.name for path in (workdir / "eval").iterdir()}
    (workdir / "eval" / "samples.csv").touch()
    config.eval.grid_images = 0
    evaluate(config, workdir)
    left = {path.name for path in (workdir / "eval").iterdir()}
    assert left.isdisjoint({*names, "samples.csv"})
    assert {"rd.csv", "per_image.csv"} < left


def test_training_is_refused_with_other_images(config, folder, workdir):
    moved = folder / "moved"
    shutil.copytree(folder / "trained", moved)
    config.data.train.path = str(moved)
    train(config, workdir)
    claimed = (workdir / "config.json").read_bytes()
    write_images(moved, 5, [COUNT - 1])
    config.eval.batch_size = 3
    with pytest.raises(UsageError) as error:
        train(config, workdir)
    assert str(error.value) == (
        "data.train: the training images are not those that this run began with, though they are as many."
        " Use the old data or another --workdir"
    )
    assert (workdir / "config.json").read_bytes() == claimed


def test_training_of_an_older_version_goes_on(config, folder, workdir, caplog):
    (progress,) = (workdir / "checkpoints").glob("*/progress/metadata")
    content = json.loads(progress.read_text())
    del content["images"]
    progress.write_text(json.dumps(content))
    shutil.rmtree(progress.parents[1] / "digest")
    write_images(folder / "trained", 5)
    with caplog.at_level("INFO", "absl"):
        train(config, workdir)
    assert "corpus: an older version began this run, without a digest of images" in caplog.messages


def test_one_image_has_results_that_are_json(config, workdir):
    config.data.eval.max_images = 1
    config.eval.features = ""
    shutil.rmtree(workdir / "eval")
    evaluate(config, workdir)
    text = (workdir / "eval" / "summary.json").read_text()
    assert "NaN" not in text
    summary = json.loads(text)
    assert summary["bits_per_dim_stderr"] is summary["chain_bits_per_dim_stderr"] is None
    with (workdir / "eval" / "rd.csv").open(newline="") as stream:
        assert {row["psnr_mean_stderr"] for row in csv.DictReader(stream)} == {""}
