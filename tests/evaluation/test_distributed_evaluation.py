"""Processes that share training and evaluation: the rows of one process, whoever did which image."""

import itertools
import json
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from jax.experimental import multihost_utils

from diffc_jax.commands import train
from diffc_jax.evaluation import processes as evaluation_processes
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.evaluation.store import Store
from tests.support.processes import ROOT, cache_variables, cluster, environment
from tests.support.run_files import assert_same_cells, logged, table

IMAGES = 22

CONFIG_FILE = """
from ml_collections import ConfigDict
from diffc_jax.config import base_config

def get_config(argument=""):
    config = base_config()
    if argument == "network":
        config.model = ConfigDict(
            {"name": "unet", "patch": 4, "widths": (32,), "blocks": (1,), "heads": 1}
        )
        config.schedule.name = "learned_linear"
        config.train.batch_size = 8
        config.train.num_steps = 3
        config.train.log_every_steps = 1
        config.train.eval_images = 8
    config.data.image_size = 8
    config.data.train.max_images = 22
    config.eval.max_images = 11
    config.eval.subsets = ("chelsea", "china")
    config.eval.rate_steps = 6
    config.eval.num_levels = 2
    config.eval.flow_steps = 2
    config.eval.decoders = ("flow",)
    config.eval.codec_memory = 8
    config.eval.grid_images = 5
    config.eval.features, config.eval.image_metrics = "efficientnet_lite0", ()
    return config
"""

# A network that costs nothing stands in for the one that the config names.
FEATURES = """
from diffc_jax.evaluation import measures
from diffc_jax.metrics.features.extract import FeatureNetwork

measures.load_feature_network = lambda name, weights, field: FeatureNetwork(
    "means", 3, lambda variables, images: images.astype("float32").mean((1, 2)), {}
)
"""


def shipped_config(argument="", **evaluation):
    scope = {}
    exec(CONFIG_FILE, scope)
    config = scope["get_config"](argument)
    config.eval.update(evaluation)
    return config


class Processes:
    """Runs entry points in several processes of one device each."""

    def __init__(self, folder):
        self._folder = folder
        (folder / "config.py").write_text(CONFIG_FILE + FEATURES)

    def run(self, count, program, workdir, argument="", **flags):
        variables = cache_variables(self._folder / "cache")
        command = [
            *(sys.executable, f"experiments/{program}.py", "--distributed=auto"),
            *(f"--config={self._folder / 'config.py'}:{argument}", f"--workdir={workdir}"),
            *(f"--config.{name}={value}" for name, value in flags.items()),
        ]
        processes = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(**variables, **place),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for place in cluster(count)
        ]
        try:
            said = [process.communicate(timeout=600)[1] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0] * count, said
        return said


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    return Processes(tmp_path_factory.mktemp("processes"))


def metrics(workdir):
    return [row for row in logged(workdir) if "train/loss" in row]


def test_four_processes_train_as_one(processes, tmp_path, monkeypatch):
    one, four = tmp_path / "one", tmp_path / "four"
    with monkeypatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 1)
        train(shipped_config("network"), one)
    processes.run(4, "train", four, "network", **{"mesh.fsdp": 2})
    rows, expected = metrics(four), metrics(one)
    assert [row["step"] for row in rows] == [1, 2, 3]
    for row, want in zip(rows, expected, strict=True):
        np.testing.assert_allclose(row["train/loss"], want["train/loss"], rtol=1e-5)
    params, wanted = (
        safetensors.numpy.load_file(folder / "params.safetensors") for folder in (four, one)
    )
    assert params.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(params[name], value, atol=1e-3, err_msg=name)


