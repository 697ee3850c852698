"""`spectra.csv`: power of reconstructions, of their originals and of the error at each spatial frequency."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from diffc_jax.evaluation.method import Table
from diffc_jax.evaluation.results import RatePoint
from diffc_jax.evaluation.store import Arrays, Store
from diffc_jax.metrics.spectrum import Coefficients, coefficients, frequencies, radial_power
from diffc_jax.metrics.statistics import RunningMean

# Names of arrays of a store: of originals, and "NAME/SERIES" of reconstructions and of their errors.
POWER, ERROR_POWER = "power", "error_power"
FIELDS = (
    *("method", "model", "decoder", "level", "bpp", "frequency"),
    *("power", "original_power", "error_power", "n_images"),
)
# Power of reconstructions, of originals, and of the error; means over the images, by frequency.
Spectra = tuple[RunningMean, RunningMean, RunningMean]


def spectra_of_originals(images: UInt8[np.ndarray, "b h w 3"]) -> Arrays:
    """What a store keeps of originals."""
    return {POWER: radial_power(coefficients(images), images.shape[2])}


def spectra_of_levels(
    series: str,
    images: UInt8[np.ndarray, "b h w 3"],
    levels: Sequence[UInt8[np.ndarray, "b h w 3"]],
) -> Arrays:
    """What a store keeps of the reconstructions of a series, (b, levels, frequencies)."""
    originals = coefficients(images)
    found = [_power_and_error(originals, level) for level in levels]
    return {
        f"{name}/{series}": np.stack(values, axis=1)
        for name, values in zip((POWER, ERROR_POWER), zip(*found, strict=True), strict=True)
    }


def _power_and_error(
    originals: Coefficients, reconstructions: UInt8[np.ndarray, "b h w 3"]
) -> tuple[Float32[np.ndarray, "b f"], Float32[np.ndarray, "b f"]]:
    found, width = coefficients(reconstructions), reconstructions.shape[2]
    return radial_power(found, width), radial_power(found - originals, width)


def stored_spectra(store: Store, images: range, series: Sequence[str]) -> dict[str, list[Spectra]]:
    """Spectra of each series and level, of the images that have them: batches of older versions do not."""
    names = [POWER, *(f"{name}/{one}" for name in (POWER, ERROR_POWER) for one in series)]
    means: dict[str, RunningMean] = {}
    for numbers in store.read(images, names):
        if all(name in numbers for name in names):
            for name in names:
                new = RunningMean.of(numbers[name])
                means[name] = means[name] + new if name in means else new
    if not means:
        return {}
    return {
        one: [
            (
                _at(means[f"{POWER}/{one}"], level),
                means[POWER],
                _at(means[f"{ERROR_POWER}/{one}"], level),
            )
            for level in range(len(means[f"{POWER}/{one}"].total))
        ]
        for one in series
    }


def spectra_table(side: int, points: Iterable[tuple[RatePoint, Spectra]]) -> Table:
    """Rows of rate points, of images of side x side pixels."""
    return Table(FIELDS, _rows(side, points))


def _rows(side: int, points: Iterable[tuple[RatePoint, Spectra]]) -> Iterator[Mapping[str, Any]]:
    for point, (power, originals, error) in points:
        identity = {name: getattr(point, name) for name in FIELDS[:5]}
        columns = (one.mean.tolist() for one in (power, originals, error))
        for frequency, *values in zip(frequencies(side, side).tolist(), *columns, strict=True):
            yield {
                **identity,
                "frequency": frequency,
                **dict(zip(FIELDS[6:9], values, strict=True)),
                "n_images": power.count,
            }


def _at(mean: RunningMean, level: int) -> RunningMean:
    return RunningMean(mean.count, mean.total[level], mean.scatter[level])
