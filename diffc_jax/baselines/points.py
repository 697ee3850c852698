"""Bytes and errors of the files of each image, and the rate point and rows made of them."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int

from diffc_jax.evaluation.measures import COLUMNS as METRIC_COLUMNS
from diffc_jax.evaluation.results import RatePoint, finite
from diffc_jax.metrics import psnr
from diffc_jax.metrics.statistics import RunningMean, standard_error

PER_IMAGE_FIELDS = (
    *("method", "model", "level", "index", "bpp", "bpp_headerless", "mse", "psnr"),
    *("dataset", "split"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class CodecPoint:
    """Numbers of a set of images that one baseline sent.

    Attributes:
        identity: columns of results that are the same for all images: `method`, `model`, `level`, `dataset`,
            `split` and the cost of training.
        indices: of the images in the selection.
        n_pixels: of each image.
        sizes: bytes of the whole file of each image, and without its header.
        errors: mean squared error of each image.
        estimates: bits that entropy models estimate for each file, if they do.
        metrics: of each image, by their names in config.eval.image_metrics.
    """

    identity: Mapping[str, Any]
    indices: range
    n_pixels: int
    sizes: Int[np.ndarray, "n 2"]
    errors: Float64[np.ndarray, " n"]
    estimates: Float[np.ndarray, " n"] | None = None
    metrics: Mapping[str, Float[np.ndarray, " n"]] = dataclasses.field(default_factory=dict)

    def columns(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """`bpp`, `bpp_headerless`, `mse` and `psnr` of every image."""
        bpp, bpp_headerless = 8.0 * self.sizes.T / self.n_pixels
        return {
            "bpp": bpp,
            "bpp_headerless": bpp_headerless,
            "mse": self.errors,
            "psnr": psnr.psnr_from_mse(self.errors),
        }

    @property
    def point(self) -> RatePoint:
        """The averages over the images; `bpp` counts whole files."""
        columns = self.columns()
        measured: dict[str, Any] = {}
        for metric, values in self.metrics.items():
            average, column = RunningMean.of(values), METRIC_COLUMNS[metric]
            measured[column] = float(average.mean)
            measured[f"{column}_stderr"] = finite(float(average.stderr))
        return RatePoint(
            **self.identity,
            rate_kind="file",
            bpp=float(columns["bpp"].mean()),
            bpp_headerless=float(columns["bpp_headerless"].mean()),
            bpp_estimate=None
            if self.estimates is None
            else float(self.estimates.mean() / self.n_pixels),
            psnr=psnr.psnr(self.errors),
            psnr_mean=psnr.psnr_mean(self.errors),
            mse=float(self.errors.mean()),
            n_images=len(self.errors),
            bpp_stderr=finite(standard_error(columns["bpp"])),
            psnr_mean_stderr=finite(standard_error(columns["psnr"])),
            **measured,
        )

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row with `PER_IMAGE_FIELDS` for every image."""
        columns = self.columns()
        for i, index in enumerate(self.indices):
            row = {**self.identity, "index": index}
            row |= {name: float(column[i]) for name, column in columns.items()}
            yield {field: row[field] for field in PER_IMAGE_FIELDS}
