"""What all rows of an evaluation share, and averages over its images that grow batch by batch."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.special
from jaxtyping import Float

from diffc_jax.evaluation import codec_samples
from diffc_jax.evaluation.progress_files import Results
from diffc_jax.evaluation.quality import COLUMNS, SetDistance
from diffc_jax.evaluation.sweep import SweepPlan
from diffc_jax.metrics import psnr as psnr_metrics
from diffc_jax.metrics.statistics import RunningMean


@dataclasses.dataclass(frozen=True)
class Context:
    """What every row of an evaluation has in common.

    Attributes:
        costs: of the model's training, as columns of results.
        plan: of the sweep.
        codec_decoders: of the codec's files, at the same levels.
        codec_memory: of its trellis.
        codec_header_bytes: that each file begins with.
    """

    model: str
    dataset: str
    split: str
    checkpoint: str
    costs: Mapping[str, int | float]
    seed: int
    plan: SweepPlan
    image_metrics: tuple[str, ...]
    n_dimensions: int
    n_pixels: int
    codec_decoders: tuple[str, ...] = ()
    codec_memory: int = 0
    codec_header_bytes: int = 0

    @property
    def series(self) -> tuple[str, ...]:
        """Names in the arrays of parts of everything that reconstructs images."""
        return *self.plan.decoders, *map(codec_samples.series, self.codec_decoders)


class Totals:
    """RunningMean over the images of all parts seen so far: of bits, errors, PSNRs and metrics."""

    def __init__(self, context: Context):
        self._context = context
        self._averages: dict[str, RunningMean] = {}

    def __getitem__(self, name: str) -> RunningMean:
        """Of "kl_bits"; of "mse", "psnr" or an image metric as "NAME/SERIES"; of `codec_samples`."""
        return self._averages[name]

    @property
    def count(self) -> int:
        """Number of images."""
        return self._averages["kl_bits"].count if self._averages else 0

    def add(self, part: Results) -> None:
        """Takes the results of a part in."""
        samples = {"kl_bits": part["kl_bits"]}
        for series in self._context.series:
            mse = part[f"mse/{series}"]
            samples[f"mse/{series}"] = mse
            samples[f"psnr/{series}"] = psnr_metrics.psnr_from_mse(mse)
            for metric in self._context.image_metrics:
                samples[f"{metric}/{series}"] = part[f"{metric}/{series}"]
        if self._context.codec_decoders:
            decoders = self._context.codec_decoders
            samples |= codec_samples.samples(part, self._context.plan, decoders)
        for name, values in samples.items():
            new = RunningMean.of(values)
            self._averages[name] = self._averages[name] + new if name in self._averages else new


def scalar_names(context: Context) -> list[str]:
    """Arrays of a part that hold numbers of images: what `Totals` and tables of images need."""
    metrics = ("mse", *context.image_metrics)
    names = [f"{metric}/{series}" for metric in metrics for series in context.series]
    of_files = codec_samples.ARRAYS if context.codec_decoders else ()
    return ["index", "kl_bits", *of_files, *names]


def quality_columns(
    context: Context,
    totals: Totals,
    distances: Mapping[tuple[str, int], SetDistance],
    series: str,
    level: int,
) -> dict[str, Any]:
    """Columns of a rate point that say how good the reconstructions are, and of which images."""
    mse, psnr = float(totals[f"mse/{series}"].mean[level]), totals[f"psnr/{series}"]
    columns: dict[str, Any] = {
        "psnr": float(psnr_metrics.psnr_from_mse(np.float64(mse))),
        "psnr_mean": float(psnr.mean[level]),
        "psnr_mean_stderr": optional(psnr.stderr[level]),
        "mse": mse,
        "n_images": totals.count,
        "dataset": context.dataset,
        "split": context.split,
        "checkpoint": context.checkpoint,
        "n_rate_steps": len(context.plan.gammas) - 1,
        **context.costs,
    }
    for metric in context.image_metrics:
        average = totals[f"{metric}/{series}"]
        columns[COLUMNS[metric]] = float(average.mean[level])
        columns[f"{COLUMNS[metric]}_stderr"] = optional(average.stderr[level])
    if (series, level) in distances:
        columns |= dataclasses.asdict(distances[series, level])
    return columns


def noise_level(gamma: float | Float[np.ndarray, ""]) -> float:
    """sigma, the standard deviation of the noise in z."""
    return float(np.sqrt(scipy.special.expit(gamma)))


def optional(value: float | Float[np.ndarray, ""]) -> float | None:
    """None for what is not a finite number."""
    return float(value) if math.isfinite(value) else None
