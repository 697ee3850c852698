"""Progress of long work, as log lines with an estimate of the time that remains."""

import time

from absl import logging

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Logs how far a job is, at most every few seconds and once at its end.

    A job that resumes starts with `done` above zero; its rate counts this run only.
    """

    def __init__(self, name: str, total: int, unit: str, done: int = 0):
        self._name, self._total, self._unit = name, total, unit
        self._start_done = self._done = done
        self._start = self._last = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Adds finished units."""
        self._done += count
        now = time.monotonic()
        if self._done < self._total and now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        logging.info("%s", self.describe(now - self._start))

    def describe(self, seconds: float) -> str:
        """One line: done of total, percent, rate, and time left."""
        rate = (self._done - self._start_done) / max(seconds, 1e-9)
        left = format_seconds((self._total - self._done) / rate) if rate else "?"
        percent = 100.0 * self._done / max(self._total, 1)
        return (
            f"{self._name}: {self._done}/{self._total} {self._unit} ({percent:.0f} %), "
            f"{rate:.3g} {self._unit}/s, ETA {left}"
        )


class ShareProgress:
    """Logs the fraction of a job that is done, at most every few seconds, where there is nothing to count."""

    def __init__(self, name: str):
        self._name = name
        self._start = self._last = time.monotonic()

    def reach(self, fraction: float) -> None:
        """Says how much is done, 0 to 1."""
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._last = now
        left = format_seconds((now - self._start) * (1 / fraction - 1)) if fraction else "?"
        logging.info("%s: %.0f %%, ETA %s", self._name, 100 * fraction, left)


def format_seconds(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
