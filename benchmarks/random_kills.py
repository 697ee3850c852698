"""Kills a training run of several processes at random and starts it again, until it ends; nothing may differ.

    python benchmarks/random_kills.py --kills=20

Two processes of one device each train the smoke configuration of the quickstart on this machine. Each life
ends with SIGKILL to one of them or to all, with SIGKILL while a checkpoint is written, or with SIGTERM to one
(after which both have to save and leave with 85), at a random moment of start-up or training. Processes that
remain are given --grace seconds to notice, then killed, as a cluster manager would. In the end parameters
and metrics are compared with those of a run that nobody disturbed, byte for byte. Exit code 0: all equal.
"""

import collections
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags, logging

from diffc_jax.errors import PreemptedError

_KILLS = flags.DEFINE_integer("kills", 20, "Lives that are ended.", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments and the signals.")
_PROCESSES = flags.DEFINE_integer("processes", 2, "Processes of the run.", lower_bound=1)
_GRACE = flags.DEFINE_float("grace", 60.0, "Seconds that the others have after one is gone.")

_ROOT = pathlib.Path(__file__).parents[1]
_STEPS_BETWEEN = 10
_METRICS_OF_TIME = ("train/images_per_second", "train/seconds", "train/cpu_seconds")


class Run:
    """A training run in a folder; its processes find each other through a port of this machine."""

    def __init__(self, workdir: pathlib.Path, cache: pathlib.Path, num_steps: int):
        self.workdir, self._cache, self._num_steps = workdir, cache, num_steps
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Starts all processes."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        command = [
            *(sys.executable, "experiments/train.py", "--config=configs/quickstart.py:smoke"),
            *(f"--workdir={self.workdir}", "--distributed=auto"),
            *(
                f"--config.mesh.fsdp={_PROCESSES.value}",
                f"--config.train.num_steps={self._num_steps}",
            ),
            *("--config.train.log_every_steps=1", "--config.train.checkpoint_every_steps=3"),
            "--config.train.eval_every_steps=50",
        ]
        shared = {
            "PYTHONPATH": str(_ROOT),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "",
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": str(_PROCESSES.value),
            "JAX_COMPILATION_CACHE_DIR": str(self._cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.processes = []
        for index in range(_PROCESSES.value):
            environment = {**os.environ, **shared, "JAX_PROCESS_ID": str(index)}
            with self.workdir.with_suffix(f".{index}.log").open("ab") as log:
                self.processes.append(
                    subprocess.Popen(command, cwd=_ROOT, env=environment, stderr=log, stdout=log)
                )

    def wait(self, seconds: float = float("inf")) -> list[int]:
        """Exit codes; processes that are left after `seconds` are killed."""
        deadline = time.monotonic() + seconds
        while any(process.poll() is None for process in self.processes):
            if time.monotonic() > deadline:
                for process in self.processes:
                    process.kill()
            time.sleep(0.01)
        return [process.wait() for process in self.processes]

    def metrics(self) -> list[dict[str, Any]]:
        """Whole lines of metrics.jsonl, without those values that are times."""
        path = self.workdir / "metrics.jsonl"
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        rows = [json.loads(line) for line in lines]
        return [{k: v for k, v in row.items() if k not in _METRICS_OF_TIME} for row in rows]

    def is_saving(self) -> bool:
        """Whether a checkpoint is being written."""
        return any((self.workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def end_life(run: Run, moments: random.Random) -> str:
    """Starts the run, ends it at a random moment, and says how."""
    run.start()
    kind = moments.choice(["kill one", "kill all", "kill one while saving", "term one"])
    victims = run.processes if kind == "kill all" else [moments.choice(run.processes)]
    rows = run.metrics()
    if moments.random() < 0.2:
        when, deadline = "starting", time.monotonic() + moments.random() * 5.0
        while time.monotonic() < deadline and all(p.poll() is None for p in run.processes):
            time.sleep(0.01)
    else:
        when, steps = "training", (rows[-1]["step"] if rows else 0) + moments.randint(1, 6)
        while all(p.poll() is None for p in run.processes):
            now = run.metrics()
            if now and now[-1]["step"] >= steps and ("saving" not in kind or run.is_saving()):
                break
            time.sleep(0.002)
        time.sleep(moments.random() * 0.05)
    for process in victims:
        process.send_signal(signal.SIGTERM if kind == "term one" else signal.SIGKILL)
    codes = run.wait(_GRACE.value)
    if kind == "term one" and when == "training" and set(codes) != {PreemptedError.exit_code}:
        raise RuntimeError(f"SIGTERM in training: exit codes {codes}")
    return f"{kind}, {when}: {codes}"


def main(argv: list[str]) -> None:
    """Runs undisturbed, then disturbed, and compares."""
    del argv
    logging.set_verbosity(logging.INFO)
    moments = random.Random(_SEED.value)
    ends: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        num_steps = _STEPS_BETWEEN * (_KILLS.value + 1)
        straight, disturbed = (
            Run(root / name, root / "cache", num_steps) for name in ("straight", "disturbed")
        )
        straight.start()
        if any(straight.wait()):
            raise RuntimeError(straight.workdir.with_suffix(".0.log").read_text()[-2000:])
        for life in range(_KILLS.value):
            end = end_life(disturbed, moments)
            rows = disturbed.metrics()
            logging.info("life %d: %s; step %d", life + 1, end, rows[-1]["step"] if rows else 0)
            ends[end.split(":")[0]] += 1
        disturbed.start()
        codes = disturbed.wait()
        params = [
            (run.workdir / "params.safetensors").read_bytes() for run in (straight, disturbed)
        ]
        logging.info("%d lives ended: %s; the last one with %s", _KILLS.value, dict(ends), codes)
        equal = {"parameters": params[0] == params[1]}
        equal["metrics"] = straight.metrics() == disturbed.metrics()
        logging.info("equal to the run that nobody disturbed: %s", equal)
    if any(codes) or not all(equal.values()):
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
