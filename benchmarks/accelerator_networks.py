"""The sections of benchmarks/accelerator.py about networks: training, forward passes and memory."""

import concurrent.futures
import dataclasses
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from accelerator_jobs import Job, Row
from ml_collections import ConfigDict
from shared import BASE_UNET, photographs

from diffc_jax.config import base_config
from diffc_jax.models import model_variables
from diffc_jax.models.layers import GAMMA_RANGE
from diffc_jax.runtime import sharding
from diffc_jax.training import cost
from diffc_jax.training.diffusion_task import build_diffusion_task
from diffc_jax.training.experiment import Experiment, build_experiment
from diffc_jax.training.state import count_parameters

_ROUNDS = 5
_LEAST_SECONDS = 0.5  # of a round
_MOST_CALLS = 50  # in a round
_NUM_STEPS = 1000  # of the run whose step it is; the program does not depend on it
_FITTED_IMAGES = 1024  # to which a network's Gaussian is fitted


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and how it is measured.

    Attributes:
        fields: of config.model, without dtype.
        side: of the images in pixels.
        batch: images on each device.
        dtypes: of the activations, the most important one first.
    """

    fields: Mapping[str, Any]
    side: int
    batch: int
    dtypes: tuple[str, ...] = ("float32", "bfloat16")


FULL = {
    "unet base": Network(BASE_UNET, 64, 256),
    "unet wide": Network(
        {**BASE_UNET, "widths": (64, 192, 384), "blocks": (1, 2, 3)},
        *(64, 256, ("bfloat16", "float32")),
    ),
    # Attention of all pixels to all pixels: more images would not fit.
    "vdm, 4 blocks": Network(
        {"name": "vdm", "blocks": 4, "width": 128}, 64, 32, ("bfloat16", "float32")
    ),
}
SMALL = {
    "unet tiny": Network({"name": "unet", "widths": (16,), "blocks": (1,)}, 8, 8, ("float32",))
}


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled function.

    Attributes:
        call: of the arguments that it was compiled for.
        flops: multiplications and additions of its products and convolutions.
        compile_seconds: how long tracing and compiling took.
        planned_bytes: that its compiler plans for arguments, results and temporary arrays; None where it
            does not say.
    """

    call: Callable[..., Any]
    flops: float
    compile_seconds: float
    planned_bytes: int | None


def compile_program(function: jax.stages.Wrapped, *arguments: Any) -> Program:
    """Compiles a jitted function for these arguments."""
    begin = time.perf_counter()
    traced = function.trace(*arguments)
    compiled = traced.lower().compile()
    seconds = time.perf_counter() - begin
    memory = compiled.memory_analysis()
    planned = None if memory is None else cost.planned_bytes(memory)
    return Program(compiled, cost.count_flops(traced.jaxpr.jaxpr), seconds, planned)


def seconds_per_call(function: Callable[[], Any]) -> float:
    """Median over rounds of calls that follow each other, as those of a training do."""

    def timed(calls: int) -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            result = function()
        jax.block_until_ready(result)
        return (time.perf_counter() - begin) / calls

    timed(1)
    calls = math.ceil(min(_LEAST_SECONDS / timed(1), _MOST_CALLS))
    return statistics.median(timed(calls) for _ in range(_ROUNDS))


@dataclasses.dataclass(frozen=True)
class Trained:
    """What the training of a network showed.

    Attributes:
        row: of the section `training`.
        experiment: with the network.
        variables: of the network after some steps.
        planned_bytes: of a step, see `Program`.
        peak_bytes: largest number of bytes in use on a device until the steps had run; None where the device
            does not count them.
        peak_from: what needed them.
    """

    row: Row
    experiment: Experiment
    variables: Any
    planned_bytes: int | None
    peak_bytes: int | None
    peak_from: str


