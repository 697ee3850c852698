"""The result files of an evaluation, which docs/output_files.md describes; all of them are written here."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.special
from absl import logging
from ml_collections import ConfigDict

from diffc_jax.config.sources import plain
from diffc_jax.data.identity import Digests
from diffc_jax.evaluation.image_sets import claim_images
from diffc_jax.evaluation.measures import COLUMNS, Distances
from diffc_jax.evaluation.method import Method, Table
from diffc_jax.evaluation.result_files import (
    CONFIG,
    GRID,
    RATES,
    SAMPLES,
    SAMPLES_OF,
    SPECTRA,
    SUMMARY,
)
from diffc_jax.evaluation.results import RatePoint, finite, write_rate_points, write_table
from diffc_jax.evaluation.samples import DECODERS as SAMPLE_DECODERS
from diffc_jax.evaluation.spectra import spectra_table, stored_spectra
from diffc_jax.evaluation.store import Arrays, Store
from diffc_jax.evaluation.subsets import ResultSet
from diffc_jax.metrics.psnr import psnr_from_mse
from diffc_jax.metrics.statistics import RunningMean
from diffc_jax.runtime import files
from diffc_jax.runtime.environment import read_environment, write_environment
from diffc_jax.training.validation import describe_elbo

_OF_SAMPLES = (SAMPLES, *map(SAMPLES_OF.format, SAMPLE_DECODERS))
# By the names of files.
Contents = dict[str, Any]


class Averages:
    """Means over a set of images, which go on where they were when a store has more of them.

    Attributes:
        count: number of images.
        means: by the names of what is averaged.
    """

    def __init__(
        self,
        store: Store,
        images: range,
        names: Sequence[str],
        measures: Sequence[str],
        methods: Sequence[Method],
    ):
        """Averages nothing yet; then `measures`, as "psnr/flow", and what `methods` make of `names`."""
        self.count = 0
        self._store, self._images, self._names = store, images, names
        self._measures, self._methods = measures, methods
        self.means: dict[str, RunningMean] = {}

    def update(self) -> None:
        """Takes in the images that come next in the set, up to the first that is not in the store."""
        rest = self._images[self.count :]
        for numbers in read_numbers(self._store, rest, self._names):
            self.count += len(numbers["index"])
            averaged = {name: numbers[name] for name in self._measures}
            for method in self._methods:
                averaged |= method.averaged(numbers)
            for name, values in averaged.items():
                new = RunningMean.of(values)
                self.means[name] = self.means[name] + new if name in self.means else new


def read_numbers(store: Store, images: range, names: Sequence[str]) -> Iterator[Arrays]:
    """Arrays of a store, batch by batch, with "psnr/SERIES" (dB) for every "mse/SERIES"."""
    for numbers in store.read(images, names):
        yield numbers | {
            f"psnr/{name.removeprefix('mse/')}": psnr_from_mse(mse)
            for name, mse in numbers.items()
            if name.startswith("mse/")
        }


class Tables:
    """Turns the numbers in a store into the files of one set of images, and writes them.

    A file holds rows with their fields, arrays, a config, or what JSON can say; None means that it must not
    be there.
    """

    def __init__(
        self,
        result: ResultSet,
        store: Store,
        methods: Sequence[Method],
        config: ConfigDict,
        columns: Mapping[str, Any],
    ):
        """`columns` are what all rate points share."""
        self._result, self._store, self._config = result, store, config
        self._metrics, self._columns = tuple(config.eval.image_metrics), dict(columns)
        self._all_methods = tuple(methods)
        self._methods = tuple(method for method in methods if method.decoders)
        self._series = [
            method.prefix + decoder for method in self._methods for decoder in method.decoders
        ]
        stored = [f"{metric}/{one}" for metric in ("mse", *self._metrics) for one in self._series]
        arrays = [name for method in self._methods for name in method.arrays]
        self._names = ["index", *arrays, *stored]
        measures = [*stored, *(f"psnr/{one}" for one in self._series)]
        self._averages = Averages(store, result.images, self._names, measures, self._methods)
        of_images = [name for one in methods for name in (one.image_table, one.reconstructions)]
        self._written_last = (*of_images, GRID, SPECTRA, SUMMARY, *_OF_SAMPLES)

    def begin(self, pixels: Digests) -> None:
        """Writes what results will be of: the machine, and the images, by digests of all.

        Rows of rd.csv about other images that have the same name go away (`image_sets.claim_images`).
        """
        result, names = self._result, [method.name for method in self._all_methods]
        claim_images(result, result.of(pixels), names)
        write_environment(result.folder, read_environment(result.folder).get("encoders"))

    def write_rates(self) -> None:
        """Writes config.json, rd.csv and rate_curve.csv of the images that are done so far.

        All other files go away: they are of an evaluation that has ended, so of another network, or of other
        settings or images.
        """
        if contents := self._rates({}):
            self._write(dict.fromkeys(self._written_last) | contents)

    def write(
        self,
        distances: Distances,
        elbo: Mapping[str, float],
        seconds: Mapping[str, float | None],
    ) -> None:
        """Writes all files of the set, whose images are all done, and logs its bits/dim.

        Args:
            distances: of each (series, level).
            elbo: what `Trained.elbo` gives.
            seconds: for each image, of each piece of work; None where nothing was computed.
        """
        contents = self._rates(distances)
        contents[SPECTRA] = self._spectra(contents[RATES])
        contents |= self._images(self._config.eval.grid_images)
        contents[SUMMARY] = self._summary(elbo, seconds)
        self._write(contents)
        logging.info(
            "%s on %d images of %s %s: %s; results in %s",
            *(self._columns["model"], len(self._result.images), self._result.dataset),
            *(self._result.split, describe_elbo(elbo), self._result.folder),
        )

    def _rates(self, distances: Distances) -> Contents:
        """rd.csv, rate_curve.csv and their config, with all that was stored since the last time."""
        self._averages.update()
        if not self._averages.count:
            return {}
        contents: Contents = {}
        for method in self._methods:
            contents |= method.tables(self._averages.means)
        contents[RATES] = [
            self._rate_point(method, decoder, level, distances)
            for method in self._methods
            for decoder in method.decoders
            for level in range(len(method.plan.levels))
        ]
        contents[CONFIG] = self._config
        return contents

    def _images(self, n_shown: int) -> Contents:
        """The tables of all images, and reconstructions of the first `n_shown`."""
        first = self._first_images(n_shown)
        contents: Contents = {}
        for method in self._all_methods:
            if not method.decoders:  # files of an earlier evaluation
                contents |= {method.image_table: None, method.reconstructions: None}
                continue
            fields = ["index", "model", "decoder", "level", "gamma", *method.image_columns]
            fields += ["mse", "psnr", *(COLUMNS[metric] for metric in self._metrics)]
            contents[method.image_table] = Table(fields, self._image_rows(method))
            contents[method.reconstructions] = None
            if first:
                originals = first["pixels"]
                arrays = {"index": first["index"][: len(originals)], "original": originals}
                contents[method.reconstructions] = arrays | method.shown(first)
        if not first:
            contents[GRID] = None  # of earlier reconstructions
        if not self._config.eval.samples:
            contents |= dict.fromkeys(_OF_SAMPLES)
        return contents

    def _spectra(self, points: Sequence[RatePoint]) -> Table | None:
        """Spectra of rate points in the order of rd.csv; None if no image has spectra."""
        found = stored_spectra(self._store, self._result.images, self._series)
        if not found:
            return None
        in_order = [spectra for one in self._series for spectra in found[one]]
        return spectra_table(self._config.data.image_size, zip(points, in_order, strict=True))

    def _summary(
        self, elbo: Mapping[str, float], seconds: Mapping[str, float | None]
    ) -> dict[str, Any]:
        summary: dict[str, Any] = {
            **{name: self._columns[name] for name in ("model", "checkpoint")},
            "dataset": self._result.dataset,
            "split": self._result.split,
            "n_images": self._averages.count,
            "bits_per_dim": elbo["bits_per_dim"],
            "bits_per_dim_stderr": elbo["bits_per_dim_stderr"],
            "bits_per_dim_parts": {
                name: elbo[name] for name in ("diffusion", "prior", "reconstruction")
            },
            "seconds_per_image": dict(seconds),
        }
        for method in self._methods:
            summary |= method.summary(self._averages.means, elbo)
        return summary

    def _write(self, contents: Contents) -> None:
        """Writes files, each whole or not at all; rows of other methods stay in rd.csv."""
        own = {method.name for method in self._all_methods}
        for name, content in contents.items():
            path = self._result.folder / name
            if content is None:
                path.unlink(missing_ok=True)
            elif name == RATES:
                write_rate_points(path, content, keep=lambda point: point.method not in own)
            elif path.suffix == ".csv":
                write_table(path, content.fields, content.rows)
            elif path.suffix == ".json":
                files.write_json(path, plain(content))
            else:
                with files.atomic_write(path) as temporary, temporary.open("wb") as stream:
                    np.savez_compressed(stream, allow_pickle=False, **content)

    def _rate_point(
        self, method: Method, decoder: str, level: int, distances: Distances
    ) -> RatePoint:
        series, means = method.prefix + decoder, self._averages.means
        rate = method.rate(means, level)
        mse, psnr = float(means[f"mse/{series}"].mean[level]), means[f"psnr/{series}"]
        columns: dict[str, Any] = {
            "psnr": float(psnr_from_mse(mse)),
            "psnr_mean": float(psnr.mean[level]),
            "psnr_mean_stderr": finite(psnr.stderr[level]),
            "mse": mse,
        }
        for metric in self._metrics:
            average = means[f"{metric}/{series}"]
            columns[COLUMNS[metric]] = float(average.mean[level])
            columns[f"{COLUMNS[metric]}_stderr"] = finite(average.stderr[level])
        columns |= distances.get((series, level), {})
        return RatePoint(
            method=method.name,
            decoder=decoder,
            rate_kind=method.rate_kind,
            n_images=self._averages.count,
            n_steps=method.plan.n_steps(decoder, level),
            n_rate_steps=len(method.plan.gammas) - 1,
            dataset=self._result.dataset,
            split=self._result.split,
            level=_noise_level(rate["gamma"]),
            **rate,
            **columns,
            **self._columns,
        )

    def _image_rows(self, method: Method) -> Iterator[dict[str, Any]]:
        """Image by image, so that the order of rows does not depend on batches."""
        for numbers in read_numbers(self._store, self._result.images, self._names):
            rates = {name: of.tolist() for name, of in method.image_rates(numbers).items()}
            for i, index in enumerate(numbers["index"].tolist()):
                for decoder in method.decoders:
                    series = method.prefix + decoder
                    for level, gamma in enumerate(rates["gamma"][i]):
                        yield {
                            "index": index,
                            "model": self._columns["model"],
                            "decoder": decoder,
                            "level": _noise_level(gamma),
                            **{name: values[i][level] for name, values in rates.items()},
                            "mse": float(numbers[f"mse/{series}"][i, level]),
                            "psnr": float(numbers[f"psnr/{series}"][i, level]),
                        } | {
                            COLUMNS[metric]: float(numbers[f"{metric}/{series}"][i, level])
                            for metric in self._metrics
                        }

    def _first_images(self, count: int) -> Arrays:
        """Numbers of the first images and, of those that were kept, pixels; nothing if there are none."""
        images = self._result.images[:count]
        names = [*self._names, "pixels", *(f"pixels/{one}" for one in self._series)]
        kept = [n for n in read_numbers(self._store, images, names) if "pixels" in n]
        return {name: np.concatenate([n[name] for n in kept]) for name in kept[0]} if kept else {}


def _noise_level(gamma: float) -> float:
    """sigma, the standard deviation of the noise in z."""
    return float(np.sqrt(scipy.special.expit(gamma)))
