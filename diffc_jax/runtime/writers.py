"""Where metrics go: metrics.jsonl, TensorBoard where tensorboardX is installed, and trackers."""

import math
import time
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np
from absl import logging
from jaxtyping import UInt8

from diffc_jax.errors import DiffcError, InputError
from diffc_jax.runtime import lock
from diffc_jax.runtime.disk import writing
from diffc_jax.runtime.files import AnyPath, atomic_write, is_remote, to_json
from diffc_jax.runtime.json_text import parse_json
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.trackers import Trackers
from diffc_jax.typed import Count

_SECONDS_BETWEEN_UPLOADS = 60.0


class MetricWriter:
    """Writes scalars and images of a run; a resumed run continues its files without repeated steps."""

    def __init__(self, workdir: AnyPath, first_step: int, trackers: Trackers | None = None):
        self._trackers = trackers or Trackers()
        self._path = path = workdir / "metrics.jsonl"
        drop_after(path, first_step)
        self._lines = _Object(path) if is_remote(path) else path.open("a")
        self._events = _open_events(workdir, first_step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars to metrics.jsonl and all others; values that are not finite are left out.

        Raises:
            InputError: the disk is full, or the folder of the run is not there any more (`lock.check`).
        """
        lock.check(self._path)
        known = {name: value for name, value in values.items() if math.isfinite(value)}
        with writing(self._path):
            self._lines.write(to_json({"step": step} | known, in_one_line=True) + "\n")
            self._lines.flush()
            if self._events is not None:
                for name, value in known.items():
                    self._events.add_scalar(name, value, step)
        self._trackers.scalars(step, known)

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w c"]) -> None:
        """Writes an image to TensorBoard and the trackers."""
        if self._events is not None:
            with writing(self._path):
                self._events.add_image(name, image, step, dataformats="HWC")
        self._trackers.image(step, name, image)

    def summary(self, step: int, values: Mapping[str, Any]) -> None:
        """Tells the trackers what is known at the end of the run, after its last step."""
        self._trackers.summary(step, values)

    def sync(self) -> None:
        """Writes all scalars; to be called before a checkpoint, after which their steps are not run again."""
        if isinstance(self._lines, _Object):
            self._lines.close()

    def close(self, exit_code: int = 0) -> None:
        """Writes what is buffered, and tells the trackers with which exit code the program ends."""
        self._trackers.close(exit_code)
        with writing(self._path):
            self._lines.close()
            if self._events is not None:
                self._events.close()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> None:
        failed = error.exit_code if isinstance(error, DiffcError) else 1
        self.close(0 if error is None else failed)


class _Object:
    """A text in an object store, which cannot be appended to: written as a whole, not all the time."""

    def __init__(self, path: AnyPath):
        self._path = path
        self._text = path.read_text() if path.exists() else ""
        self._written = time.monotonic()

    def write(self, text: str) -> None:
        self._text += text

    def flush(self) -> None:
        if time.monotonic() - self._written > _SECONDS_BETWEEN_UPLOADS:
            self.close()

    def close(self) -> None:
        self._path.write_text(self._text)
        self._written = time.monotonic()


def _open_events(workdir: AnyPath, first_step: int) -> Any:
    """The writer for TensorBoard; where its package is missing None, which the log says."""
    try:
        tensorboard = require("tensorboardX")
    except InputError as error:
        logging.warning("training goes on without a log for TensorBoard: %s", error)
        return None
    return tensorboard.SummaryWriter(
        str(workdir / "tensorboard"), purge_step=first_step + 1, write_to_disk=True
    )


def drop_after(path: AnyPath, last_step: int) -> None:
    """Removes the lines of steps that will be run again, and a last line that was cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            if parse_json(line, path, _Line)["step"] <= last_step:
                kept.append(line + b"\n")
        except InputError:
            logging.warning("%s: dropped a damaged line", path)
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"".join(kept))


class _Line(TypedDict):
    step: Count
