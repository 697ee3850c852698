"""`evaluate_baselines(config, workdir)`: the methods to compare with, on the images of the sweep."""

import dataclasses
import functools
import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float, Float32, UInt8
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.baselines.classical import evaluate_codecs
from diffc_jax.baselines.codecs import encoder_versions, select_codecs
from diffc_jax.baselines.encoded import EncodedFiles
from diffc_jax.baselines.hific.codec import evaluate_runs, find_runs, load_run
from diffc_jax.baselines.lossless import lossless_marks, measure_lossless
from diffc_jax.baselines.points import PER_IMAGE_FIELDS, CodecPoint
from diffc_jax.baselines.published import load_published
from diffc_jax.config.sources import plain
from diffc_jax.data.identity import image_digests
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.image_sets import claim_images
from diffc_jax.evaluation.measures import COLUMNS, Measures, set_point
from diffc_jax.evaluation.results import (
    RatePoint,
    read_rate_points,
    read_table,
    write_rate_points,
    write_table,
)
from diffc_jax.evaluation.spectra import (
    POWER,
    SPECTRA_OF_BASELINES,
    Spectra,
    power_and_error,
    spectra_of_originals,
    spectra_table,
)
from diffc_jax.evaluation.subsets import ResultSet, images_to_evaluate, open_references
from diffc_jax.metrics.feature_sets import FeatureSet
from diffc_jax.metrics.sets import Comparison
from diffc_jax.metrics.statistics import RunningMean
from diffc_jax.runtime.array_files import open_arrays
from diffc_jax.runtime.environment import write_environment
from diffc_jax.runtime.files import AnyPath, atomic_write, write_json
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.sharding import make_mesh
from diffc_jax.training.experiment import open_source

_BATCH = 256
# Of results: a method and its model.
_Method = tuple[str, str | None]


def evaluate_baselines(
    config: ConfigDict, workdir: AnyPath, trained: Sequence[AnyPath] = ()
) -> None:
    """Writes the rows of config.baselines to W/eval/rd.csv, and files of their own beside it.

    What is there of other methods and models on the same images stays.

    The methods are config.baselines.codecs and the trained networks in config.baselines.trained; the files
    are per_image_baselines.csv and, for the first images, reconstructions_baselines.npz. With codecs also
    lossless.json, the bits per dimension of lossless ones. The same files of each subset of
    config.eval.subsets are in W/SUBSET/eval; every image is encoded and measured once.

    Args:
        config: a validated config; the images are those of config.data.eval, eval.max_images and
            eval.subsets, measured as config.eval.features and config.eval.image_metrics say.
        workdir: folder of the results.
        trained: folders of more trained networks.

    Raises:
        UsageError: an unknown codec, neither codecs nor trained networks, or subsets that do not exist.
        InputError: images that cannot be read, a codec that is not installed, or missing weights.
    """
    check_baselines(config)
    runs = [load_run(path) for path in (*find_runs(config.baselines.trained), *trained)]
    if not (runs or config.baselines.codecs):
        raise UsageError(
            "both are empty, there is nothing to measure",
            field="baselines.codecs, baselines.trained",
        )
    settings = config.eval
    source = open_source(config, "eval")
    selection = images_to_evaluate(config, source)
    measures = Measures(
        settings.features,
        settings.feature_weights,
        settings.image_metrics,
        settings.set_metrics,
        make_mesh(),
        settings.batch_size,
    )
    batches = data.eval_batches(selection, batch_size=_BATCH)
    images = np.concatenate([batch["image"][batch["mask"]] for batch in batches])
    sets = selection.result_sets(workdir)
    references = open_references(config, selection)
    comparisons = _comparisons(measures, images, sets, references)
    results = [
        _Results(result, comparison, config.eval.grid_images)
        for result, comparison in zip(sets, comparisons, strict=True)
    ]
    codecs = tuple(config.baselines.codecs)
    kept = EncodedFiles(sets[0].folder / "codecs", images)
    original_power = spectra_of_originals(images)[POWER]
    for codec_point in itertools.chain(
        evaluate_runs(runs, images, selection.name, selection.split),
        evaluate_codecs(images, selection.name, selection.split, codecs=codecs, kept=kept),
    ):
        pairs = measures.pairs(images, codec_point.decoded)
        features = measures.features(codec_point.decoded) if measures.has_features else None
        power, error = power_and_error(images, codec_point.decoded)
        for own in results:
            own.add(codec_point, pairs, features, (power, original_power, error))
    versions = encoder_versions(codecs)
    for own, result in zip(results, sets, strict=True):
        own.write(images)
        write_json(result.folder / "config.json", plain(config))
        write_environment(result.folder, versions)
    if codecs:
        _write_lossless(images, sets)
    kept.remove()


