"""`evaluate_baselines(config, workdir)`: the methods to compare with, on the images of the sweep."""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from diffc_jax.baselines.classical import classical_baselines
from diffc_jax.baselines.codecs import CODECS, encoder_versions, select_codecs
from diffc_jax.baselines.hific.codec import find_runs, load_runs
from diffc_jax.baselines.lossless import lossless_marks, lossless_versions
from diffc_jax.baselines.method import Baseline
from diffc_jax.baselines.points import PER_IMAGE_FIELDS, CodecPoint
from diffc_jax.baselines.published import load_published
from diffc_jax.baselines.stores import BaselineStores
from diffc_jax.config.sources import plain
from diffc_jax.data.identity import Digests, digests_of
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.image_sets import claim_images
from diffc_jax.evaluation.measures import Measures, set_point
from diffc_jax.evaluation.rate_point import DIFFC_METHODS
from diffc_jax.evaluation.result_files import (
    BASELINE_PER_IMAGE,
    BASELINE_RECONSTRUCTIONS,
    BASELINE_SPECTRA,
    CONFIG,
    LOSSLESS,
    RATES,
)
from diffc_jax.evaluation.results import (
    RatePoint,
    read_rate_points,
    read_table,
    write_rate_points,
    write_table,
)
from diffc_jax.evaluation.spectra import spectra_table
from diffc_jax.evaluation.subsets import ResultSet, images_to_evaluate, open_references
from diffc_jax.metrics.feature_sets import FeatureSet
from diffc_jax.metrics.sets import Comparison
from diffc_jax.runtime.array_files import open_arrays
from diffc_jax.runtime.environment import add_encoders, read_environment, write_environment
from diffc_jax.runtime.files import AnyPath, atomic_write, write_json
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.sharding import make_mesh
from diffc_jax.training.experiment import open_source

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
    config.eval.subsets are in W/SUBSET/eval; every image is encoded and measured once, and what is measured
    is kept in W/eval/progress, where the same command goes on after a stop.

    Args:
        config: a validated config; the images are those of config.data.eval, eval.max_images and
            eval.subsets, measured as config.eval.features and config.eval.image_metrics say.
        workdir: folder of the results.
        trained: folders of more trained networks.

    Raises:
        UsageError: an unknown codec, neither codecs nor trained networks, two of these with one target, or
            subsets that do not exist.
        InputError: images that cannot be read, a codec that is not installed, or missing weights.
    """
    check_baselines(config)
    paths = [*find_runs(config.baselines.trained), *trained]
    codecs = tuple(config.baselines.codecs)
    if not (paths or codecs):
        raise nothing_to_measure()
    runs = load_runs(paths, config.data.image_size)
    settings = config.eval
    images = images_to_evaluate(config, open_source(config, "eval"))
    networks = settings.features, settings.feature_weights
    metrics = settings.image_metrics, settings.set_metrics
    measures = Measures(*networks, *metrics, make_mesh(), settings.batch_size)
    sets, references = images.result_sets(workdir), open_references(config, images)
    pixels = digests_of(images)
    with ThreadPoolExecutor() as pool:
        baselines = [*runs, *classical_baselines(codecs, pool)]
        folder = sets[0].folder / "progress"
        stores = BaselineStores(
            folder, settings, images, measures, baselines, lossless=bool(codecs)
        )
        stores.fill(pixels)
    versions = encoder_versions(codecs) | (lossless_versions() if codecs else {})
    for result, reference in zip(sets, references, strict=True):
        comparison = None
        if measures.has_features and len(result.images) > 1:
            comparison = measures.comparison(
                stores.features(result.images), reference, sets[0].folder / "reference"
            )
        results = _Results(config, result, baselines, stores, comparison)
        kept = results.write(result.of(pixels))
        before = read_environment(result.folder).get("encoders", {}).items()
        encoders = {name: of for name, of in before if _is_kept(name, kept)} | versions
        if any(method in DIFFC_METHODS for method, _ in kept):
            # The config and the machine of the sweep, which says more about its rows than they about ours.
            add_encoders(result.folder, encoders)
        else:
            write_json(result.folder / CONFIG, plain(config))
            write_environment(result.folder, encoders)


def check_baselines(config: ConfigDict) -> None:
    """Checks config.baselines, and that its codecs take images of config.data.

    Raises:
        UsageError: an unknown codec or published curve.
        InputError: a codec that is not installed or takes no images of that size, or a folder of trained
            networks that does not exist.
    """
    chosen = config.baselines
    find_runs(chosen.trained)
    grey = np.full((config.data.image_size, config.data.image_size, 3), 128, np.uint8)
    try:
        for codec in select_codecs(chosen.codecs).values():
            codec.encode(grey, codec.qualities[0])
        if chosen.published:
            load_published(chosen.published)
    except UsageError as error:
        raise error.in_group("baselines") from error
    if chosen.codecs:
        require("imagecodecs")  # for lossless.json, which comes last


def nothing_to_measure() -> UsageError:
    """The error of an evaluation without codecs and networks."""
    return UsageError(
        "both are empty, there is nothing to measure", field="baselines.codecs, baselines.trained"
    )


class _Results:
    """Results of all methods on one set of images."""

    def __init__(
        self,
        config: ConfigDict,
        result: ResultSet,
        baselines: Sequence[Baseline],
        stores: BaselineStores,
        comparison: Comparison | None,
    ):
        """`comparison` measures distances; None for no distances."""
        self._side, self._n_shown = config.data.image_size, config.eval.grid_images
        self._set, self._baselines, self._stores = result, baselines, stores
        self._comparison = comparison

    def write(self, digests: Digests) -> set[_Method]:
        """Writes rows, tables and reconstructions of images with these digests.

        Returns:
            The methods of which rows of before stay.
        """
        folder, images = self._set.folder, self._set.images
        points = [self._rate_point(baseline) for baseline in self._baselines]
        methods = {point.method for point in points}
        claim_images(self._set, digests, methods)
        # Rows of other images are gone now, and so is what else is known of them.
        rates, own = folder / RATES, {(point.method, point.model) for point in points}
        before = read_rate_points(rates) if rates.exists() else []
        kept = {(point.method, point.model) for point in before} - own
        measured = {(point.method, point.model, point.level) for point in points}
        for p in before:
            if (p.method, p.model) in own and (p.method, p.model, p.level) not in measured:
                logging.warning(
                    "%s: removed the row of %s at level %g, which is not measured with the others now",
                    *(rates, " ".join(filter(None, (p.method, p.model))), p.level),
                )
        rows = (row for baseline in self._baselines for row in self._point(baseline).rows())
        spectra = (self._stores.spectra(images, baseline) for baseline in self._baselines)
        power = spectra_table(self._side, zip(points, spectra, strict=True))
        for name, fields, new in (
            (BASELINE_PER_IMAGE, PER_IMAGE_FIELDS, rows),
            (BASELINE_SPECTRA, power.fields, power.rows),
        ):
            before_and_now = itertools.chain(_kept_rows(folder / name, fields, kept), new)
            write_table(folder / name, fields, before_and_now)
        write_rate_points(rates, points, keep=lambda point: (point.method, point.model) not in own)
        if self._n_shown:
            self._write_reconstructions(kept)
        else:
            (folder / BASELINE_RECONSTRUCTIONS).unlink(missing_ok=True)
        if bits := self._stores.lossless_bits(images):
            marks: dict[str, Any] = {
                **lossless_marks(bits),
                "n_images": len(images),
                "dataset": self._set.dataset,
                "split": self._set.split,
            }
            write_json(folder / LOSSLESS, marks)
        logging.info("%d rate points of %s in %s", len(points), ", ".join(sorted(methods)), folder)
        return kept

    def _point(self, baseline: Baseline) -> CodecPoint:
        return self._stores.point(baseline, self._set, self._side**2)

    def _rate_point(self, baseline: Baseline) -> RatePoint:
        point = self._point(baseline).point
        if self._comparison is None:
            return point
        features = FeatureSet.of(self._stores.features(self._set.images, baseline))
        columns = set_point(self._comparison, self._comparison.estimates(features))
        return dataclasses.replace(point, **columns)

    def _write_reconstructions(self, kept: Collection[_Method]) -> None:
        """Writes what every codec and quality makes of the first images, as docs/output_files.md says."""
        shown = self._set.images[: self._n_shown]
        path = self._set.folder / BASELINE_RECONSTRUCTIONS
        arrays = {"index": np.array(shown), "original": self._stores.shown(shown)}
        arrays |= _kept_arrays(path, arrays, kept)
        by_curve: dict[str, list[Baseline]] = {}
        for baseline in self._baselines:
            by_curve.setdefault(baseline.curve, []).append(baseline)
        for name, baselines in by_curve.items():
            identity = baselines[0].identity
            decoded = [self._stores.shown(shown, baseline) for baseline in baselines]
            arrays |= {
                f"{name}/images": np.stack(decoded, axis=1),
                f"{name}/level": np.array([one.identity["level"] for one in baselines]),
                f"{name}/method": np.array(identity["method"]),
                f"{name}/model": np.array(identity["model"] or ""),
            }
            columns = [self._point(baseline).columns() for baseline in baselines]
            for column in ("bpp", "psnr"):
                values = [one[column][: len(shown)] for one in columns]
                arrays[f"{name}/{column}"] = np.stack(values, axis=1)
        with atomic_write(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)


def _is_kept(name: str, kept: Collection[_Method]) -> bool:
    """Whether results of an encoder stay that were there before; lossless.json has those of others."""
    return name not in CODECS or (CODECS[name].method, CODECS[name].model) in kept


def _kept_rows(
    path: AnyPath, fields: Sequence[str], kept: Collection[_Method]
) -> Iterator[Mapping[str, Any]]:
    """Rows of an older table about these methods and models, as they stand there."""
    if kept and path.exists():
        for row in read_table(path, numbers=(), texts=fields):
            if (row["method"], row["model"] or None) in kept:
                yield row


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
