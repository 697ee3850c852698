"""The results schema: one tidy row per rate point, the same for every method.

This module is the only thing that evaluators, baselines and plots share: whoever writes `RatePoint`s
appears in every figure. All rates are in bits per pixel, PSNR in dB with peak 255 on 8-bit values.
"""

import csv
import dataclasses
import io
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from diffc_jax.errors import InputError
from diffc_jax.runtime.files import AnyPath, as_path, atomic_write

RATE_KINDS = ("bound", "file")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatePoint:
    """One row of `rd.csv`; None is an empty cell, for what does not apply.

    Attributes:
        method: diffc, jpeg, webp, ... (see docs/formats.md).
        model: which denoiser: unet, vdm, gaussian, ...
        decoder: ancestral, flow, mean, kappa=1.5, ...
        rate_kind: bound (upper bound on an achievable rate) or file (bytes counted).
        level: noise level of the sweep, or quality setting of a codec.
        gamma: negative log signal-to-noise ratio of the transmitted z.
        bpp: achievable rate, bits per pixel, mean over the images.
        bpp_kl: ideal rate (sum of KL divergences), bits per pixel.
        bpp_headerless: file bits without the container's constant bytes, per pixel.
        psnr: PSNR of the mean squared error over all images, dB.
        psnr_mean: mean of the per-image PSNRs, dB.
        mse: mean squared error of 8-bit values.
        fid: Frechet distance in the features named by fid_features.
        fid_features: feature network behind `fid`.
        lpips: mean LPIPS with AlexNet.
        n_images: number of images behind the row.
        n_steps: denoiser evaluations per image of the decoder.
        seed: seed of the evaluation noise.
        dataset: data set and variant, as the source names itself.
        split: split of the data set.
        checkpoint: which parameters.
        n_rate_steps: T, the steps of the chain whose KLs make bpp_kl.
        bpp_stderr: standard error of bpp over the images.
        psnr_mean_stderr: standard error of psnr_mean over the images.
        lpips_stderr: standard error of lpips.
        lpips_vgg: mean LPIPS with VGG16.
        lpips_vgg_stderr: its standard error.
        ms_ssim: mean MS-SSIM with the scales that fit (three at 64x64).
        ms_ssim_stderr: its standard error.
        kid: kernel distance in the features named by fid_features.
        kid_stderr: its standard error.
        fid_reference: what fid and kid compare with: "originals", or the name and number of other images.
        bpp_estimate: what the entropy models of a trained codec estimate for its files, bits per pixel.
        trained_parameters: of a trained model, as many as its decoder needs.
        images_seen: in its training, repetitions counted.
        train_cpu_hours: of all cores together.
    """

    method: str
    model: str | None = None
    decoder: str | None = None
    rate_kind: str
    level: float | None = None
    gamma: float | None = None
    bpp: float
    bpp_kl: float | None = None
    bpp_headerless: float | None = None
    psnr: float | None = None
    psnr_mean: float | None = None
    mse: float | None = None
    fid: float | None = None
    fid_features: str | None = None
    lpips: float | None = None
    n_images: int
    n_steps: int | None = None
    seed: int | None = None
    dataset: str
    split: str | None = None
    checkpoint: str | None = None
    n_rate_steps: int | None = None
    bpp_stderr: float | None = None
    psnr_mean_stderr: float | None = None
    lpips_stderr: float | None = None
    lpips_vgg: float | None = None
    lpips_vgg_stderr: float | None = None
    ms_ssim: float | None = None
    ms_ssim_stderr: float | None = None
    kid: float | None = None
    kid_stderr: float | None = None
    fid_reference: str | None = None
    bpp_estimate: float | None = None
    trained_parameters: int | None = None
    images_seen: int | None = None
    train_cpu_hours: float | None = None


FIELDS = tuple(field.name for field in dataclasses.fields(RatePoint))
_INTEGERS = {"n_images", "n_steps", "seed", "n_rate_steps", "trained_parameters", "images_seen"}
_STRINGS = {
    *("method", "model", "decoder", "rate_kind", "fid_features", "fid_reference"),
    *("dataset", "split", "checkpoint"),
}
_REQUIRED = {"method", "rate_kind", "bpp", "n_images", "dataset"}


def write_table(
    path: str | os.PathLike[str], fields: Iterable[str], rows: Iterable[Mapping[str, Any]]
) -> None:
    """Writes a CSV file, whole or not at all; floats keep their full precision, None is empty."""
    with atomic_write(path) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, tuple(fields), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_rate_points(path: str | os.PathLike[str], points: Iterable[RatePoint]) -> None:
    """Writes `rd.csv`."""
    write_table(path, FIELDS, (dataclasses.asdict(point) for point in points))


def read_rate_points(path: str | os.PathLike[str]) -> list[RatePoint]:
    """Reads `rd.csv`; columns that a newer version added at the end are ignored.

    Raises:
        InputError: missing file, missing column, or a cell of the wrong type (row and column named).
    """
    path = as_path(path)
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: is not a CSV file ({error})") from error
    return [_parse_row(path, number, row) for number, row in enumerate(rows, start=2)]


def replace_rate_points(
    path: str | os.PathLike[str], points: Iterable[RatePoint], replaced: Callable[[RatePoint], bool]
) -> None:
    """Rewrites `rd.csv` with `points` in place of the rows for which `replaced` is true."""
    old = read_rate_points(path) if as_path(path).exists() else []
    write_rate_points(path, [*(point for point in old if not replaced(point)), *points])


def _parse_row(path: AnyPath, number: int, row: dict[str, str | None]) -> RatePoint:
    values: dict[str, Any] = {}
    for field in FIELDS:
        text = row.get(field) or ""
        if not text:
            if field in _REQUIRED:
                raise InputError(f"{path}, line {number}: column {field!r} is missing or empty")
            continue
        try:
            values[field] = (
                text if field in _STRINGS else int(text) if field in _INTEGERS else float(text)
            )
        except ValueError:
            raise InputError(
                f"{path}, line {number}: column {field!r} is not a number: {text!r}"
            ) from None
    if values["rate_kind"] not in RATE_KINDS:
        raise InputError(
            f"{path}, line {number}: rate_kind is {values['rate_kind']!r}, not one of {RATE_KINDS}"
        )
    if not math.isfinite(values["bpp"]) or values["bpp"] < 0:
        raise InputError(f"{path}, line {number}: bpp is {values['bpp']}, not a finite rate")
    return RatePoint(**values)
