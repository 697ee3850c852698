"""What measuring files gives: a rate point, its rows, and the images that the files decode to."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from diffc_jax.evaluation.metrics import psnr
from diffc_jax.results import RatePoint, standard_error

PER_IMAGE_FIELDS = (
    *("method", "model", "level", "index", "bpp", "bpp_headerless", "mse", "psnr"),
    *("dataset", "split"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class CodecPoint:
    """One codec at one quality.

    Attributes:
        name: of the codec, the same for all its qualities and for no other.
        point: the averages; bits of whole files in `bpp`.
        rows: `PER_IMAGE_FIELDS` of every image.
        decoded: what the files decode to.
    """

    name: str
    point: RatePoint
    rows: list[dict[str, Any]]
    decoded: UInt8[np.ndarray, "n h w 3"]


def codec_point(
    name: str,
    identity: dict[str, Any],
    sizes: Float64[np.ndarray, "n 2"],
    errors: Float64[np.ndarray, " n"],
    decoded: UInt8[np.ndarray, "n h w 3"],
) -> CodecPoint:
    """The point of files.

    Args:
        name: see `CodecPoint`.
        identity: `method`, `model`, `level`, `dataset` and `split`.
        sizes: bytes of the whole file of each image, and of what a header does not take of it.
        errors: mean squared error of each image.
        decoded: the images.
    """
    bpp, bpp_headerless = 8.0 * sizes.T / (decoded[0].size // 3)
    decibels = psnr.psnr_from_mse(errors)
    point = RatePoint(
        **identity,
        rate_kind="file",
        bpp=float(bpp.mean()),
        bpp_headerless=float(bpp_headerless.mean()),
        psnr=psnr.psnr(errors),
        psnr_mean=psnr.psnr_mean(errors),
        mse=float(errors.mean()),
        n_images=len(errors),
        bpp_stderr=standard_error(bpp),
        psnr_mean_stderr=standard_error(decibels),
    )
    columns = {"bpp": bpp, "bpp_headerless": bpp_headerless, "mse": errors, "psnr": decibels}
    rows = []
    for index in range(len(errors)):
        row = identity | {"index": index}
        row |= {name: float(column[index]) for name, column in columns.items()}
        rows.append({field: row[field] for field in PER_IMAGE_FIELDS})
    return CodecPoint(name, point, rows, decoded)
