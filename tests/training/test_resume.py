"""Runs that are killed and started again end with the same bytes as runs that are not."""

import dataclasses
import random
import signal
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
from ml_collections import ConfigDict

from diffc_jax.commands import train
from diffc_jax.errors import InputError
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.runtime import writers
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.training import step as step_lib
from diffc_jax.training.experiment import build_experiment
from diffc_jax.training.meter import DivergedError, Meter
from tests.support.processes import ROOT, cache_variables, environment
from tests.support.run_files import logged, table
from tests.support.small_configs import QUICK_EVALUATION, small_config

IMAGES = 24
TIMES = ("images_per_second", "host_share", "seconds", "cpu_seconds")

CONFIG_FILE = """
from ml_collections import ConfigDict
from tests.support.small_configs import QUICK_EVALUATION, small_config

def get_config():
    config = small_config({images!r}, **QUICK_EVALUATION)
    config.eval.update({{"rate_steps": 8, "flow_steps": 4, "batch_size": 2}})
    if {network}:
        config.model = ConfigDict(
            {{"name": "unet", "patch": 2, "widths": (8,), "blocks": (1,), "heads": 2, "dropout": 0.1}}
        )
        config.schedule.name = "learned_network"
    config.train.batch_size = 4
    config.train.num_steps = 24
    config.train.warmup_steps = 4
    config.train.lr_decay = "cosine"
    config.train.log_every_steps = 2
    config.train.eval_every_steps = 12
    config.train.checkpoint_every_steps = 3
    return config
"""


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(IMAGES):
        coarse = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        PIL.Image.fromarray(coarse.repeat(2, 0).repeat(2, 1)).save(folder / f"{number:02}.png")
    return folder


class Program:
    """An entry point as a process on one device; compiled programs are shared between processes."""

    def __init__(self, tmp_path, images, network):
        self._config = tmp_path / "config.py"
        self._config.write_text(CONFIG_FILE.format(images=str(images), network=network))
        self._environment = environment(**cache_variables(tmp_path / "cache"))

    def start(self, program, workdir):
        return subprocess.Popen(
            [
                *(sys.executable, f"experiments/{program}.py"),
                *(f"--config={self._config}", f"--workdir={workdir}"),
            ],
            cwd=ROOT,
            env=self._environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, program, workdir):
        process = self.start(program, workdir)
        _, stderr = process.communicate()
        assert process.returncode == 0, stderr

    def kill_when(self, program, workdir, moment, delay=0.0):
        """Starts a program and kills it as soon as `moment()` is true, `delay` seconds later."""
        process = self.start(program, workdir)
        while not moment():
            assert process.poll() is None, f"ended too soon: {process.communicate()[1]}"
            time.sleep(0.01)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL


def metrics(workdir):
    return [
        {k: v for k, v in row.items() if k.split("/")[-1] not in TIMES} for row in logged(workdir)
    ]


def last_logged_step(workdir):
    rows = logged(workdir)
    return rows[-1]["step"] if rows else 0


def test_killed_training_ends_with_the_same_bytes(images, tmp_path):
    program = Program(tmp_path, images, network=True)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    program.run("train", straight)

    moments = random.Random(0)
    for lowest in (4, 11):
        step = lowest + moments.randrange(6)
        program.kill_when(
            "train",
            killed,
            lambda step=step: last_logged_step(killed) >= step,
            delay=moments.random() * 0.02,
        )

    # And once while a checkpoint is being written. Orbax gives it its name when it is whole.
    before = set((killed / "checkpoints").iterdir())
    program.kill_when(
        "train", killed, lambda: any(".orbax-checkpoint-tmp" in p.name for p in new(killed, before))
    )
    program.run("train", killed)

    exported = [(folder / "params.safetensors").read_bytes() for folder in (straight, killed)]
    assert exported[0] == exported[1]
    # Losses of every step: the same images in the same order, flipped alike, with the same noise.
    assert metrics(killed) == metrics(straight)
    assert [row["step"] for row in metrics(killed)][-1] == 24
    assert sorted(p.name for p in (killed / "checkpoints").iterdir()) == ["21", "24"]


def new(workdir, before):
    return set((workdir / "checkpoints").iterdir()) - before


def test_killed_evaluation_gives_the_same_tables(images, tmp_path):
    program = Program(tmp_path, images, network=False)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    program.run("train", straight)
    program.run("train", killed)
    program.run("evaluate", straight)

    def parts():
        return list((killed / "eval" / "progress").glob("*/0*.npz"))

    program.kill_when("evaluate", killed, lambda: len(parts()) >= 3)
    before = {path: path.stat().st_mtime_ns for path in parts()}
    assert 3 <= len(before) < IMAGES // 2
    # What a process leaves that is killed while it writes a part.
    (parts()[0].parent / ".00000006-00000008.abc.npz").write_bytes(b"half")
    program.run("evaluate", killed)

    for name in ("rd.csv", "per_image.csv", "rate_curve.csv"):
        assert (killed / "eval" / name).read_bytes() == (straight / "eval" / name).read_bytes()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(parts()) == IMAGES // 2


# In this process, on eight simulated devices.


def gaussian_config(images, **evaluation):
    return small_config(images, **QUICK_EVALUATION | {"decoders": ("flow", "mean")} | evaluation)


