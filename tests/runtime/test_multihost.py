"""Processes that share a run: the numbers of one process, and a run that survives what clusters do to it."""

import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import safetensors.numpy

from diffc_jax.commands import train
from diffc_jax.errors import PreemptedError, UsageError
from diffc_jax.runtime import multihost, writers
from tests.support.processes import ROOT, cache_variables, cluster, environment
from tests.support.run_files import logged

PREEMPTED = 85
STEPS = 24
TIMES = tuple(f"train/{n}" for n in ("images_per_second", "host_share", "seconds", "cpu_seconds"))

CONFIG_FILE = """
from ml_collections import ConfigDict
from diffc_jax.config import base_config

def get_config():
    config = base_config()
    config.data.image_size = 8
    config.data.train.max_images = config.data.eval.max_images = 20
    config.model = ConfigDict(
        {"name": "unet", "patch": 4, "widths": (32,), "blocks": (1,), "heads": 1, "dropout": 0.1}
    )
    config.schedule.name = "learned_linear"
    config.train.batch_size = 8
    config.train.num_steps = 24
    config.train.warmup_steps = 4
    config.train.log_every_steps = 1
    config.train.checkpoint_every_steps = 5
    config.train.eval_every_steps = 12
    config.eval.batch_size = 8
    return config
"""


def shipped_config(fsdp):
    scope = {}
    exec(CONFIG_FILE, scope)
    config = scope["get_config"]()
    config.mesh.fsdp = fsdp
    return config


class Pair:
    """Two processes of one device each that share a run."""

    def __init__(self, folder):
        self._folder = folder
        (folder / "config.py").write_text(CONFIG_FILE)

    def start(self, workdir, *flags):
        return [self.start_one(workdir, place, *flags) for place in cluster(2)]

    def start_one(self, workdir, variables, *flags):
        shared = cache_variables(self._folder / "cache")
        return subprocess.Popen(
            [
                *(sys.executable, "experiments/train.py", f"--config={self._folder / 'config.py'}"),
                *(f"--workdir={workdir}", "--distributed=auto", "--config.mesh.fsdp=2", *flags),
            ],
            cwd=ROOT,
            env=environment(**shared, **variables),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, workdir, *flags):
        outputs = finish(self.start(workdir, *flags))
        assert [code for code, _ in outputs] == [0, 0], outputs
        return [stderr for _, stderr in outputs]

    def disturb(self, workdir, victim, signum, step):
        """Sends a signal to one process after `step` is logged; exit codes and what both said."""
        processes = self.start(workdir)
        while last_step(workdir) < step:
            assert all(process.poll() is None for process in processes), finish(processes)
            time.sleep(0.01)
        processes[victim].send_signal(signum)
        return finish(processes)


def finish(processes):
    outputs = [process.communicate(timeout=600)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, outputs, strict=True)]


def metrics(workdir):
    return [{k: v for k, v in row.items() if k not in TIMES} for row in logged(workdir)]


def last_step(workdir):
    rows = logged(workdir)
    return rows[-1]["step"] if rows else 0