class Networks:
    """Measures networks, each of which is built and trained once."""

    def __init__(self, networks: Mapping[str, Network]):
        self.networks = networks
        self._trained: dict[tuple[str, str], Trained] = {}

    def experiment(self, name: str, dtype: str) -> Experiment:
        """A network on the mesh of all devices."""
        return build_experiment(self.config(name, dtype, jax.device_count()))

    def config(self, name: str, dtype: str, devices: int) -> ConfigDict:
        """The config of its training."""
        network = self.networks[name]
        config = base_config()
        config.data.image_size = network.side
        config.data.train.max_images = _FITTED_IMAGES
        config.model = ConfigDict({**network.fields, "dtype": dtype})
        config.train.batch_size = network.batch * devices
        return config

    def trained(self, name: str, dtype: str) -> Trained:
        """Trains a network for some steps, if that was not done before."""
        if (name, dtype) not in self._trained:
            self._trained[name, dtype] = self._train(name, dtype)
        return self._trained[name, dtype]

    def _train(self, name: str, dtype: str) -> Trained:
        experiment = self.experiment(name, dtype)
        config, mesh = experiment.config, experiment.mesh
        batch, side = config.train.batch_size, config.data.image_size
        state = experiment.fresh_state(experiment.open_source("train"))
        images = photographs("train", side, batch)
        pixels = sharding.put_batch(mesh, {"image": images})["image"]
        step = compile_program(experiment.train_step(_NUM_STEPS), state, pixels)
        before = _peak_bytes()

        def advance() -> Any:
            nonlocal state
            state, metrics = step.call(state, pixels)
            return metrics

        seconds = seconds_per_call(advance)
        after = _peak_bytes()
        bits = float(advance()["loss"])
        if not math.isfinite(bits):
            raise ArithmeticError(f"the loss is {bits} after some steps")
        peak = peak_flops()
        row = _speed_row(name, dtype, experiment, step, seconds) | {
            "parameters": count_parameters(state.params),
            "milliseconds_per_step": 1e3 * seconds,
            "share_of_bfloat16_peak": peak and step.flops / seconds / (peak * mesh.size),
        }
        variables = model_variables(state.params, state.fixed)
        return Trained(
            row, experiment, variables, step.planned_bytes, after, peak_from(before, after)
        )

    def forward_rows(self, name: str, dtype: str) -> list[Row]:
        """Times eps_hat at one noise level for each image."""
        trained = self.trained(name, dtype)
        experiment, network = trained.experiment, self.networks[name]
        batch = network.batch * experiment.mesh.size
        shape = (batch, *experiment.image_shape)
        noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        gamma = np.linspace(*GAMMA_RANGE, batch, dtype=np.float32)
        placed = sharding.put_batch(experiment.mesh, {"z": noise, "gamma": gamma})
        arguments = trained.variables, placed["z"], placed["gamma"]
        program = compile_program(jax.jit(experiment.model.eps_hat), *arguments)
        seconds = seconds_per_call(lambda: program.call(*arguments))
        return [_speed_row(name, dtype, experiment, program, seconds)]

    def memory_rows(self, name: str, dtype: str) -> list[Row]:
        """What a training step needs on this device, and what train.py --cost says beforehand."""
        trained = self.trained(name, dtype)
        devices = trained.experiment.mesh.size
        config = self.config(name, dtype, devices).to_dict()
        # In a process of its own, which simulates the devices on a CPU.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
            predicted = pool.submit(predicted_bytes, config, devices).result()
        measured, planned = trained.peak_bytes, trained.planned_bytes
        return [
            {
                "network": name,
                "dtype": dtype,
                "batch": trained.row["batch"],
                "devices": devices,
                "predicted_peak_bytes": predicted,
                "planned_here_bytes": planned,
                "measured_peak_bytes": measured,
                "measured_peak_from": trained.peak_from,
                "planned_over_predicted": planned and planned / predicted,
                "measured_over_predicted": measured and measured / predicted,
            }
        ]

    def training_job(self, name: str, dtype: str) -> Job:
        """Training of a network."""
        return Job("training", f"{name}, {dtype}", 35, lambda: [self.trained(name, dtype).row])

    def forward_job(self, name: str, dtype: str) -> Job:
        """Forward passes of a network."""
        return Job("forward", f"{name}, {dtype}", 20, lambda: self.forward_rows(name, dtype))

    def memory_job(self, name: str, dtype: str) -> Job:
        """Memory of the training step of a network, which is trained for it if it was not before."""
        return Job("memory", f"{name}, {dtype}", 35, lambda: self.memory_rows(name, dtype))


def predicted_bytes(config: dict[str, Any], devices: int) -> int:
    """The peak of a training step by `cost.measure_step`; in a process that has not used JAX yet."""
    cost.simulate_devices(devices)
    return cost.measure_step(build_diffusion_task(ConfigDict(config))).peak


def peak_flops() -> float | None:
    """Datasheet rate of one device in bfloat16; None for a device that is not in the table."""
    name = cost.accelerator_of(jax.devices()[0].device_kind)
    return name and cost.ACCELERATORS[name].flops


def _peak_bytes() -> int | None:
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use")


def peak_from(before: int | None, after: int | None) -> str:
    """What the peak after some steps is due to; a device counts on from the start of the process.

    Compilers for GPUs try kernels on the device, with as much scratch memory as they like, so that a step may
    need less than its compilation did: the peak is then an upper bound of what the step needs.
    """
    if before is None or after is None:
        return "device reports no peak"
    return "steps" if after > before else "compiling or earlier jobs"


def _speed_row(
    name: str, dtype: str, experiment: Experiment, program: Program, seconds: float
) -> Row:
    batch = experiment.config.train.batch_size
    return {
        "network": name,
        "dtype": dtype,
        "batch": batch,
        "devices": experiment.mesh.size,
        "images_per_second": batch / seconds,
        "gflop_per_image": program.flops / batch / 1e9,
        "tflop_per_second": program.flops / seconds / 1e12,
        "compile_seconds": program.compile_seconds,
    }
