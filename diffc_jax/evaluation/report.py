"""Result files of a sweep: rd.csv, per_image.csv, rate_curve.csv, summary.json and the pictures."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.special
from jaxtyping import Float

from diffc_jax import files
from diffc_jax.coding.bounds import poisson_functional_bound
from diffc_jax.evaluation.metrics import psnr as psnr_metrics
from diffc_jax.evaluation.sweep import SweepPlan
from diffc_jax.plotting import grids, style
from diffc_jax.results import RatePoint, replace_rate_points, standard_error, write_table

_PER_IMAGE = (
    *("index", "model", "decoder", "level", "gamma", "bits_kl", "bits_bound", "mse", "psnr"),
)
_SHOWN_LEVELS = 4
_RATE_CURVE = ("step", "gamma", "bpp_kl", "bpp_kl_stderr", "bpp", "step_bits")


@dataclasses.dataclass(frozen=True)
class Context:
    """What every row of a sweep has in common."""

    model: str
    dataset: str
    split: str
    checkpoint: str
    seed: int
    plan: SweepPlan
    n_dimensions: int
    n_pixels: int


Results = dict[str, np.ndarray]


def write_tables(folder: pathlib.Path, context: Context, results: Results) -> None:
    """Writes rd.csv (rows of other methods are kept), per_image.csv and rate_curve.csv."""
    replace_rate_points(
        folder / "rd.csv", rate_points(context, results), lambda point: point.method == "diffc"
    )
    write_table(folder / "per_image.csv", _PER_IMAGE, _per_image_rows(context, results))
    write_table(folder / "rate_curve.csv", _RATE_CURVE, _rate_curve_rows(context, results))


def rate_points(context: Context, results: Results) -> list[RatePoint]:
    """One row for each level and decoder; the bound is that of the mean information."""
    points = []
    for decoder, level, gamma, bits, mse in _levels(context, results):
        bound = poisson_functional_bound(bits.mean())
        points.append(
            RatePoint(
                method="diffc",
                model=context.model,
                decoder=decoder,
                rate_kind="bound",
                level=_noise_level(gamma),
                gamma=gamma,
                bpp=float(bound) / context.n_pixels,
                bpp_kl=float(bits.mean()) / context.n_pixels,
                psnr=psnr_metrics.psnr(mse),
                psnr_mean=psnr_metrics.psnr_mean(mse),
                mse=float(mse.mean()),
                n_images=len(mse),
                n_steps=context.plan.n_steps(decoder, level),
                seed=context.seed,
                dataset=context.dataset,
                split=context.split,
                checkpoint=context.checkpoint,
                n_rate_steps=len(context.plan.gammas) - 1,
                bpp_stderr=standard_error(bits / context.n_pixels),
                psnr_mean_stderr=standard_error(psnr_metrics.psnr_from_mse(mse)),
            )
        )
    return points


def write_summary(
    folder: pathlib.Path,
    context: Context,
    results: Results,
    bound: dict[str, float],
    seconds_per_image: float | None,
) -> None:
    """Writes summary.json: bits/dim and its parts, in continuous time and for the chain of the sweep."""
    chain = results["kl_bits"][:, -1] / context.n_dimensions
    plan = context.plan
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
        "n_images": len(chain),
        "bits_per_dim": bound["bits_per_dim"],
        "bits_per_dim_stderr": bound["bits_per_dim_stderr"],
        "bits_per_dim_parts": {
            name: bound[name] for name in ("diffusion", "prior", "reconstruction")
        },
        "chain_steps": len(plan.gammas) - 1,
        "chain_bits_per_dim": float(chain.mean()) + bound["reconstruction"],
        "chain_bits_per_dim_stderr": standard_error(chain),
        "denoiser_evaluations_per_image": evaluations,
        "seconds_per_image": seconds_per_image,
    }
    files.write_json(folder / "summary.json", summary)


def write_pictures(folder: pathlib.Path, context: Context, results: Results) -> None:
    """Writes reconstructions.png: the first images of the data set at some of the levels."""
    if "pixels" not in results:
        return
    plan, originals = context.plan, results["pixels"]
    shown = np.unique(np.linspace(0, len(plan.levels) - 1, _SHOWN_LEVELS).round().astype(int))
    columns = []
    for decoder in plan.decoders:
        for level in shown:
            bits = results["kl_bits"][: len(originals), plan.levels[level]]
            errors = results[f"mse/{decoder}"][: len(originals), level]
            columns.append(
                grids.GridColumn(
                    group=style.decoder_label(decoder),
                    images=results[f"pixels/{decoder}"][:, level],
                    bpp=poisson_functional_bound(bits) / context.n_pixels,
                    psnr=psnr_metrics.psnr_from_mse(errors),
                )
            )
    figure = grids.reconstruction_grid(originals, columns)
    with files.replacing(folder / "reconstructions.png") as temporary:
        figure.savefig(temporary)


def _levels(
    context: Context, results: Results
) -> Iterator[tuple[str, int, float, Float[np.ndarray, " b"], Float[np.ndarray, " b"]]]:
    """(decoder, level, gamma, information in bits and squared error of each image)."""
    for decoder in context.plan.decoders:
        for level, index in enumerate(context.plan.levels):
            yield (
                decoder,
                level,
                float(context.plan.rate_gammas[index]),
                results["kl_bits"][:, index],
                results[f"mse/{decoder}"][:, level],
            )


def _per_image_rows(context: Context, results: Results) -> Iterator[dict[str, Any]]:
    for decoder, _, gamma, bits, mse in _levels(context, results):
        bounds, psnrs = poisson_functional_bound(bits), psnr_metrics.psnr_from_mse(mse)
        for row in zip(results["index"], bits, bounds, mse, psnrs, strict=True):
            index, *values = (item.item() for item in row)
            head = (index, context.model, decoder, _noise_level(gamma), gamma)
            yield dict(zip(_PER_IMAGE, (*head, *values), strict=True))


def _rate_curve_rows(context: Context, results: Results) -> Iterator[dict[str, Any]]:
    bits = results["kl_bits"]
    steps = np.diff(bits.mean(0), prepend=0.0)
    for i, step in enumerate(context.plan.strata):
        mean = float(bits[:, i].mean())
        values = (
            int(step),
            float(context.plan.gammas[step]),
            mean / context.n_pixels,
            standard_error(bits[:, i] / context.n_pixels),
            float(poisson_functional_bound(mean)) / context.n_pixels,
            float(steps[i]),
        )
        yield dict(zip(_RATE_CURVE, values, strict=True))


def _noise_level(gamma: float) -> float:
    """sigma, the standard deviation of the noise in z."""
    return float(np.sqrt(scipy.special.expit(gamma)))
