"""How training ends: at a step that it had reached before, without its folder, or on a full disk."""

import collections
import contextlib
import dataclasses
import errno
import json
import pathlib
import re
import shutil
import types

import jax
import jax.numpy as jnp
import pytest

from diffc_jax.errors import InputError, PreemptedError
from diffc_jax.evaluation.trained import load_trained
from diffc_jax.models.parameters import parameter_tree
from diffc_jax.runtime import multihost, run_config, writers
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.runtime.export import export_params
from diffc_jax.training import loop
from diffc_jax.training.restoring import restore
from tests.support.quick_training import quick_config, quick_task
from tests.support.refusals import message
from tests.support.run_files import logged


def train(workdir, **fields):
    with multihost.owning(workdir):
        loop.train(quick_task(quick_config(**fields)), workdir)


def exported(workdir):
    """The step of the card, and the parameters."""
    card = json.loads((workdir / "params.json").read_text())
    return card["steps"], (workdir / "params.safetensors").read_bytes()


def test_a_shorter_run_exports_the_step_that_was_reached_and_says_so(tmp_path, caplog):
    train(tmp_path, num_steps=4)
    step, whole = exported(tmp_path)
    rows = logged(tmp_path)
    for num_steps, beyond in ((2, ", beyond the 2 that are asked for"), (4, "")):
        caplog.clear()
        with caplog.at_level("INFO", "absl"):
            train(tmp_path, num_steps=num_steps)
        (said,) = (text for text in caplog.messages if " trained parameters, " in text)
        assert said.endswith(f"; already at step 4{beyond}: nothing is trained, step 4 is exported")
        assert exported(tmp_path) == (step, whole)
        assert (step, logged(tmp_path)) == (4, rows)
    caplog.clear()
    with caplog.at_level("INFO", "absl"):
        train(tmp_path, num_steps=6)
    assert any(text.endswith("; from step 4 to 6") for text in caplog.messages)
    assert exported(tmp_path)[0] == 6


def test_a_run_that_is_stopped_is_saved_before_it_says_so(tmp_path, monkeypatch):
    @contextlib.contextmanager
    def stopped_at_once(_):
        yield lambda: True

    def fail(_):
        raise InputError("is full")

    monkeypatch.setattr(multihost, "watching_for_signals", stopped_at_once)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "wait", fail)
        assert message(lambda: train(tmp_path / "full", num_steps=4), InputError) == "is full"
    said = message(lambda: train(tmp_path / "run", num_steps=4), PreemptedError)
    assert said.startswith(
        f"--workdir {tmp_path}/run: stopped as asked and saved after step 1 of 4"
    )
    # tests/cluster/slurm.sh, which is no part of pytest, looks for it.
    script = pathlib.Path(__file__).parents[1] / "cluster" / "slurm.sh"
    (expected,) = re.findall("grep -c '(.+?)'", script.read_text())
    assert expected in said
    with Checkpoints(tmp_path / "run") as checkpoints:
        assert checkpoints.latest_step() == 1


def test_an_accelerator_is_named_in_the_card_and_the_checkpoint(tmp_path, monkeypatch):
    train(tmp_path / "cpu", num_steps=2)
    monkeypatch.setattr(loop, "accelerator", lambda: {"accelerator": "1 x A"})
    train(tmp_path / "a", num_steps=2)
    for run, name in (("cpu", None), ("a", "1 x A")):
        card = json.loads((tmp_path / run / "params.json").read_text())
        assert card.get("train_accelerator") == name
        config = quick_config(num_steps=2, batch_size=12)  # which is not that of the run
        trained = load_trained(quick_task(config), tmp_path / run)
        assert trained.spent["train_accelerator"] == name
        assert trained.spent["images_seen"] == 2 * 8
        assert ("train_cpu_hours" in trained.costs) == (name is None)


def test_a_run_with_two_averages_ends(tmp_path):
    train(tmp_path, num_steps=4, ema_decay=0.9, second_ema_decay=0.5)
    card = json.loads((tmp_path / "params.json").read_text())
    losses = card["bits_per_dim_by_ema_decay"]
    assert losses.keys() == {"0.9", "0.5"}
    assert losses[str(card["ema_decay"])] == min(losses.values())