def test_processes_evaluate_as_one(processes, tmp_path):
    train(shipped_config(), tmp_path / "trained")
    # Three processes share all images, two go on where most batches are done.
    folders = {count: tmp_path / str(count) for count in (1, 3, 2)}
    for folder in folders.values():
        shutil.copytree(tmp_path / "trained", folder)
    # Two images a process, so that all run the same programs.
    sizes = {count: {"eval.batch_size": 2 * count} for count in folders}
    processes.run(1, "evaluate", folders[1], **sizes[1])
    said = processes.run(3, "evaluate", folders[3], **sizes[3])
    # Each process did its part, and only the first one speaks.
    batches = [path.name for path in (folders[3] / "eval" / "progress").rglob("*.npz")]
    assert len(batches) == 3 * 4
    assert "results in" in said[0]
    assert all("sweep" not in others for others in said[1:])

    shutil.copytree(folders[1] / "eval" / "progress", folders[2] / "eval" / "progress")
    progress = next((folders[2] / "eval" / "progress").iterdir())
    for number, path in enumerate(sorted(progress.iterdir())):
        if number in (1, 2, 7):
            path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in progress.iterdir()}
    processes.run(2, "evaluate", folders[2], **sizes[2])
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    for count, subset in itertools.product((3, 2), ("", "chelsea", "china")):
        many, one = folders[count] / subset / "eval", folders[1] / subset / "eval"
        for name in ("per_image.csv", "per_image_codec.csv"):
            assert (many / name).read_bytes() == (one / name).read_bytes()
        for name in ("rd.csv", "rate_curve.csv"):
            # The order of sums over images differs.
            assert_same_cells(table(many / name), table(one / name), rtol=1e-9)
        for name in ("reconstructions.npz", "reconstructions_codec.npz"):
            with np.load(many / name) as found, np.load(one / name) as expected:
                assert found.files == expected.files
                for array in expected.files:
                    np.testing.assert_array_equal(found[array], expected[array])
        summary, expected = (json.loads((f / "summary.json").read_text()) for f in (many, one))
        assert summary["n_images"] == (IMAGES // 2 if subset else IMAGES)
        for name in ("bits_per_dim", "bits_per_dim_stderr", "chain_bits_per_dim"):
            np.testing.assert_allclose(summary[name], expected[name], rtol=1e-5, err_msg=name)
        assert sorted(path.name for path in many.iterdir()) == sorted(p.name for p in one.iterdir())
    points = [
        row
        for subset in ("", "chelsea", "china")
        for row in table(folders[1] / subset / "eval" / "rd.csv")
    ]
    assert len({row["fid"] for row in points}) == len(points)


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_images_are_shared_once_and_evenly(monkeypatch, count):
    done = np.zeros(20, bool)
    done[[0, 1, 7, 12, 13]] = True
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda array: array)
    monkeypatch.setattr(jax, "process_count", lambda: count)
    shared = []
    for index in range(count):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        runs = evaluation_processes.own_images(done)
        own = [image for run in runs for image in run]
        assert len(own) in (15 // count, -(-15 // count))
        assert len(runs) <= 4
        shared += own
        cut = evaluation_processes.own_images(done, [0, 5, 7, 10])
        assert [image for run in cut for image in run] == own
        assert not any(set(run[1:]) & {0, 5, 7, 10} for run in cut)
        assert len(cut) <= len(runs) + 2
    assert shared == np.flatnonzero(~done).tolist()


def test_nothing_is_left_for_some_processes(monkeypatch):
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda array: array)
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    monkeypatch.setattr(jax, "process_index", lambda: 3)
    assert evaluation_processes.own_images(np.array([True, False, False])) == []


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize(
    ("signum", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")]
)
def test_signals_keep_finished_images_and_leave_with_their_own_code(
    tmp_path, monkeypatch, signum, name
):
    config = shipped_config(batch_size=8, features="", codec_decoders=())
    train(config, tmp_path)
    save = Store.save

    def interrupted(self, batch):
        save(self, batch)
        signal.raise_signal(signum)

    before = signal.getsignal(signum)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", interrupted)
        with pytest.raises(evaluation_processes.StoppedError) as caught:
            evaluate(config, tmp_path)
    assert str(caught.value) == (
        f"--workdir {tmp_path}: stopped by {name}; finished images are kept, run the same command again"
        " to go on"
    )
    assert caught.value.exit_code == 85
    assert signal.getsignal(signum) is before
    (batch,) = (tmp_path / "eval" / "progress").glob("*/*.npz")
    written = batch.stat().st_mtime_ns
    evaluate(config, tmp_path)
    assert batch.stat().st_mtime_ns == written
    assert len(table(tmp_path / "eval" / "per_image.csv")) == IMAGES * 2
