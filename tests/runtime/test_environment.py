"""environment.json says which code and which libraries made a result."""

import json
import os
import subprocess
import types

import jax

from diffc_jax.runtime import environment


def test_versions_devices_and_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFC_COMMIT", "of an image")

    def written(git):
        monkeypatch.setattr(subprocess, "run", git)
        environment.write_environment(tmp_path)
        return json.loads((tmp_path / "environment.json").read_text())

    def no_git(command, **_):
        raise FileNotFoundError(command[0])

    def git(command, **_):
        known = {"ls-files": "environment.py\n", "describe": "v0-12-gabc\n"}
        return types.SimpleNamespace(stdout=known[command[1]], returncode=0)

    def of_something_else(command, **_):
        done = command[1] != "ls-files"
        return types.SimpleNamespace(stdout="0123abc\n" * done, returncode=int(not done))

    found = written(git)
    assert found["commit"] == "v0-12-gabc"
    assert found["packages"]["jax"] == jax.__version__
    assert found["num_devices"] == jax.device_count() == 8
    # An environment in the checkout of something else, which does not track its files.
    assert written(of_something_else)["commit"] == "of an image"
    assert written(no_git)["commit"] == "of an image"
    monkeypatch.delenv("DIFFC_COMMIT")
    assert written(no_git)["commit"] is None


def test_cores_and_what_sets_the_number_of_threads(tmp_path, monkeypatch):
    """Sums depend on it; encoders are there only for results of codecs."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NPROC", "3")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    environment.write_environment(tmp_path)
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found["cores"] == {"available": 3, "total": 8}
    assert found["threads"] == {"NPROC": "3"}
    assert "encoders" not in found
    assert {"imagecodecs", "av"} <= found["packages"].keys()
    environment.write_environment(tmp_path, {"webp": "libwebp 1.6.0"})
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found["encoders"] == {"webp": "libwebp 1.6.0"}
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    environment.write_environment(tmp_path)
    found = json.loads((tmp_path / "environment.json").read_text())
    assert found["cores"] == {"available": None, "total": 8}
