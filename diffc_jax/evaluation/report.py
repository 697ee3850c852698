"""Result files of a sweep: rd.csv, per_image.csv, rate_curve.csv, summary.json and reconstructions.npz."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from diffc_jax.channel_simulation.rate_bound import rate_bound
from diffc_jax.evaluation import codec_report
from diffc_jax.evaluation.averages import Context, Totals, noise_level, optional, quality_columns
from diffc_jax.evaluation.progress_files import Results
from diffc_jax.evaluation.quality import COLUMNS, SetDistance
from diffc_jax.evaluation.results import RatePoint, replace_rate_points, write_table
from diffc_jax.metrics import psnr as psnr_metrics
from diffc_jax.runtime import files

_PER_IMAGE = (
    *("index", "model", "decoder", "level", "gamma", "bits_kl", "bits_bound", "mse", "psnr"),
)
_METHODS = ("diffc", codec_report.METHOD)
_RATE_CURVE = ("step", "gamma", "bpp_kl", "bpp_kl_stderr", "bpp", "step_bits")


def write_tables(
    folder: files.AnyPath,
    context: Context,
    totals: Totals,
    distances: Mapping[tuple[str, int], SetDistance] | None = None,
) -> None:
    """Writes rd.csv (rows of other methods are kept) and rate_curve.csv.

    Args:
        folder: W/eval.
        context: of the sweep.
        totals: over its images.
        distances: of each (series, level), if they were computed.
    """
    points = [
        *rate_points(context, totals, distances or {}),
        *codec_report.rate_points(context, totals, distances or {}),
    ]
    replace_rate_points(folder / "rd.csv", points, lambda point: point.method in _METHODS)
    write_table(folder / "rate_curve.csv", _RATE_CURVE, _rate_curve_rows(context, totals))


def write_per_image(folder: files.AnyPath, context: Context, parts: Iterable[Results]) -> None:
    """Writes per_image.csv of the sweep, part by part."""
    metrics = [COLUMNS[metric] for metric in context.image_metrics]
    rows = (row for part in parts for row in _per_image_rows(context, part))
    write_table(folder / "per_image.csv", (*_PER_IMAGE, *metrics), rows)


def rate_points(
    context: Context, totals: Totals, distances: Mapping[tuple[str, int], SetDistance]
) -> list[RatePoint]:
    """One row for each level and decoder; the bound is that of the mean information."""
    bits = totals["kl_bits"]
    points = []
    for decoder in context.plan.decoders:
        for level, (position, gamma) in enumerate(
            zip(context.plan.levels, context.plan.level_gammas, strict=True)
        ):
            mean_bits = float(bits.mean[position])
            points.append(
                RatePoint(
                    method="diffc",
                    model=context.model,
                    decoder=decoder,
                    rate_kind="bound",
                    level=noise_level(gamma),
                    gamma=float(gamma),
                    bpp=float(rate_bound(mean_bits)) / context.n_pixels,
                    bpp_kl=mean_bits / context.n_pixels,
                    n_steps=context.plan.n_steps(decoder, level),
                    seed=context.seed,
                    bpp_stderr=optional(bits.stderr[position] / context.n_pixels),
                    **quality_columns(context, totals, distances, decoder, level),
                )
            )
    return points


def write_summary(
    folder: files.AnyPath,
    context: Context,
    totals: Totals,
    bound: dict[str, float],
    seconds: Mapping[str, float | None],
) -> None:
    """Writes summary.json.

    Args:
        folder: W/eval.
        context: of the sweep.
        totals: over its images.
        bound: of `training.validation`: bits/dim in continuous time and its parts.
        seconds: for each image, of the parts of the evaluation; None where nothing was computed.
    """
    bits, plan = totals["kl_bits"], context.plan
    evaluations = {
        decoder: [plan.n_steps(decoder, level) for level in range(len(plan.levels))]
        for decoder in plan.decoders
    }
    summary: dict[str, Any] = {
        "model": context.model,
        "dataset": context.dataset,
        "split": context.split,
        "checkpoint": context.checkpoint,
        "seed": context.seed,
        "n_images": totals.count,
        "bits_per_dim": bound["bits_per_dim"],
        "bits_per_dim_stderr": bound["bits_per_dim_stderr"],
        "bits_per_dim_parts": {
            name: bound[name] for name in ("diffusion", "prior", "reconstruction")
        },
        "chain_steps": len(plan.gammas) - 1,
        "chain_bits_per_dim": float(bits.mean[-1]) / context.n_dimensions + bound["reconstruction"],
        "chain_bits_per_dim_stderr": optional(bits.stderr[-1] / context.n_dimensions),
        "rate_evaluations_per_image": len(plan.strata) - 1,
        "denoiser_evaluations_per_image": evaluations,
        "seconds_per_image": dict(seconds),
    }
    if context.codec_decoders:
        summary["codec"] = codec_report.summary(context, totals)
    files.write_json(folder / "summary.json", summary)


def write_pictures(folder: files.AnyPath, context: Context, parts: Iterable[Results]) -> None:
    """Writes the first images of the data set at all levels: reconstructions.npz, and that of the codec."""
    shown = [part for part in parts if "pixels" in part]
    if not shown:
        return
    plan = context.plan
    first = {name: np.concatenate([part[name] for part in shown]) for name in shown[0]}
    originals = first["pixels"]
    arrays = {decoder: first[f"pixels/{decoder}"] for decoder in plan.decoders}
    with (
        files.atomic_write(folder / "reconstructions.npz") as temporary,
        temporary.open("wb") as stream,
    ):
        np.savez_compressed(
            stream,
            allow_pickle=False,
            index=first["index"][: len(originals)],
            original=originals,
            gammas=plan.level_gammas,
            **arrays,
        )
    if context.codec_decoders:
        codec_report.write_pictures(folder, context, first)


def _per_image_rows(context: Context, part: Results) -> Iterator[dict[str, Any]]:
    """Image by image, so that the order of rows does not depend on batches."""
    plan = context.plan
    gammas = [(float(gamma), noise_level(gamma)) for gamma in plan.level_gammas]
    bits = part["kl_bits"][:, plan.levels]
    bounds = rate_bound(bits)
    psnrs = {name: psnr_metrics.psnr_from_mse(part[f"mse/{name}"]) for name in plan.decoders}
    for i, index in enumerate(part["index"].tolist()):
        for decoder in plan.decoders:
            for level, (gamma, noise) in enumerate(gammas):
                yield {
                    "index": index,
                    "model": context.model,
                    "decoder": decoder,
                    "level": noise,
                    "gamma": gamma,
                    "bits_kl": float(bits[i, level]),
                    "bits_bound": float(bounds[i, level]),
                    "mse": float(part[f"mse/{decoder}"][i, level]),
                    "psnr": float(psnrs[decoder][i, level]),
                } | {
                    COLUMNS[metric]: float(part[f"{metric}/{decoder}"][i, level])
                    for metric in context.image_metrics
                }


def _rate_curve_rows(context: Context, totals: Totals) -> Iterator[dict[str, Any]]:
    bits = totals["kl_bits"]
    spent = np.diff(bits.mean, prepend=0.0)
    for i, step in enumerate(context.plan.strata):
        values = (
            int(step),
            float(context.plan.gammas[step]),
            float(bits.mean[i]) / context.n_pixels,
            optional(bits.stderr[i] / context.n_pixels),
            float(rate_bound(float(bits.mean[i]))) / context.n_pixels,
            float(spent[i]),
        )
        yield dict(zip(_RATE_CURVE, values, strict=True))
