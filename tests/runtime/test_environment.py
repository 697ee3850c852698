"""environment.json says which code and which libraries made a result."""

import json
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

    found = written(lambda command, **_: types.SimpleNamespace(stdout="v0-12-gabc\n"))
    assert found["commit"] == "v0-12-gabc"
    assert found["packages"]["jax"] == jax.__version__
    assert found["num_devices"] == jax.device_count() == 8
    assert written(lambda command, **_: types.SimpleNamespace(stdout=""))["commit"] == "of an image"
    assert written(no_git)["commit"] == "of an image"
    monkeypatch.delenv("DIFFC_COMMIT")
    assert written(no_git)["commit"] is None
