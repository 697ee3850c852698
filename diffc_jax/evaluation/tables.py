"""The result files of an evaluation. All of them are written here, by process 0."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float
from ml_collections import ConfigDict

from diffc_jax.config.sources import plain
from diffc_jax.evaluation.averages import Averages, finite, read_numbers
from diffc_jax.evaluation.measures import COLUMNS, SetDistance
from diffc_jax.evaluation.method import Method, noise_level
from diffc_jax.evaluation.results import RatePoint, replace_rate_points, write_table
from diffc_jax.evaluation.store import Arrays, Store
from diffc_jax.evaluation.subsets import ResultSet
from diffc_jax.metrics.psnr import psnr_from_mse
from diffc_jax.runtime import files, multihost
from diffc_jax.runtime.environment import write_environment
from diffc_jax.training.elbo_evaluation import average_elbo

Distances = Mapping[tuple[str, int], SetDistance]


class Tables:
    """Turns the numbers in a store into the files of a set of images.

    `rd.csv`, `per_image.csv`, `rate_curve.csv`, `summary.json` and `reconstructions.npz`; the codec has files
    of the third and the last kind of its own. docs/formats.md describes them.
    """

    def __init__(
        self,
        store: Store,
        methods: Sequence[Method],
        metrics: Sequence[str],
        columns: Mapping[str, Any],
    ):
        """Writes nothing yet.

        Args:
            store: with the numbers of the images.
            methods: the sweep, and others with the same levels.
            metrics: of pairs of images.
            columns: that all rate points have in common: model, dataset, checkpoint and what training cost.
        """
        self._store, self._metrics, self._columns = store, tuple(metrics), dict(columns)
        self._all_methods = tuple(methods)
        self._methods = tuple(method for method in methods if method.decoders)
        self._series = [
            method.series(decoder) for method in self._methods for decoder in method.decoders
        ]
        self._names = [
            "index",
            *(name for method in self._methods for name in method.arrays),
            *(f"{metric}/{one}" for metric in ("mse", *self._metrics) for one in self._series),
        ]

    def averages(self, images: range) -> Averages:
        """Averages of all that the tables of a set of images need, of none of them yet."""
        return Averages(self._store, images, self._names, self._averaged)

    def write_origin(self, result: ResultSet, config: ConfigDict) -> None:
        """Writes config.json and environment.json."""
        if multihost.is_primary():
            files.write_json(result.folder / "config.json", plain(config))
            write_environment(result.folder)

    def write_rates(
        self, result: ResultSet, averages: Averages, distances: Distances | None = None
    ) -> None:
        """Writes rd.csv, in which rows of other methods are kept, and rate_curve.csv.

        Args:
            result: where to, and which images.
            averages: over the images that are done.
            distances: of each (series, level), if they were computed.
        """
        if not (multihost.is_primary() and averages.count):
            return
        points = [
            self._rate_point(method, decoder, level, result.split, averages, distances or {})
            for method in self._methods
            for decoder in method.decoders
            for level in range(len(method.plan.levels))
        ]
        names = {method.name for method in self._all_methods}
        replace_rate_points(result.folder / "rd.csv", points, lambda point: point.method in names)
        for method in self._methods:
            for name, rows in method.tables(averages).items():
                write_table(result.folder / name, rows[0], rows)

    def write_images(self, result: ResultSet, n_shown: int) -> None:
        """Writes per_image.csv, of all images, and reconstructions.npz, of the first `n_shown`."""
        if not multihost.is_primary():
            return
        first = self._first_images(result.images[:n_shown])
        for method in self._all_methods:
            paths = result.folder / method.image_table, result.folder / method.reconstructions
            if not method.decoders:  # of an earlier evaluation
                for path in paths:
                    path.unlink(missing_ok=True)
                continue
            fields = ["index", "model", "decoder", "level", "gamma", *method.image_columns]
            fields += ["mse", "psnr", *(COLUMNS[metric] for metric in self._metrics)]
            write_table(paths[0], fields, self._image_rows(method, result.images))
            if first:
                originals = first["pixels"]
                arrays = {"index": first["index"][: len(originals)], "original": originals}
                arrays |= method.shown(first)
                with files.atomic_write(paths[1]) as temporary, temporary.open("wb") as stream:
                    np.savez_compressed(stream, allow_pickle=False, **arrays)

    def write_summary(
        self,
        result: ResultSet,
        averages: Averages,
        elbo: Mapping[str, Float[np.ndarray, " n"]],
        seconds: Mapping[str, float | None],
    ) -> None:
        """Writes summary.json.

        Args:
            result: where to, and which images.
            averages: over these images.
            elbo: the bound in continuous time of every image of the evaluation, and its parts, bits/dim.
            seconds: for each image, of each piece of work; None where nothing was computed.
        """
        if not multihost.is_primary():
            return
        bound = average_elbo({name: result.of(values) for name, values in elbo.items()})
        parts = {name: bound[name] for name in ("diffusion", "prior", "reconstruction")}
        summary: dict[str, Any] = {
            **{name: self._columns[name] for name in ("model", "dataset", "checkpoint")},
            "split": result.split,
            "n_images": averages.count,
            "bits_per_dim": bound["bits_per_dim"],
            "bits_per_dim_stderr": bound["bits_per_dim_stderr"],
            "bits_per_dim_parts": parts,
            "seconds_per_image": dict(seconds),
        }
        for method in self._methods:
            summary |= method.summary(averages, bound)
        files.write_json(result.folder / "summary.json", summary)
        logging.info(
            "%s on %d images of %s %s: %.4f +- %.4f bits/dim; results in %s",
            *(summary[name] for name in ("model", "n_images", "dataset", "split")),
            *(summary[name] for name in ("bits_per_dim", "bits_per_dim_stderr")),
            result.folder,
        )

    def _averaged(self, numbers: Arrays) -> Arrays:
        averaged = {
            f"{measure}/{one}": numbers[f"{measure}/{one}"]
            for measure in ("mse", "psnr", *self._metrics)
            for one in self._series
        }
        for method in self._methods:
            averaged |= method.averaged(numbers)
        return averaged

    def _rate_point(
        self,
        method: Method,
        decoder: str,
        level: int,
        split: str,
        averages: Averages,
        distances: Distances,
    ) -> RatePoint:
        series = method.series(decoder)
        mse, psnr = float(averages[f"mse/{series}"].mean[level]), averages[f"psnr/{series}"]
        columns: dict[str, Any] = {
            "psnr": float(psnr_from_mse(np.float64(mse))),
            "psnr_mean": float(psnr.mean[level]),
            "psnr_mean_stderr": finite(psnr.stderr[level]),
            "mse": mse,
        }
        for metric in self._metrics:
            average = averages[f"{metric}/{series}"]
            columns[COLUMNS[metric]] = float(average.mean[level])
            columns[f"{COLUMNS[metric]}_stderr"] = finite(average.stderr[level])
        if (series, level) in distances:
            columns |= dataclasses.asdict(distances[series, level])
        return RatePoint(
            method=method.name,
            decoder=decoder,
            rate_kind=method.rate_kind,
            n_images=averages.count,
            n_steps=method.plan.n_steps(decoder, level),
            n_rate_steps=len(method.plan.gammas) - 1,
            split=split,
            **method.rate(averages, level),
            **columns,
            **self._columns,
        )

    def _image_rows(self, method: Method, images: range) -> Iterator[dict[str, Any]]:
        """Image by image, so that the order of rows does not depend on batches."""
        for numbers in read_numbers(self._store, images, self._names):
            rates = {name: of.tolist() for name, of in method.image_rates(numbers).items()}
            for i, index in enumerate(numbers["index"].tolist()):
                for decoder in method.decoders:
                    series = method.series(decoder)
                    for level, gamma in enumerate(rates["gamma"][i]):
                        yield {
                            "index": index,
                            "model": self._columns["model"],
                            "decoder": decoder,
                            "level": noise_level(gamma),
                            **{name: values[i][level] for name, values in rates.items()},
                            "mse": float(numbers[f"mse/{series}"][i, level]),
                            "psnr": float(numbers[f"psnr/{series}"][i, level]),
                        } | {
                            COLUMNS[metric]: float(numbers[f"{metric}/{series}"][i, level])
                            for metric in self._metrics
                        }

    def _first_images(self, images: range) -> Arrays:
        """Numbers of images whose pixels are kept, those included; nothing if there are none."""
        names = [*self._names, "pixels", *(f"pixels/{one}" for one in self._series)]
        kept = [n for n in read_numbers(self._store, images, names) if "pixels" in n]
        return {name: np.concatenate([n[name] for n in kept]) for name in kept[0]} if kept else {}
