"""Means of the metrics between two reports, speed, and the check that every value is finite."""

import contextlib
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import logging
from jaxtyping import Array

from diffc_jax.errors import DiffcError
from diffc_jax.progress import format_seconds


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
    ):
        """Starts after `step`.

        Args:
            step: number of finished updates.
            num_steps: of the run.
            batch_size: images of an update.
            seconds: of training before this start.
            cpu_seconds: likewise, of all cores together.
            summarise: makes means of metrics the text to log.
        """
        self._summarise = summarise
        self._step, self._num_steps, self._batch_size = step, num_steps, batch_size
        self._pending: list[dict[str, Array]] = []
        self._last = time.monotonic()
        self._start = self._last - seconds
        self._cpu_start = time.process_time() - cpu_seconds

    def add(self, metrics: dict[str, Array]) -> None:
        """Adds the metrics of the next step."""
        self._pending.append(metrics)

    def spent(self) -> dict[str, float]:
        """What training has cost, that of earlier runs included.

        Returns:
            `seconds`, without paused time; `cpu_seconds`, of all cores of this process, with compilation
            and evaluation.
        """
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

    def report(self) -> dict[str, float]:
        """Logs and returns the means since the last report.

        Metrics may come and go with the steps; a mean is over the steps that have it.

        Raises:
            DivergedError: a value of some step is not finite, or `summarise` says so.
        """
        values = jax.device_get(self._pending)
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
        steps_per_second = len(values) / (now - self._last)
        self._step += len(values)
        self._last, self._pending = now, []
        images_per_second = steps_per_second * self._batch_size
        logging.info(
            "step %d/%d (%.0f %%): %s, %.1f images/s, ETA %s",
            self._step,
            self._num_steps,
            100 * self._step / self._num_steps,
            self._summarise(means),
            images_per_second,
            format_seconds((self._num_steps - self._step) / steps_per_second),
        )
        return means | {"images_per_second": images_per_second} | self.spent()
