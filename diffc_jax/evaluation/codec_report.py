"""What result files say of the codec: rows of rd.csv, tables and pictures of images, part of summary.json."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from diffc_jax.evaluation import codec_samples
from diffc_jax.evaluation.averages import Context, Totals, noise_level, optional, quality_columns
from diffc_jax.evaluation.progress_files import Results
from diffc_jax.evaluation.quality import COLUMNS, SetDistance
from diffc_jax.evaluation.results import RatePoint, write_table
from diffc_jax.metrics.psnr import psnr_from_mse
from diffc_jax.runtime import files

METHOD = "diffc_codec"
PER_IMAGE, PICTURES = "per_image_codec.csv", "reconstructions_codec.npz"
_PER_IMAGE_COLUMNS = (
    *("index", "model", "decoder", "level", "gamma", "bits_kl", "bits_path", "bits_file"),
    *("mse", "psnr"),
)


def rate_points(
    context: Context, totals: Totals, distances: Mapping[tuple[str, int], SetDistance]
) -> list[RatePoint]:
    """One row for each level and decoder, of the mean size of the files and their mean gamma."""
    points = []
    for decoder in context.codec_decoders:
        bits, kl_bits = totals["codec/file_bits"], totals["codec/kl_bits"]
        for level, gamma in enumerate(totals[codec_samples.GAMMA].mean.tolist()):
            payload = float(bits.mean[level]) - 8 * context.codec_header_bytes
            series = codec_samples.series(decoder)
            points.append(
                RatePoint(
                    method=METHOD,
                    model=context.model,
                    decoder=decoder,
                    rate_kind="file",
                    level=noise_level(gamma),
                    gamma=gamma,
                    bpp=float(bits.mean[level]) / context.n_pixels,
                    bpp_kl=float(kl_bits.mean[level]) / context.n_pixels,
                    bpp_headerless=payload / context.n_pixels,
                    n_steps=context.plan.n_steps(decoder, level),
                    bpp_stderr=optional(bits.stderr[level] / context.n_pixels),
                    **quality_columns(context, totals, distances, series, level),
                )
            )
    return points


def summary(context: Context, totals: Totals) -> dict[str, Any]:
    """How the files compare with the sweep at the same noise: one number for each level."""
    kl_bits = totals["codec/kl_bits"].mean
    gains = {
        decoder: totals[f"codec/psnr_gain/{decoder}"]
        for decoder in context.codec_decoders
        if decoder in context.plan.decoders
    }
    return {
        "memory": context.codec_memory,
        "images_drifted": round(float(totals["codec/drifted"].total)),
        "gamma": totals[codec_samples.GAMMA].mean.tolist(),
        "file_bits_over_kl": (totals["codec/file_bits"].mean / kl_bits).tolist(),
        "path_bits_over_kl": (totals[codec_samples.PATH_BITS].mean / kl_bits).tolist(),
        "psnr_over_sweep": {
            decoder: list(map(optional, gain.mean)) for decoder, gain in gains.items()
        },
        "psnr_over_sweep_stderr": {
            decoder: list(map(optional, gain.stderr)) for decoder, gain in gains.items()
        },
    }


def write_per_image(folder: files.AnyPath, context: Context, parts: Iterable[Results]) -> None:
    """Writes per_image_codec.csv, part by part."""
    metrics = [COLUMNS[metric] for metric in context.image_metrics]
    rows = (row for part in parts for row in _per_image_rows(context, part))
    write_table(folder / PER_IMAGE, (*_PER_IMAGE_COLUMNS, *metrics), rows)


def write_pictures(folder: files.AnyPath, context: Context, first: Results) -> None:
    """Writes reconstructions_codec.npz, in the layout of those of the baselines.

    Args:
        folder: W/eval.
        context: of the evaluation.
        first: arrays of the first images of the data set, with pictures.
    """
    n = len(first["pixels"])
    arrays: Results = {"index": first["index"][:n], "original": first["pixels"]}
    for decoder in context.codec_decoders:
        series = codec_samples.series(decoder)
        arrays |= {
            f"{series}/images": first[f"pixels/{series}"],
            f"{series}/level": context.plan.level_gammas,
            f"{series}/bpp": 8 * first[codec_samples.BYTES][:n] / context.n_pixels,
            f"{series}/psnr": psnr_from_mse(first[f"mse/{series}"][:n]),
            f"{series}/method": np.array(METHOD),
            f"{series}/model": np.array(context.model),
            f"{series}/decoder": np.array(decoder),
        }
    with files.atomic_write(folder / PICTURES) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def remove(folder: files.AnyPath) -> None:
    """Deletes the files of an earlier evaluation that had the codec, where this one does not."""
    for name in (PER_IMAGE, PICTURES):
        (folder / name).unlink(missing_ok=True)


def _per_image_rows(context: Context, part: Results) -> Iterator[dict[str, Any]]:
    ideal = codec_samples.ideal_bits(part, context.plan)
    for i, index in enumerate(part["index"].tolist()):
        for decoder in context.codec_decoders:
            series = codec_samples.series(decoder)
            psnrs = psnr_from_mse(part[f"mse/{series}"][i])
            for level, gamma in enumerate(part[codec_samples.GAMMA][i].tolist()):
                yield {
                    "index": index,
                    "model": context.model,
                    "decoder": decoder,
                    "level": noise_level(gamma),
                    "gamma": gamma,
                    "bits_kl": float(ideal[i, level]),
                    "bits_path": int(part[codec_samples.PATH_BITS][i, level]),
                    "bits_file": 8 * int(part[codec_samples.BYTES][i, level]),
                    "mse": float(part[f"mse/{series}"][i, level]),
                    "psnr": float(psnrs[level]),
                } | {
                    COLUMNS[metric]: float(part[f"{metric}/{series}"][i, level])
                    for metric in context.image_metrics
                }
