"""Runs in object stores: gs:// and s3:// paths through fsspec, here with stores in memory."""

import contextlib
import csv
import io
from typing import ClassVar

import numpy as np
import pytest
from etils import epath
from etils.epath.backend import fsspec_backend
from fsspec.implementations.memory import MemoryFileSystem

from diffc_jax.commands import evaluate, train
from diffc_jax.errors import InputError
from diffc_jax.evaluation import results
from diffc_jax.evaluation.store import Store as BatchStore
from diffc_jax.runtime import files
from tests.support.small_configs import QUICK_EVALUATION, small_config


class Store(MemoryFileSystem):
    """Takes and gives paths as stores do: BUCKET/NAME, with or without a scheme."""

    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.rpartition("://")[2].strip("/")

    def glob(self, path, **kwargs):
        return [found.lstrip("/") for found in super().glob(path, **kwargs)]


@pytest.fixture(params=["gs://bucket/run", "s3://bucket/run"])
def folder(request, monkeypatch):
    monkeypatch.setattr(Store, "store", {})
    monkeypatch.setattr(Store, "pseudo_dirs", [""])
    monkeypatch.setattr(type(fsspec_backend), "_get_filesystem", lambda self, name: Store())
    return files.as_path(request.param)


def test_addresses_are_kept(folder):
    assert isinstance(folder, epath.Path)
    assert str(folder / "a").endswith("://bucket/run/a")
    assert files.is_remote(folder)
    assert files.as_path(folder) == folder
    assert not files.is_remote(files.as_path("/tmp/a"))


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.as_path("~/a") == tmp_path / "a"
    # No name of a user: a file that is called so.
    assert str(files.as_path("~draft-of-nobody.png")) == "~draft-of-nobody.png"


def test_files_are_whole_or_absent(folder):
    files.write_json(folder / "a.json", {"x": 1})
    assert files.read_json(folder / "a.json") == {"x": 1}
    with contextlib.suppress(RuntimeError), files.atomic_write(folder / "a.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert files.read_json(folder / "a.json") == {"x": 1}
    assert [path.name for path in folder.iterdir()] == ["a.json"]
    with pytest.raises(InputError, match=r"^\w+://bucket/run/b.json: cannot be read \("):
        files.read_json(folder / "b.json")


def test_rate_points_and_batches(folder):
    point = results.RatePoint(
        method="jpeg", rate_kind="file", bpp=1.5, n_images=2, dataset="photos"
    )
    results.write_rate_points(folder / "rd.csv", [point], lambda _: False)
    results.write_rate_points(folder / "rd.csv", [point], lambda _: True)
    assert results.read_rate_points(folder / "rd.csv") == [point, point]
    store = BatchStore(folder / "progress")
    for start in (2, 0, 5):
        store.save({"index": np.arange(start, start + 2), "x": np.arange(2)})
    assert store.done(6).tolist() == [True] * 4 + [False, True]
    assert [batch["index"].tolist() for batch in store.read(range(4))] == [[0, 1], [2, 3]]


@pytest.fixture(scope="module")
def config():
    config = small_config(**QUICK_EVALUATION, batch_size=8, decoders=("mean",))
    config.data.train.max_images = config.data.eval.max_images = 4
    return config


@pytest.fixture(scope="module")
def local(config, tmp_path_factory):
    """A run that is evaluated on this machine."""
    folder = tmp_path_factory.mktemp("local")
    train(config, folder)
    config.eval.params = str(folder / "params.safetensors")
    evaluate(config, folder)
    return folder


def test_evaluation_writes_the_same(folder, local, config):
    evaluate(config, folder)
    for name in ("rd.csv", "per_image.csv"):
        remote = (folder / "eval" / name).read_bytes()
        assert remote == (local / "eval" / name).read_bytes()
        assert list(csv.DictReader(io.StringIO(remote.decode())))
    names = {path.name for path in (folder / "eval").iterdir()}
    assert names == {path.name for path in (local / "eval").iterdir()}
    assert "reconstructions.png" in names