def _write_lossless(images: UInt8[np.ndarray, "n h w 3"], sets: Sequence[ResultSet]) -> None:
    """Writes lossless.json of each set."""
    bits = measure_lossless(images)
    for result in sets:
        marks: dict[str, Any] = {
            **lossless_marks({name: result.of(values) for name, values in bits.items()}),
            "n_images": len(result.images),
            "dataset": result.dataset,
            "split": result.split,
        }
        write_json(result.folder / "lossless.json", marks)


def check_baselines(config: ConfigDict) -> None:
    """Checks config.baselines.

    Raises:
        UsageError: an unknown codec or published curve.
        InputError: a codec that is not installed, or a folder of trained networks that does not exist.
    """
    find_runs(config.baselines.trained)
    try:
        select_codecs(config.baselines.codecs)
        if config.baselines.published:
            load_published(config.baselines.published)
    except UsageError as error:
        raise error.in_group("baselines") from error
    if config.baselines.codecs:
        require("imagecodecs")  # for lossless.json, which comes last


def _comparisons(
    measures: Measures,
    images: UInt8[np.ndarray, "n h w 3"],
    sets: Sequence[ResultSet],
    references: Sequence[data.ImageSource | None],
) -> list[Comparison | None]:
    """What each set is compared with; features of the images are computed once, if at all."""
    features = functools.cache(lambda: measures.features(images))

    def comparison(result: ResultSet, source: data.ImageSource | None) -> Comparison | None:
        if not measures.has_features or len(result.images) < 2:
            return None
        folder = sets[0].folder / "reference"
        return measures.comparison([result.of(features())], source, folder)

    return list(map(comparison, sets, references))


