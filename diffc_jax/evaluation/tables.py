"""The result files of an evaluation, which docs/output_files.md describes; all of them are written here."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from diffc_jax.evaluation.averages import Averages, finite, read_numbers
from diffc_jax.evaluation.measures import COLUMNS, SetDistance
from diffc_jax.evaluation.method import Method, Table, noise_level
from diffc_jax.evaluation.results import RatePoint, replace_rate_points, write_table
from diffc_jax.evaluation.store import Arrays, Store
from diffc_jax.evaluation.subsets import ResultSet
from diffc_jax.metrics.psnr import psnr_from_mse
from diffc_jax.runtime import files
from diffc_jax.runtime.environment import write_environment

Distances = Mapping[tuple[str, int], SetDistance]
# By the names of files.
Contents = dict[str, Any]


class Tables:
    """Turns the numbers in a store into what the files of a set of images hold, and writes them.

    A file holds rows with their fields, arrays, or what JSON can say; None means that it must not be there.
    """

    def __init__(
        self,
        store: Store,
        methods: Sequence[Method],
        metrics: Sequence[str],
        columns: Mapping[str, Any],
    ):
        """Holds what all sets of images have in common; `columns` are those that all rate points share."""
        self._store, self._metrics, self._columns = store, tuple(metrics), dict(columns)
        self._all_methods = tuple(methods)
        self._methods = tuple(method for method in methods if method.decoders)
        self._series = [
            method.prefix + decoder for method in self._methods for decoder in method.decoders
        ]
        self._names = [
            "index",
            *(name for method in self._methods for name in method.arrays),
            *(f"{metric}/{one}" for metric in ("mse", *self._metrics) for one in self._series),
        ]

    def averages(self, images: range) -> Averages:
        """Averages of all that the files of a set of images need, of none of them yet."""
        return Averages(self._store, images, self._names, self._averaged)

    def rates(
        self, result: ResultSet, averages: Averages, distances: Distances | None = None
    ) -> Contents:
        """rd.csv and rate_curve.csv of a set, from averages over the images that are done."""
        if not averages.count:
            return {}
        contents: Contents = {}
        for method in self._methods:
            contents |= method.tables(averages)
        contents["rd.csv"] = [
            self._rate_point(method, decoder, level, result.split, averages, distances or {})
            for method in self._methods
            for decoder in method.decoders
            for level in range(len(method.plan.levels))
        ]
        return contents

    def images(self, result: ResultSet, n_shown: int) -> Contents:
        """The tables of all images, and reconstructions of the first `n_shown`."""
        first = self._first_images(result.images[:n_shown])
        contents: Contents = {}
        for method in self._all_methods:
            if not method.decoders:  # files of an earlier evaluation
                contents |= {method.image_table: None, method.reconstructions: None}
                continue
            fields = ["index", "model", "decoder", "level", "gamma", *method.image_columns]
            fields += ["mse", "psnr", *(COLUMNS[metric] for metric in self._metrics)]
            contents[method.image_table] = Table(fields, self._image_rows(method, result.images))
            if first:
                originals = first["pixels"]
                arrays = {"index": first["index"][: len(originals)], "original": originals}
                contents[method.reconstructions] = arrays | method.shown(first)
        return contents

    def summary(
        self,
        result: ResultSet,
        averages: Averages,
        elbo: Mapping[str, float],
        seconds: Mapping[str, float | None],
    ) -> Contents:
        """summary.json of a set.

        `elbo` is what `Trained.elbo` gives; `seconds` are for each image, of each piece of work, None where
        nothing was computed.
        """
        summary: dict[str, Any] = {
            **{name: self._columns[name] for name in ("model", "dataset", "checkpoint")},
            "split": result.split,
            "n_images": averages.count,
            "bits_per_dim": elbo["bits_per_dim"],
            "bits_per_dim_stderr": elbo["bits_per_dim_stderr"],
            "bits_per_dim_parts": {
                name: elbo[name] for name in ("diffusion", "prior", "reconstruction")
            },
            "seconds_per_image": dict(seconds),
        }
        for method in self._methods:
            summary |= method.summary(averages, elbo)
        return {"summary.json": summary}

    def write_origin(self, folder: files.AnyPath, config: Mapping[str, Any]) -> None:
        """Writes config.json and environment.json: what the results come from."""
        files.write_json(folder / "config.json", config)
        write_environment(folder)

    def write_rates(self, result: ResultSet, averages: Averages) -> None:
        """Writes what is known of a set, after the averages have taken in what was stored since."""
        self.write(result.folder, self.rates(result, averages.update()))

    def write(self, folder: files.AnyPath, contents: Contents) -> None:
        """Writes files, each whole or not at all; rows of other methods stay in rd.csv."""
        for name, content in contents.items():
            path = folder / name
            if content is None:
                path.unlink(missing_ok=True)
            elif name == "rd.csv":
                replace_rate_points(path, content, self._is_replaced)
            elif path.suffix == ".csv":
                write_table(path, content.fields, content.rows)
            elif path.suffix == ".json":
                files.write_json(path, content)
            else:
                with files.atomic_write(path) as temporary, temporary.open("wb") as stream:
                    np.savez_compressed(stream, allow_pickle=False, **content)

    def _is_replaced(self, point: RatePoint) -> bool:
        return point.method in {method.name for method in self._all_methods}

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
        series = method.prefix + decoder
        mse, psnr = float(averages[f"mse/{series}"].mean[level]), averages[f"psnr/{series}"]
        columns: dict[str, Any] = {
            "psnr": float(psnr_from_mse(mse)),
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
                    series = method.prefix + decoder
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