def per_image(workdir):
    rows = table(workdir / "eval" / "per_image.csv")
    keys = [(int(row["index"]), row["decoder"], row["gamma"]) for row in rows]
    values = [[float(row[name]) for name in ("bits_kl", "bits_bound", "mse")] for row in rows]
    return dict(zip(keys, values, strict=True))


def parts(workdir):
    return {
        path.relative_to(workdir): path.stat().st_mtime_ns
        for path in (workdir / "eval" / "progress").rglob("*.npz")
    }


def test_evaluation_reuses_what_still_holds(images, tmp_path):
    train(gaussian_config(images), tmp_path)
    evaluate(gaussian_config(images, batch_size=8, max_images=16), tmp_path)
    first, first_parts = per_image(tmp_path), parts(tmp_path)
    assert [path.name for path in sorted(first_parts)] == [
        "00000000-00000008.npz",
        "00000008-00000016.npz",
    ]

    # More images: the parts stay, and so do the numbers.
    evaluate(gaussian_config(images, batch_size=8), tmp_path)
    more, more_parts = per_image(tmp_path), parts(tmp_path)
    assert more_parts.items() >= first_parts.items()
    assert len(more_parts) == 3
    assert len(more) == 24 * 2 * 2
    assert more.items() >= first.items()

    # A lost part comes back alone, also with another batch size.
    progress = next((tmp_path / "eval" / "progress").iterdir())
    (progress / "00000000-00000008.npz").unlink()
    evaluate(gaussian_config(images, batch_size=16), tmp_path)
    assert parts(tmp_path).keys() == more_parts.keys()
    again = per_image(tmp_path)
    assert again.keys() == more.keys()
    # Programs for another batch size may round differently: 8-bit values near a half may flip.
    np.testing.assert_allclose(list(again.values()), [more[key] for key in again], rtol=1e-3)

    # A damaged part is named.
    damaged = progress / "00000016-00000024.npz"
    whole = damaged.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"junk"):
        damaged.write_bytes(content)
        with pytest.raises(InputError) as caught:
            evaluate(gaussian_config(images, batch_size=16), tmp_path)
        assert str(caught.value) == (
            f"{damaged}: is damaged (File is not a zip file); delete it and run again"
        )

    # Other parameters use no old part, even in a folder of the same name.
    config = gaussian_config(images, batch_size=8)
    (images / "00.png").write_bytes((images / "01.png").read_bytes())
    other = tmp_path / "other"
    train(config, other)
    config.eval.params = str(other / "params.safetensors")
    evaluate(config, tmp_path)
    assert len({path.parent for path in parts(tmp_path)}) == 2
    assert per_image(tmp_path) != more


def unet_config(images):
    config = gaussian_config(images)
    config.model = ConfigDict(
        {"name": "unet", "patch": 2, "widths": (8,), "blocks": (1,), "heads": 2}
    )
    config.train.num_steps = 9
    config.train.warmup_steps = 0
    config.train.log_every_steps = 2
    config.train.checkpoint_every_steps = 3
    return config


def test_nan_stops_the_run_and_leaves_a_finite_checkpoint(images, tmp_path, monkeypatch):
    original = step_lib.make_train_step

    def poisoned(*arguments):
        train_step = original(*arguments)

        def step(state, pixels):
            following, values = train_step(state, pixels)
            bad = jnp.where(state.step == 4, jnp.nan, 1.0)
            params = jax.tree.map(lambda p: p * bad, following.params)
            return dataclasses.replace(following, params=params), values | {
                "loss": values["loss"] * bad
            }

        return step

    monkeypatch.setattr("diffc_jax.training.experiment.make_train_step", poisoned)
    config = unet_config(images)
    with pytest.raises(DivergedError) as caught:
        train(config, tmp_path)
    assert str(caught.value) == (
        "step 5: loss is nan; run again with a lower train.learning_rate in another --workdir, "
        "or look at the data near this step"
    )
    assert not (tmp_path / "params.safetensors").exists()
    assert metrics(tmp_path)[-1]["step"] == 4
    checkpoints = Checkpoints(tmp_path)
    state, _ = checkpoints.restore(build_experiment(config).state_template())
    checkpoints.close()
    assert int(state.step) == 3
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_meter_names_the_step_of_any_bad_value():
    meter = Meter(step=10, num_steps=20, batch_size=4, seconds=0.0, cpu_seconds=0.0, summarise=str)
    for value in (1.0, 2.0, np.inf, 3.0):
        meter.add([{"loss": jnp.asarray(1.0), "grad_norm": jnp.asarray(value)}])
    with pytest.raises(DivergedError, match=r"^step 13: grad_norm is inf; "):
        meter.report()


def test_meter_names_the_step_within_a_call():
    meter = Meter(step=10, num_steps=20, batch_size=4, seconds=0.0, cpu_seconds=0.0, summarise=str)
    meter.add([{"loss": jnp.asarray([1.0, 2.0, 3.0])}])
    meter.add([{"loss": jnp.asarray([4.0, np.nan, 6.0])}])
    with pytest.raises(DivergedError, match=r"^step 15: loss is nan; "):
        meter.report()


def test_tensorboard_loses_the_steps_that_are_run_again_and_no_other(tmp_path, monkeypatch):
    opened = []
    board = types.SimpleNamespace(SummaryWriter=lambda *_, **options: opened.append(options))
    monkeypatch.setattr(writers, "require", lambda _: board)
    writers.MetricWriter(tmp_path, 7)
    assert opened == [{"purge_step": 8, "write_to_disk": True}]