@pytest.mark.parametrize("best", [0.9, 0.5])
def test_the_exported_average_is_evaluated_without_the_flags_of_the_training(
    tmp_path, caplog, best
):
    task = quick_task(
        quick_config(num_steps=4, ema_decay=0.9, second_ema_decay=0.5, optimizer="muon")
    )
    template = task.state_template()
    run_config.claim_workdir(task.config, tmp_path)
    state = task.fresh_state(task.open_source("train"))
    averages = {
        decay: jax.tree.map(lambda leaf, value=value: jnp.full_like(leaf, value), state.ema)
        for decay, value in ((0.9, 0.0), (0.5, 1.0))
    }
    state = dataclasses.replace(
        state, step=jnp.int32(4), ema=averages[0.9], second_ema=averages[0.5]
    )
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, {"num_images": 24})

    def evaluated():
        trained = load_trained(quick_task(quick_config(num_steps=4)), tmp_path)
        (value,) = {float(leaf.mean()) for leaf in jax.tree.leaves(trained.state.ema)}
        return trained.name, value

    def export(step):
        tree = parameter_tree(averages[best], template.fixed)
        export_params(tmp_path / "params.safetensors", tree, {"steps": step, "ema_decay": best})

    said = (
        f"{tmp_path}: no params.json says which average was exported at step 4; evaluating the first"
        " one, train.ema_decay = 0.9"
    )
    assert evaluated() == ("step 4 (ema_decay 0.9)", 0.0)
    export(step=2)
    assert evaluated() == ("step 4 (ema_decay 0.9)", 0.0)
    assert caplog.messages.count(said) == 2
    export(step=4)
    assert evaluated() == (f"step 4 (ema_decay {best})", float(best == 0.5))
    assert caplog.messages.count(said) == 2


def test_a_checkpoint_with_other_arrays_is_not_called_damaged(tmp_path):
    task = quick_task(quick_config(num_steps=4, second_ema_decay=0.5))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(task.fresh_state(task.open_source("train")), {})
    template = quick_task(quick_config(num_steps=4)).state_template()
    with Checkpoints(tmp_path) as checkpoints:
        said = message(lambda: restore(checkpoints, template), InputError)
    path = tmp_path.resolve()
    assert said == (
        f"{path}/checkpoints/0: was saved with other train.* fields (optimizer, second_ema_decay,"
        " max_seconds) or by another version: 'second_ema/model/layer/bias' is only in it; use those of"
        f" {path}/config.json"
    )


@pytest.mark.parametrize("moment", ["scalars", "save"])
def test_a_folder_deleted_in_training_is_noticed_at_the_next_write(tmp_path, moment, monkeypatch):
    workdir = tmp_path / "run"
    owner = {"scalars": writers.MetricWriter, "save": Checkpoints}[moment]
    original = getattr(owner, moment)

    def deleted(self, *arguments):
        original(self, *arguments)
        if isinstance(self, Checkpoints):
            self.wait()
        shutil.rmtree(workdir)

    monkeypatch.setattr(owner, moment, deleted)
    said = message(lambda: train(workdir, num_steps=8, checkpoint_every_steps=2), InputError)
    assert said == (
        f"--workdir {workdir}: was deleted or moved while this run was writing to it (lock.json is gone);"
        " start the run again"
    )
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "x"), "No space left on device"),
        # What TensorStore raises in a thread of Orbax.
        (ValueError("RESOURCE_EXHAUSTED: ...: No space left on device"), "No space left on device"),
        (OSError(errno.EDQUOT, "x"), "Disk quota exceeded"),
    ],
)
def test_a_checkpoint_on_a_full_disk_is_one_line(tmp_path, monkeypatch, error, reason):
    space = types.SimpleNamespace(free=2_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: space)
    checkpoints = Checkpoints(tmp_path)

    def fail(*_, **__):
        raise error

    state = collections.namedtuple("State", "step")(1)
    path = pathlib.Path(tmp_path).resolve() / "checkpoints"
    said = f"{path}: cannot be written ({reason}; 2.0 MB are left there)"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints._manager, "save", fail)
        patch.setattr(checkpoints._manager, "wait_until_finished", fail)
        assert message(lambda: checkpoints.save(state, {}), InputError) == said
        assert message(checkpoints.wait, InputError) == said
    checkpoints.close()


def test_what_cannot_be_saved_does_not_hide_the_error(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    close = checkpoints.close

    def fail():
        close()
        raise OSError(errno.ENOSPC, "x")

    monkeypatch.setattr(checkpoints, "close", fail)
    with pytest.raises(KeyError), checkpoints:
        raise KeyError
    with pytest.raises(OSError, match="x"), contextlib.suppress(KeyError), checkpoints:
        pass
