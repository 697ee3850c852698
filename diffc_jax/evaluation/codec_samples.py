"""What parts keep of the codec's files, and the numbers of each image that follow from it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator

from diffc_jax.codec.chain import CHECK_TOLERANCE
from diffc_jax.evaluation.file_sweep import FileSweepResult
from diffc_jax.evaluation.progress_files import Results
from diffc_jax.evaluation.sweep import SweepPlan
from diffc_jax.metrics.psnr import psnr_from_mse

BYTES, PATH_BITS = "codec/bytes", "codec/path_bits"
GAMMA, DRIFT = "codec/gamma", "codec/drift"
ARRAYS = (BYTES, PATH_BITS, GAMMA, DRIFT)


def series(decoder: str) -> str:
    """Name in the arrays of parts of files decoded by `decoder`; the sweep's are their decoder."""
    return f"codec/{decoder}"


def arrays(result: FileSweepResult) -> Results:
    """What a part keeps of the files, beside measures of the reconstructions."""
    kept = (result.n_bytes, result.path_bits, result.gammas, result.drift)
    return dict(zip(ARRAYS, kept, strict=True))


def samples(part: Results, plan: SweepPlan, decoders: Sequence[str]) -> Results:
    """Numbers of each image to be averaged.

    Returns:
        "codec/file_bits", "codec/path_bits", "codec/gamma" and "codec/kl_bits" (the ideal information at
        that gamma) at each level; "codec/drifted", 1 where encoder and decoder went different ways; and
        for decoders that the sweep has too "codec/psnr_gain/DECODER", the PSNR over that of the sweep.
    """
    numbers = {
        "codec/file_bits": 8 * part[BYTES],
        PATH_BITS: part[PATH_BITS],
        GAMMA: part[GAMMA],
        "codec/kl_bits": ideal_bits(part, plan),
        "codec/drifted": (part[DRIFT] > CHECK_TOLERANCE).astype(float),
    }
    for decoder in decoders:
        if decoder in plan.decoders:
            swept = psnr_from_mse(part[f"mse/{decoder}"])
            expected = _along_lines(part[GAMMA], plan.level_gammas, swept)
            with np.errstate(invalid="ignore"):
                gain = psnr_from_mse(part[f"mse/{series(decoder)}"]) - expected
            numbers[f"codec/psnr_gain/{decoder}"] = gain
    return numbers


def ideal_bits(part: Results, plan: SweepPlan) -> Float[np.ndarray, "b l"]:
    """Information of the chain of T steps at the gammas of the files, of each image.

    The sweep knows it at the ends of strata; between them a monotone cubic is drawn (Fritsch, Butland 1984).
    """
    gammas = np.clip(part[GAMMA], plan.rate_gammas[-1], plan.rate_gammas[0])
    return np.stack(
        [
            PchipInterpolator(-plan.rate_gammas, bits)(-own)
            for bits, own in zip(part["kl_bits"], gammas, strict=True)
        ]
    )


def _along_lines(
    gammas: Float[np.ndarray, "b l"],
    level_gammas: Float[np.ndarray, " k"],
    values: Float[np.ndarray, "b k"],
) -> Float[np.ndarray, "b l"]:
    """Values at `gammas`, on the lines between neighbouring levels and beyond the outermost two."""
    if len(level_gammas) == 1:
        return np.broadcast_to(values, gammas.shape)
    right = np.clip(np.searchsorted(-level_gammas, -gammas), 1, len(level_gammas) - 1)
    first, second = level_gammas[right - 1], level_gammas[right]
    share = (first - gammas) / (first - second)
    before = np.take_along_axis(values, right - 1, axis=1)
    with np.errstate(invalid="ignore"):
        return before + share * (np.take_along_axis(values, right, axis=1) - before)