class _Results:
    """Results of all methods on one set of images."""

    def __init__(self, result: ResultSet, comparison: Comparison | None, n_shown: int):
        """Measures distances of `comparison` and keeps the first `n_shown` decoded images."""
        self._set, self._comparison, self._n_shown = result, comparison, n_shown
        self._codec_points: list[CodecPoint] = []
        self._points: list[RatePoint] = []
        self._spectra: list[Spectra] = []

    def add(
        self,
        codec_point: CodecPoint,
        pairs: Mapping[str, Float[np.ndarray, " n"]],
        features: Float32[np.ndarray, "n d"] | None,
        spectra: Sequence[Float32[np.ndarray, "n f"]],
    ) -> None:
        """Adds a rate point; it, metrics, features, and spectra are those of all images.

        `spectra` have the power of the decoded images, of the originals, and of the error.
        """
        own = codec_point.subset(self._set, self._n_shown)
        columns: dict[str, Any] = {}
        for metric, values in pairs.items():
            average = RunningMean.of(np.asarray(self._set.of(values), np.float64))
            columns[COLUMNS[metric]] = float(average.mean)
            stderr = float(average.stderr) if average.count > 1 else None
            columns[f"{COLUMNS[metric]}_stderr"] = stderr
        if self._comparison is not None and features is not None:
            estimates = self._comparison.estimates(FeatureSet.of([self._set.of(features)]))
            columns |= set_point(self._comparison, estimates)
        power, originals, error = (RunningMean.of(self._set.of(values)) for values in spectra)
        self._spectra.append((power, originals, error))
        self._codec_points.append(own)
        self._points.append(dataclasses.replace(own.point, **columns))

    def write(self, originals: UInt8[np.ndarray, "n h w 3"]) -> None:
        """Writes rows, tables and reconstructions; `originals` are all images."""
        folder = self._set.folder
        methods = {point.method for point in self._points}
        claim_images(self._set, image_digests(self._set.of(originals)), methods)
        # Rows of other images are gone now, and so is what else is known of them.
        rates, own = folder / "rd.csv", {(point.method, point.model) for point in self._points}
        before = read_rate_points(rates) if rates.exists() else []
        kept = {(point.method, point.model) for point in before} - own
        rows = (row for codec_point in self._codec_points for row in codec_point.rows)
        spectra = spectra_table(originals.shape[1], zip(self._points, self._spectra, strict=True))
        for name, fields, new in (
            ("per_image_baselines.csv", PER_IMAGE_FIELDS, rows),
            (SPECTRA_OF_BASELINES, spectra.fields, spectra.rows),
        ):
            write_table(folder / name, fields, [*_kept_rows(folder / name, fields, kept), *new])
        write_rate_points(
            rates, self._points, keep=lambda point: (point.method, point.model) not in own
        )
        if self._n_shown:
            self._write_reconstructions(self._set.of(originals)[: self._n_shown], kept)
        logging.info(
            "%d rate points of %s in %s", len(self._points), ", ".join(sorted(methods)), folder
        )

    def _write_reconstructions(
        self, originals: UInt8[np.ndarray, "n h w 3"], kept: Collection[_Method]
    ) -> None:
        """Writes what every codec and quality makes of the first images, as docs/output_files.md says."""
        n, path = len(originals), self._set.folder / "reconstructions_baselines.npz"
        arrays = {"index": np.array(self._set.images[:n]), "original": originals}
        arrays |= _kept_arrays(path, arrays, kept)
        by_name: dict[str, list[CodecPoint]] = {}
        for codec_point in self._codec_points:
            by_name.setdefault(codec_point.name, []).append(codec_point)
        for name, codec_points in by_name.items():
            identity = codec_points[0].identity
            arrays |= {
                f"{name}/images": np.stack([p.decoded for p in codec_points], axis=1),
                f"{name}/level": np.array([p.identity["level"] for p in codec_points]),
                f"{name}/method": np.array(identity["method"]),
                f"{name}/model": np.array(identity["model"] or ""),
            }
            for column in ("bpp", "psnr"):
                values = [p.columns()[column][:n] for p in codec_points]
                arrays[f"{name}/{column}"] = np.stack(values, axis=1)
        with atomic_write(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)


def _kept_rows(
    path: AnyPath, fields: Sequence[str], kept: Collection[_Method]
) -> list[dict[str, Any]]:
    """Rows of an older table about these methods and models, as they stand there."""
    if not kept or not path.exists():
        return []
    rows = read_table(path, numbers=(), texts=fields)
    return [row for row in rows if (row["method"], row["model"] or None) in kept]


def _kept_arrays(
    path: AnyPath, now: Mapping[str, np.ndarray], kept: Collection[_Method]
) -> dict[str, np.ndarray]:
    """Arrays of older reconstructions of the same images by these methods and models."""
    if not kept or not path.exists():
        return {}
    with open_arrays(path, "is damaged", "delete it and run again") as before:

        def method(name: str) -> _Method:
            texts = [str(before.read(f"{name}/{part}")) for part in ("method", "model")]
            return texts[0], texts[1] or None

        if not all(np.array_equal(before.read(name), array) for name, array in now.items()):
            return {}
        names = [name.removesuffix("/method") for name in before.names if name.endswith("/method")]
        wanted = {name for name in names if method(name) in kept}
        return {
            name: before.read(name) for name in before.names if name.rpartition("/")[0] in wanted
        }
