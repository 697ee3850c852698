"""When a run ends: after a number of steps, or so that everything is done within a wall time."""

import math
import time
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging
from ml_collections import ConfigDict

from diffc_jax.config.validation import given_duration
from diffc_jax.errors import UsageError
from diffc_jax.runtime.progress import format_seconds

# Kept for the last checkpoint and the export, beside the evaluations of validation images.
_SECONDS_TO_SAVE = 5.0
_MARGIN = 1.2


def num_train_steps(train_config: ConfigDict, num_images: int | None) -> int:
    """The duration of training in steps, from whichever of the fields is given.

    It is 0 if a wall time is given, or epochs of an unknown number of images.

    Raises:
        UsageError: none or several of them are positive.
    """
    given = given_duration(train_config)
    examples = {
        "num_steps": train_config.num_steps * train_config.batch_size,
        "num_epochs": train_config.num_epochs * (num_images or 0),
        "num_examples": train_config.num_examples,
        "max_seconds": 0,
    }
    # 1.1 passes over 100 images are 110, and 110.00000000000001 for a computer.
    return math.ceil(round(examples[given] / train_config.batch_size, 6))


class TimeLimit:
    """Decides in a run with a limit of time when the learning rate begins to decay, and how long it does.

    Time that earlier processes of the run spent counts too, as far as their checkpoints know it.
    """

    def __init__(self, train: ConfigDict, begin: float, spent: float, end: int | None):
        """For a process that began at `begin` (`time.monotonic`), when `spent` seconds had been spent.

        `end` is the last step, if the decay has begun.
        """
        self._limit = train.max_seconds
        self._decay_fraction = train.decay_fraction if train.lr_decay == "wsd" else 0.0
        self._per_call = train.steps_per_call
        self._averages = 2 if train.second_ema_decay else 1
        self._begin, self._spent_before = begin, spent
        self._reserve = _SECONDS_TO_SAVE
        self._first: tuple[float, int] | None = None
        self.end = end

    @property
    def spent(self) -> float:
        """Seconds since the start of the run."""
        return self._spent_before + time.monotonic() - self._begin

    @property
    def left(self) -> float:
        """Seconds up to the limit."""
        return self._limit - self.spent

    def evaluated(self, seconds: float) -> None:
        """Notes how long an evaluation of validation images takes."""
        # The last report, and a choice between averages.
        passes = self._averages + (self._averages > 1)
        self._reserve = _SECONDS_TO_SAVE + _MARGIN * passes * seconds

    def finished(self, step: int, ordered: int) -> int | None:
        """Notes that the devices have finished `step` updates, and that `ordered` have been sent to them.

        Returns:
            The number of steps that the decay has to take, if it is to begin after the ordered ones; 0 for an
            end without decay.

        Raises:
            UsageError: the limit leaves no time to train a run that has just begun.
        """
        if self.end is not None:
            return None
        now = self.spent
        left = self._limit - self._reserve - now
        if self._first is None:
            # The first call has compiled; its time says nothing about those that follow.
            self._first = (now, step)
            if left <= 0.0 and not self._spent_before:
                raise UsageError(
                    f"{self._limit:g} s are too short: it took {now:.0f} s to start and"
                    f" compile, and {self._reserve:.0f} s are needed to evaluate and save; use at least"
                    f" {2 * (now + self._reserve):.0f}",
                    field="train.max_seconds",
                )
            if left <= 0.0:
                return self._end_after(ordered, 1, now)
            return None
        seconds, steps = now - self._first[0], step - self._first[1]
        if not steps:
            return None  # the first call is asked about twice
        per_second = steps / seconds
        # Of all steps, those that are left at this speed included, the last fraction decays.
        possible = per_second * left
        if possible > self._decay_fraction * (step + possible) + self._per_call:
            return None
        calls = max(math.floor((possible - (ordered - step)) / self._per_call), 1)
        return self._end_after(ordered, calls, now)

    def _end_after(self, ordered: int, calls: int, now: float) -> int:
        """Lets the run end with a decay of so many calls after the ordered steps; returns its steps."""
        length = calls * self._per_call if self._decay_fraction else 0
        self.end = ordered + length
        left, limit = (format_seconds(max(one, 0.0)) for one in (self._limit - now, self._limit))
        logging.info("step %d: %d steps to the end, %s left of %s", ordered, length, left, limit)
        return length


def make_time_limit(train: ConfigDict, progress: Mapping[str, Any], begin: float) -> TimeLimit:
    """The limit of a run that started at `begin` (`time.monotonic`), or goes on from a checkpoint's progress.

    Raises:
        UsageError: several processes, whose clocks would have to agree.
    """
    if jax.process_count() > 1:
        raise UsageError(
            "works in one process, not in several; use train.num_steps", field="train.max_seconds"
        )
    return TimeLimit(train, begin, progress.get("limit_seconds", 0.0), progress.get("end"))
