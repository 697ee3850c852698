"""Programs keep what they compile, where they may."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from diffc_jax.runtime import compilation_cache
from tests.support.processes import environment

_SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture
def settings(monkeypatch):
    """JAX's settings as they are without variables, put back at the end."""
    before = {name: getattr(jax.config, name) for name in _SETTINGS}
    jax.config.update("jax_compilation_cache_dir", None)
    yield monkeypatch
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_is_the_users(settings, tmp_path):
    settings.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compilation_cache.keep_compiled()
    folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
    assert folder.is_dir()
    assert folder.parent == tmp_path / "cache" / "diffc_jax"
    assert jax.config.jax_persistent_cache_min_compile_time_secs < 1


def test_home_is_used_without_the_variable(settings, tmp_path):
    settings.delenv("XDG_CACHE_HOME", raising=False)
    settings.setenv("HOME", str(tmp_path))
    compilation_cache.keep_compiled()
    assert pathlib.Path(jax.config.jax_compilation_cache_dir).is_relative_to(tmp_path / ".cache")


def test_processors_have_folders_of_their_own(settings, tmp_path):
    settings.setenv("XDG_CACHE_HOME", str(tmp_path))
    for flags in ("flags : sse avx", "flags : sse"):
        (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
        settings.setattr(compilation_cache, "_CPU_INFO", tmp_path / "cpuinfo")
        jax.config.update("jax_compilation_cache_dir", None)
        compilation_cache.keep_compiled()
    assert len(list((tmp_path / "diffc_jax").iterdir())) == 2


def test_a_choice_of_the_user_stands(settings, tmp_path):
    settings.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", "elsewhere")
    compilation_cache.keep_compiled()
    assert jax.config.jax_compilation_cache_dir == "elsewhere"
    assert not list(tmp_path.iterdir())


def test_programs_work_without_a_folder(settings, tmp_path):
    (tmp_path / "file").touch()
    settings.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compilation_cache.keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_folder_that_may_only_be_read_is_not_used(settings, tmp_path):
    """Every program would be told, for each thing that it compiles."""
    settings.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings.setattr("os.access", lambda _, mode: mode != os.W_OK)
    compilation_cache.keep_compiled()
    assert jax.config.jax_compilation_cache_dir is None


def test_every_program_asks_for_it(tmp_path):
    told = "print(jax.config.jax_compilation_cache_dir)"
    script = f"import jax; from diffc_jax import cli; cli.run(lambda: {told})"
    variables = environment(XDG_CACHE_HOME=str(tmp_path))
    del variables["JAX_COMPILATION_CACHE_DIR"]
    done = subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(next((tmp_path / "diffc_jax").iterdir())), done.stderr
