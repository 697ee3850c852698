"""Means of the metrics between two reports, speed, and the check that every value is finite."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jaxtyping import Array

from diffc_jax.errors import DiffcError
from diffc_jax.runtime.progress import format_seconds
from diffc_jax.training.duration import TimeLimit


class DivergedError(DiffcError):
    """A loss or gradient that is not finite; the message names the step."""


class Meter:
    """Collects the metrics of steps; they stay on the devices until a report, so no step is waited for."""

    def __init__(
        self,
        step: int,
        num_steps: int,
        batch_size: int,
        seconds: float,
        cpu_seconds: float,
        summarise: Callable[[dict[str, float]], str],
        limit: TimeLimit | None = None,
    ):
        """Starts after `step` of `num_steps` (0: not known yet) and so much time spent on them.

        `cpu_seconds` are of all cores together; `summarise` makes means of metrics the text to log; `limit`
        is that of the time that the run may take, for its ETA as long as its steps are not known.
        """
        self._summarise, self._limit = summarise, limit
        self._given = 0.0
        self._step, self._num_steps, self._batch_size = step, num_steps, batch_size
        self._pending: list[dict[str, Array]] = []
        self._last = time.monotonic()
        self._start = self._last - seconds
        self._cpu_start = time.process_time() - cpu_seconds

    def add(self, metrics: Sequence[dict[str, Array]]) -> None:
        """Adds the metrics of the next steps: scalars, or arrays over several steps, one after the other."""
        self._pending += metrics

    @contextlib.contextmanager
    def on_devices(self) -> Iterator[None]:
        """The block gives work to the devices or waits for them; what is outside is the host's own time."""
        begin = time.monotonic()
        yield
        self._given += time.monotonic() - begin

    def spent(self) -> dict[str, float]:
        """`seconds` without paused time and `cpu_seconds` with it; both have those of earlier runs."""
        return {
            "seconds": time.monotonic() - self._start,
            "cpu_seconds": time.process_time() - self._cpu_start,
        }

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time of the block out of the speed."""
        begin = time.monotonic()
        yield
        away = time.monotonic() - begin
        self._start += away
        self._last += away

    def set_end(self, num_steps: int) -> None:
        """Says how many steps the run has, once that is known."""
        self._num_steps = num_steps

    def report(self) -> dict[str, float]:
        """Logs and returns the means since the last report.

        Metrics may come and go with the steps; a mean is over the steps that have it.

        Raises:
            DivergedError: a value of some step is not finite, or `summarise` says so.
        """
        with self.on_devices():
            values = [row for rows in jax.device_get(self._pending) for row in _split(rows)]
        for step, row in enumerate(values, start=self._step + 1):
            for name, value in row.items():
                if not np.isfinite(value):
                    raise DivergedError(
                        f"step {step}: {name} is {value}; run again with a lower train.learning_rate"
                        " in another --workdir, or look at the data near this step"
                    )
        names = dict.fromkeys(name for row in values for name in row)
        means = {
            name: float(np.mean([row[name] for row in values if name in row])) for name in names
        }
        now = time.monotonic()
        elapsed = now - self._last
        steps_per_second = len(values) / elapsed
        host_share = max(1.0 - self._given / elapsed, 0.0)
        self._step += len(values)
        self._last, self._pending, self._given = now, [], 0.0
        images_per_second = steps_per_second * self._batch_size
        logging.info(
            "step %s: %s, %.1f images/s, ETA %s",
            self._position(),
            self._summarise(means),
            images_per_second,
            self._eta(steps_per_second),
        )
        speed = {"images_per_second": images_per_second, "host_share": host_share}
        return means | speed | self.spent()

    def _position(self) -> str:
        if not self._num_steps:
            return str(self._step)
        return f"{self._step}/{self._num_steps} ({100 * self._step / self._num_steps:.0f} %)"

    def _eta(self, steps_per_second: float) -> str:
        if self._num_steps:
            return format_seconds((self._num_steps - self._step) / steps_per_second)
        assert self._limit is not None  # else the steps would be known
        return format_seconds(max(self._limit.left, 0.0))


def _split(rows: dict[str, Any]) -> list[dict[str, Any]]:
    """Metrics of several steps as those of each."""
    lengths = {value.shape[0] for value in rows.values() if value.ndim}
    if not lengths:
        return [rows]
    return [{name: value[i] for name, value in rows.items()} for i in range(lengths.pop())]
