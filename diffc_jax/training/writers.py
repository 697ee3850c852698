"""Where metrics go: the console, metrics.jsonl and TensorBoard."""

import json
import pathlib
from collections.abc import Mapping

import numpy as np
from absl import logging
from jaxtyping import UInt8
from tensorboardX import SummaryWriter

from diffc_jax.files import replacing


class MetricWriter:
    """Writes scalars and pictures of a run; a resumed run continues its files without repeated steps."""

    def __init__(self, workdir: pathlib.Path, first_step: int):
        self._path = workdir / "metrics.jsonl"
        _drop_after(self._path, first_step)
        self._stream = self._path.open("a")
        self._events = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=first_step + 1, write_to_disk=True
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars to metrics.jsonl and TensorBoard."""
        self._stream.write(json.dumps({"step": step} | dict(values)) + "\n")
        self._stream.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w c"]) -> None:
        """Writes a picture to TensorBoard."""
        self._events.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is buffered."""
        self._stream.close()
        self._events.close()


class SilentWriter:
    """Stands in for a `MetricWriter` in the processes that do not write."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes nothing."""

    def image(self, step: int, name: str, image: UInt8[np.ndarray, "h w c"]) -> None:
        """Writes nothing."""

    def close(self) -> None:
        """Has nothing to write."""


def _drop_after(path: pathlib.Path, last_step: int) -> None:
    """Removes the lines of steps that will be run again, and a last line that was cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if line.endswith("\n") and json.loads(line)["step"] <= last_step:
                kept.append(line)
        except (ValueError, KeyError):
            logging.warning("%s: dropped a damaged line", path)
    with replacing(path) as temporary:
        temporary.write_text("".join(kept))
