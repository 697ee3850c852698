"""Bytes and errors of the files of each image, and the rate points and rows made of them."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, UInt8

from diffc_jax.evaluation.results import RatePoint, finite
from diffc_jax.evaluation.subsets import ResultSet
from diffc_jax.metrics import psnr
from diffc_jax.metrics.statistics import standard_error

PER_IMAGE_FIELDS = (
    *("method", "model", "level", "index", "bpp", "bpp_headerless", "mse", "psnr"),
    *("dataset", "split"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class CodecPoint:
    """One codec at one quality.

    Attributes:
        name: of the codec, the same for all its qualities and for no other.
        identity: columns of results that are the same for all images: `method`, `model`, `level`, `dataset`,
            `split` and the cost of training.
        indices: of the images in the selection.
        sizes: bytes of the whole file of each image, and without its header.
        errors: mean squared error of each image.
        decoded: what the files decode to; may be of the first images only.
        estimates: bits that entropy models estimate for each file, if they do.
    """

    name: str
    identity: Mapping[str, Any]
    indices: range
    sizes: Float64[np.ndarray, "n 2"]
    errors: Float64[np.ndarray, " n"]
    decoded: UInt8[np.ndarray, "m h w 3"]
    estimates: Float[np.ndarray, " n"] | None = None

    def subset(self, result: ResultSet, n_decoded: int) -> "CodecPoint":
        """The point of some of the images, with a copy of the first `n_decoded` decoded ones."""
        return dataclasses.replace(
            self,
            identity={**self.identity, "split": result.split},
            indices=result.images,
            sizes=result.of(self.sizes),
            errors=result.of(self.errors),
            decoded=result.of(self.decoded)[:n_decoded].copy(),
            estimates=None if self.estimates is None else result.of(self.estimates),
        )

    def columns(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """`bpp`, `bpp_headerless`, `mse` and `psnr` of every image."""
        bpp, bpp_headerless = 8.0 * self.sizes.T / self._n_pixels
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
        return RatePoint(
            **self.identity,
            rate_kind="file",
            bpp=float(columns["bpp"].mean()),
            bpp_headerless=float(columns["bpp_headerless"].mean()),
            bpp_estimate=None
            if self.estimates is None
            else float(self.estimates.mean() / self._n_pixels),
            psnr=psnr.psnr(self.errors),
            psnr_mean=psnr.psnr_mean(self.errors),
            mse=float(self.errors.mean()),
            n_images=len(self.errors),
            bpp_stderr=finite(standard_error(columns["bpp"])),
            psnr_mean_stderr=finite(standard_error(columns["psnr"])),
        )

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row with `PER_IMAGE_FIELDS` for every image."""
        columns, rows = self.columns(), []
        for i, index in enumerate(self.indices):
            row = {**self.identity, "index": index}
            row |= {name: float(column[i]) for name, column in columns.items()}
            rows.append({field: row[field] for field in PER_IMAGE_FIELDS})
        return rows

    @property
    def _n_pixels(self) -> int:
        _, height, width, _ = self.decoded.shape
        return height * width
