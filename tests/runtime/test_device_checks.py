"""Devices and processes that JAX sees, against what the launcher asked for."""

import jax
import pytest

from diffc_jax.errors import InputError
from diffc_jax.runtime import devices
from diffc_jax.runtime.devices import check_devices
from tests.support.refusals import fails, message


@pytest.fixture
def machine(monkeypatch):
    """Makes JAX see so many devices of so many processes."""

    def see(local, processes=1, platform="gpu"):
        monkeypatch.setattr(jax, "local_device_count", lambda: local)
        monkeypatch.setattr(jax, "device_count", lambda: local * processes)
        monkeypatch.setattr(jax, "process_count", lambda: processes)
        monkeypatch.setattr(jax, "default_backend", lambda: platform)

    return see


def test_the_number_that_is_expected(machine):
    machine(8, 4)
    check_devices(32, {})
    # Which then counts, whatever Slurm says.
    check_devices(32, {"SLURM_GPUS_ON_NODE": "4", "SLURM_STEP_NUM_TASKS": "9"})
    fails(
        InputError,
        "--expect_devices=64: JAX sees 32 (gpu) in 4 processes",
        lambda: check_devices(64, {}),
    )
    machine(8, 1, "cpu")
    said = message(lambda: check_devices(1, {}), InputError)
    assert said == "--expect_devices=1: JAX sees 8 (cpu) in 1 process"


@pytest.mark.parametrize(
    ("local", "processes", "variables"),
    [
        (8, 1, {}),
        # One process for each GPU of two nodes; one for each node; nodes of different sizes.
        (1, 16, {"GPUS_ON_NODE": "8", "STEP_NUM_TASKS": "16", "STEP_TASKS_PER_NODE": "8(x2)"}),
        (8, 2, {"GPUS_ON_NODE": "8", "STEP_NUM_TASKS": "2", "STEP_TASKS_PER_NODE": "1(x2)"}),
        (
            *(1, 12),
            {
                "GPUS_ON_NODE": "4",
                "STEP_NUM_TASKS": "12",
                "STEP_TASKS_PER_NODE": "8,4",
                "NODEID": "1",
            },
        ),
        # One process on some of the GPUs of its node, as in a sweep.
        (1, 1, {"GPUS_ON_NODE": "8", "STEP_NUM_TASKS": "1"}),
        # A batch script that starts one process by itself.
        (8, 1, {"GPUS_ON_NODE": "8", "NTASKS": "8"}),
    ],
)
def test_what_slurm_gave(machine, local, processes, variables):
    machine(local, processes)
    check_devices(None, {f"SLURM_{name}": value for name, value in variables.items()})


def test_processes_of_slurm_that_do_not_know_each_other(machine):
    machine(1, 1)
    fails(
        InputError,
        "Slurm started 8 tasks, and JAX has 1 process; use --distributed=auto so that they work together, or"
        " srun --ntasks=1",
        lambda: check_devices(None, {"SLURM_STEP_NUM_TASKS": "8"}),
    )


def test_gpus_of_slurm_that_jax_does_not_use(machine):
    machine(1, 1, "cpu")
    asked = {"SLURM_GPUS_ON_NODE": "8"}
    end = (
        "; set --expect_devices to the number of all devices if that is meant, or JAX_PLATFORMS=cpu"
    )
    fails(
        InputError,
        f"SLURM_GPUS_ON_NODE=8: JAX uses 0 of these GPUs (JAX sees 1 (cpu) in 1 process){end}",
        lambda: check_devices(None, asked),
    )
    check_devices(None, {**asked, "JAX_PLATFORMS": "cpu"})
    machine(1, 8)
    tasks = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_TASKS_PER_NODE": "4(x2)"}
    fails(
        InputError,
        f"SLURM_GPUS_ON_NODE=8: JAX uses 4 of these GPUs (JAX sees 8 (gpu) in 8 processes){end}",
        lambda: check_devices(None, {**asked, **tasks}),
    )


def test_hific_says_that_it_needs_cpus(monkeypatch):
    assert devices.host_cpu().platform == "cpu"

    def none(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "local_devices", none)
    assert message(devices.host_cpu, InputError) == (
        "JAX_PLATFORMS=cuda: the tables of HiFiC's files are computed on CPUs; use"
        " JAX_PLATFORMS=cuda,cpu"
    )


def test_a_platform_that_is_not_there(monkeypatch):
    devices.check_platform()

    def nothing():
        raise AssertionError

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "devices", nothing)
    said = message(devices.check_platform, InputError)
    assert said == (
        "JAX_PLATFORMS=cuda: JAX cannot start (it finds no such device); use JAX_PLATFORMS=cpu, or see"
        " docs/accelerators.md for the packages that a device needs"
    )
