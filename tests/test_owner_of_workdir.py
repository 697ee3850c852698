"""Every program on a folder that another one is at work in, and on devices that are not there."""

import os
import shutil

import pytest
from absl import flags

from diffc_jax import cli, commands
from diffc_jax.config import base_config
from diffc_jax.errors import InputError
from diffc_jax.runtime import lock
from diffc_jax.studies import reproduction
from tests.support.processes import ROOT, run_program
from tests.support.refusals import message

GAUSSIAN = "--config=configs/gaussian_floor.py:smoke"


@pytest.fixture
def taken(tmp_path, monkeypatch):
    """A folder in which the parent of this process is at work."""
    process = lock.owner.this_process()
    parent = lock.owner.Owner(process.place, os.getppid(), 0)
    monkeypatch.setattr(lock.owner, "this_process", lambda: parent)
    content = lock._describe_this_process()
    monkeypatch.undo()
    (tmp_path / lock.LOCK).write_text(content)
    return tmp_path


@pytest.mark.parametrize("job", [commands.train, commands.evaluate])
def test_commands_refuse_a_folder_that_is_in_use(job, taken):
    said = message(lambda: job(base_config(), taken), InputError)
    assert said.startswith(f"--workdir {taken}: is in use by process {os.getppid()} on ")
    assert [path.name for path in taken.iterdir()] == [lock.LOCK]


def test_programs_hold_the_folder_while_they_run(tmp_path, monkeypatch):
    values = {"config": base_config(), "workdir": str(tmp_path), "dry_run": False}
    monkeypatch.setattr(flags.FlagValues, "__getattr__", lambda _, name: values[name])
    monkeypatch.setattr(cli, "_define_experiment_flags", lambda multi_host: None)
    monkeypatch.setattr(cli, "run", lambda main: main())
    seen = []

    def experiment(config, workdir):
        del config
        seen.append((workdir / lock.LOCK).exists())

    cli.run_experiment(experiment)
    assert seen == [True]
    assert not list(tmp_path.iterdir())


def test_a_mistake_that_is_found_late_leaves_no_empty_folder(tmp_path):
    workdir = tmp_path / "run"
    flags_given = ("--config=configs/imagenet64_converted.py:smoke", f"--workdir={workdir}")
    for before in (False, True):
        done = run_program("experiments/evaluate.py", *flags_given, "--config.model.attention=(4,)")
        assert done.stderr == (
            "evaluate.py: error: model.attention: no level is 4 high; they are 16, 8\n"
        )
        assert workdir.exists() == before
        workdir.mkdir(exist_ok=True)


def test_reproduction_holds_the_folders_of_its_parts(tmp_path, monkeypatch):
    seen = {}

    def stop(config, workdir, trained):
        del config, trained
        seen[workdir.name] = (workdir / lock.LOCK).exists()
        raise KeyboardInterrupt

    for name in ("check_baselines", "open_source", "images_to_evaluate", "train", "evaluate"):
        monkeypatch.setattr(reproduction, name, lambda *_: None)
    monkeypatch.setattr(reproduction, "evaluate_baselines", stop)
    with pytest.raises(KeyboardInterrupt):
        reproduction.reproduce(base_config(), tmp_path)
    assert seen == {"baselines": True}


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="needs a machine without a GPU")
@pytest.mark.parametrize("program", ["baselines", "compress"])
def test_a_platform_that_is_not_there_is_one_line(program, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    image = next((ROOT / "docs" / "images").glob("*.png"))
    given = {
        "baselines": (GAUSSIAN, f"--workdir={tmp_path / 'run'}"),
        "compress": (f"--input={image}", f"--output={tmp_path / 'a.diffc'}", "--bpp=1"),
    }
    done = run_program(f"experiments/{program}.py", *given[program])
    assert done.stderr.splitlines()[-1] == (
        f"{program}.py: error: JAX_PLATFORMS=cuda: JAX cannot start (it finds no such device); use"
        " JAX_PLATFORMS=cpu, or see docs/accelerators.md for the packages that a device needs"
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert not list(tmp_path.iterdir())