def assert_same_run(workdir, reference):
    """The same losses and parameters, but for the order of sums."""
    rows, expected = metrics(workdir), metrics(reference)
    assert [row.keys() for row in rows] == [row.keys() for row in expected]
    for row, want in zip(rows, expected, strict=True):
        for name, value in want.items():
            np.testing.assert_allclose(
                row[name], value, rtol=1e-3, err_msg=f"{want['step']} {name}"
            )
    params, wanted = (
        safetensors.numpy.load_file(folder / "params.safetensors")
        for folder in (workdir, reference)
    )
    assert params.keys() == wanted.keys()
    # Adam turns rounding of a gradient near zero into a step of full size.
    for name, value in wanted.items():
        np.testing.assert_allclose(params[name], value, atol=2e-3, err_msg=name)
        assert np.abs(params[name] - value).mean() < 2e-4, name


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run in one process with eight devices."""
    workdir = tmp_path_factory.mktemp("alone")
    train(shipped_config(fsdp=4), workdir)
    return workdir


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Pair(tmp_path_factory.mktemp("pair"))


def test_disturbed_processes_do_what_one_does_that_is_left_alone(alone, pair, tmp_path):
    workdir = tmp_path / "run"
    outputs = pair.disturb(workdir, 1, signal.SIGTERM, step=4)
    assert [code for code, _ in outputs] == [PREEMPTED, PREEMPTED], outputs
    saved = last_step(workdir)
    assert 4 <= saved < STEPS
    assert (workdir / "checkpoints" / str(saved)).is_dir()
    said = (
        f"train.py: error: --workdir {workdir}: stopped as asked and saved after step {saved} of {STEPS};"
        " run the same command again to go on"
    )
    assert all(said in text for _, text in outputs)
    shutil.copytree(workdir, tmp_path / "elsewhere")

    # SIGKILL of the process that coordinates; the other one notices and leaves by itself.
    (killed, _), (left, _) = pair.disturb(workdir, 0, signal.SIGKILL, step=saved + 6)
    assert killed == -signal.SIGKILL
    assert left not in (0, PREEMPTED)

    # The rest with the images in device memory, of which each process takes its own rows.
    first, second = pair.run(workdir, "--config.data.placement=device")
    # The losses of every step: no image was lost or seen twice.
    assert_same_run(workdir, alone)
    assert "2 devices of 2 processes; from step " in first
    assert "putting 20 images (0.00 GB) on each device" in first
    assert f"step {STEPS}/{STEPS} (100 %)" in first
    # Only the first process writes.
    assert "step" not in second
    samples = [sorted(p.name for p in (w / "samples").iterdir()) for w in (workdir, alone)]
    assert samples[0] == samples[1]

    # What two processes saved goes on in one with eight devices.
    train(shipped_config(fsdp=4), tmp_path / "elsewhere")
    assert_same_run(tmp_path / "elsewhere", alone)


@pytest.mark.usefixtures("foreground")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_and_leave_with_their_own_code(tmp_path, monkeypatch, signum):
    scalars = writers.MetricWriter.scalars

    def interrupted(self, step, values):
        scalars(self, step, values)
        if step == 7:
            signal.raise_signal(signum)

    before = signal.getsignal(signum)
    monkeypatch.setattr(writers.MetricWriter, "scalars", interrupted)
    with pytest.raises(PreemptedError) as caught:
        train(shipped_config(fsdp=4), tmp_path)
    assert str(caught.value) == (
        f"--workdir {tmp_path}: stopped as asked and saved after step 8 of {STEPS};"
        " run the same command again to go on"
    )
    assert caught.value.exit_code == PREEMPTED
    assert signal.getsignal(signum) is before
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["5", "8"]


@pytest.mark.usefixtures("foreground")
def test_ctrl_c_twice_ends_at_once(tmp_path, monkeypatch, capfd):
    scalars = writers.MetricWriter.scalars

    def interrupted(self, step, values):
        scalars(self, step, values)
        signal.raise_signal(signal.SIGINT)
        assert capfd.readouterr().err.endswith("Ctrl-C again ends it at once\n")
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(writers.MetricWriter, "scalars", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(shipped_config(fsdp=4), tmp_path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_no_cluster_is_one_line(pair, tmp_path):
    process = pair.start_one(tmp_path / "run", {})
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (
        2,
        "train.py: error: --distributed=auto: coordinator_address should be defined. No cluster was found"
        " (Slurm, Open MPI, TPU pod, Kubernetes); set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES,"
        " JAX_PROCESS_ID in every process, or --distributed=off\n",
    )
    assert not (tmp_path / "run").exists()


def test_variables_that_cannot_be_used_are_refused(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    with pytest.raises(UsageError, match=r"^--distributed=auto: invalid literal for int\(\)"):
        multihost.start("auto")
    multihost.start("off")
    assert not jax.distributed.is_initialized()
    assert multihost.is_primary()
