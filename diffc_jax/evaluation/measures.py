"""What is measured of images: quality of reconstructions one by one, stored as they come, and of sets."""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from jaxtyping import Bool, Float, Float32

from diffc_jax import data
from diffc_jax.data.identity import DIGEST_BYTES, Digests, files_signature, image_digests
from diffc_jax.evaluation import processes
from diffc_jax.evaluation.method import Images, Method
from diffc_jax.evaluation.results import finite
from diffc_jax.evaluation.spectra import spectra_of_levels, spectra_of_originals
from diffc_jax.evaluation.store import MADE_FROM, Arrays, Store
from diffc_jax.evaluation.subsets import Selection
from diffc_jax.metrics.feature_sets import FeatureSet
from diffc_jax.metrics.features.extract import Extractor, FeatureNetwork, reference_features
from diffc_jax.metrics.features.registry import load_feature_network
from diffc_jax.metrics.lpips import PairwiseLPIPS, lpips_alex, lpips_vgg
from diffc_jax.metrics.ms_ssim import ms_ssim
from diffc_jax.metrics.psnr import mse
from diffc_jax.metrics.sets import (
    CLASSIFIER,
    SET_COLUMNS,
    Comparison,
    Estimates,
    compared_with_mean,
    set_columns,
)
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.multihost import is_primary
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.progress import Progress

PairMetric = Callable[[Images, Images], Float[np.ndarray, " b"]]

# Metrics of pairs of images by their name in config.eval.image_metrics -> their column of results.
COLUMNS = {"lpips_alex": "lpips", "lpips_vgg": "lpips_vgg", "ms_ssim": "ms_ssim"}
# Of each (series, level): columns of results.
Distances = dict[tuple[str, int], dict[str, Any]]
# The decoder with which the others are compared.
_MEAN = "mean"
_REFERENCE_BATCH = 256
_SECONDS_BETWEEN_WRITES = 60.0


class Measures:
    """A feature network and metrics of pairs of images, on the devices of a mesh.

    Attributes:
        has_features: whether there is a feature network.
    """

    def __init__(
        self,
        features: str,
        feature_weights: str,
        metrics: Sequence[str],
        set_metrics: Sequence[str],
        mesh: Mesh,
        batch_size: int,
    ):
        """Loads the networks onto the devices of this process, for `batch_size` images in flight.

        `features` names a feature network, empty for none, and `feature_weights` its file if it needs one.
        `metrics` are of pairs of images, `set_metrics` of sets, beside the distances.

        Raises:
            UsageError: weights where none or some are needed; the message starts with the field.
            InputError: weights that are missing or damaged, or a package that is not installed.
        """
        self.has_features = bool(features)
        self._set_metrics = tuple(set_metrics)
        self._extractor: Extractor | None = None
        if features and CLASSIFIER in set_metrics:
            require("sklearn")  # now, and not after the sweep
        if features:
            network = load_feature_network(features, feature_weights, "eval.feature_weights")
            self._extractor = Extractor(network, mesh, batch_size)
        loaders: dict[str, Callable[[], PairMetric]] = {
            "lpips_alex": lambda: PairwiseLPIPS(lpips_alex(), mesh, batch_size),
            "lpips_vgg": lambda: PairwiseLPIPS(lpips_vgg(), mesh, batch_size),
            "ms_ssim": lambda: ms_ssim,
        }
        self._metrics = {name: loaders[name]() for name in metrics}

    def made_from(self, pixels: Digests) -> Arrays:
        """What numbers of images depend on by its content, one row for each image, by what it is.

        `pixels` are digests of the images; the other are those of the feature network and its weights.
        """
        network = np.zeros(DIGEST_BYTES, np.uint8)
        if self._extractor is not None:
            digest = hashlib.sha256(self._extractor.network.identity.encode()).digest()
            network = np.frombuffer(digest[:DIGEST_BYTES], np.uint8)
        return {"pixels": pixels, "feature weights": np.broadcast_to(network, pixels.shape)}

    @property
    def network(self) -> FeatureNetwork:
        """The feature network; only if there is one."""
        assert self._extractor is not None
        return self._extractor.network

    def features(self, images: Images) -> Float32[np.ndarray, "b d"]:
        """Features of images; only with a feature network."""
        assert self._extractor is not None
        return self._extractor(images)

    def pairs(self, images: Images, reconstructions: Images) -> dict[str, Float[np.ndarray, " b"]]:
        """Every metric of each pair, by name."""
        return {name: metric(images, reconstructions) for name, metric in self._metrics.items()}

    def of_originals(self, images: Images, shown: Bool[np.ndarray, " b"]) -> Arrays:
        """What a store keeps of the images of a batch: spectra, features, and the pixels of those shown."""
        arrays = spectra_of_originals(images)
        if shown.any():
            arrays["pixels"] = images[shown]
        return arrays | ({"features": self.features(images)} if self.has_features else {})

    def of_levels(
        self, series: str, images: Images, levels: Sequence[Images], shown: Bool[np.ndarray, " b"]
    ) -> Arrays:
        """What a store keeps, as arrays "MEASURE/SERIES", of the reconstructions of a batch at each level."""
        metrics = {"mse": mse, **self._metrics}
        arrays = {
            f"{name}/{series}": np.stack([metric(images, level) for level in levels], axis=1)
            for name, metric in metrics.items()
        } | spectra_of_levels(series, images, levels)
        if self.has_features:
            for number, level in enumerate(levels):
                arrays[f"features/{series}/{number}"] = self.features(level)
        if shown.any():
            arrays[f"pixels/{series}"] = np.stack([level[shown] for level in levels], axis=1)
        return arrays

    def comparison(
        self,
        features: Iterable[Float32[np.ndarray, "_ d"]],
        others: data.ImageSource | None,
        folder: AnyPath,
    ) -> Comparison:
        """What sets of reconstructions are compared with: the evaluated images, and others if there are some.

        `features` are those of the former; those of the latter are kept in `folder`, under a hash of their
        images.

        Raises:
            InputError: reference images that cannot be read.
        """
        description, reference = "originals", None
        if others is not None:
            reference, description = self.reference(others, folder)
        return Comparison(
            FeatureSet.of(features), reference, self.network.name, description, self._set_metrics
        )

    def reference(self, others: data.ImageSource, folder: AnyPath) -> tuple[FeatureSet, str]:
        """Features of other images, kept in `folder`, and what results call them.

        Raises:
            InputError: images that cannot be read.
        """
        assert self._extractor is not None

        def batches() -> Iterator[Images]:
            for batch in data.eval_batches(others, batch_size=_REFERENCE_BATCH):
                yield batch["image"][batch["mask"]]

        found = reference_features(self._extractor, batches, folder, files_signature(others))
        return found, f"{others.name} {others.split}, {found.moments.count} images"

    def distances(
        self,
        methods: Sequence[Method],
        store: Store,
        images: range,
        others: data.ImageSource | None,
        folder: AnyPath,
    ) -> tuple[Distances, float]:
        """Columns of every (series, level) from its `comparison`, computed by all processes together.

        None without a feature network, or of a single image. Each process reads the features of the set of
        images from the store, batch by batch.

        Returns:
            The columns, and the seconds that they took for each image.
        """
        begin = time.monotonic()
        if not self.has_features or len(images) < 2:
            return {}, 0.0

        def features(name: str = "features") -> Iterator[Float32[np.ndarray, "_ d"]]:
            return (arrays[name] for arrays in store.read(images, [name]))

        comparison = processes.primary_first(lambda: self.comparison(features(), others, folder))
        levels = [(method, level) for method in methods for level in range(len(method.plan.levels))]
        width = len(SET_COLUMNS) * max(len(method.decoders) for method in methods)
        progress = Progress("distances", -(-len(levels) // jax.process_count()), "noise levels")

        def measure(number: int) -> list[float]:
            """The columns of all decoders of a level."""
            method, level = levels[number]
            found: dict[str, Estimates] = {
                decoder: comparison.estimates(
                    FeatureSet.of(features(f"features/{method.prefix}{decoder}/{level}"))
                )
                for decoder in method.decoders
            }
            mean = found.get(_MEAN)
            row: list[float] = []
            for decoder, estimates in found.items():
                if mean is not None and decoder != _MEAN:
                    estimates = {**estimates, **compared_with_mean(estimates, mean)}
                row += set_columns(estimates).values()
            progress.advance()
            return row + [math.nan] * (width - len(row))

        rows = processes.rows_of_all(len(levels), width, measure)
        distances = {
            (method.prefix + decoder, level): _columns(comparison, numbers)
            for (method, level), row in zip(levels, rows, strict=True)
            for decoder, numbers in zip(
                method.decoders, row.reshape(-1, len(SET_COLUMNS)), strict=False
            )
        }
        return distances, (time.monotonic() - begin) / len(images)


def set_point(comparison: Comparison, estimates: Estimates) -> dict[str, Any]:
    """Estimates as columns of results."""
    return _columns(comparison, set_columns(estimates).values())


def _columns(comparison: Comparison, numbers: Iterable[float]) -> dict[str, Any]:
    """`SET_COLUMNS` of a rate point, and what they come from; None is an empty cell."""
    values = {name: finite(number) for name, number in zip(SET_COLUMNS, numbers, strict=True)}
    return {
        **values,
        "fid_features": comparison.network,
        "fid_reference": comparison.description,
    }


def fill_store(
    store: Store,
    images: Selection,
    are_shown: Bool[np.ndarray, " n"],
    batch_size: int,
    methods: Sequence[Method],
    measures: Measures,
    write_rates: Callable[[], None],
) -> dict[str, float | None]:
    """Stores the numbers of the images of this process that the store lacks, and waits for the others.

    Images that `are_shown` keep the pixels of their reconstructions. Process 0 calls `write_rates` sometimes.

    Returns:
        Seconds for each image, of the work of each method; None where there was nothing left to do.
    """
    done = store.done(len(images))
    if done.any():
        logging.info("%d of %d images were swept before", done.sum(), len(done))
    # No batch has images of two subsets, so that those to show are the first of a batch.
    ranges = processes.own_images(done, [subset.start for subset in images.subsets.values()])
    n_batches = sum(-(-len(one) // batch_size) for one in ranges)
    calls = sum(method.evaluations_per_image() for method in methods)
    progress = Progress("sweep", n_batches * calls, "network calls")
    seconds = {method.work: 0.0 for method in methods}
    last_write = time.monotonic()
    for batch in processes.batches(images, ranges, batch_size):
        originals, index = batch["image"][batch["mask"]], batch["index"][batch["mask"]]
        shown = are_shown[index]
        pixels = image_digests(originals)
        made_from = measures.made_from(pixels)
        numbers = {"index": index, **measures.of_originals(originals, shown)}
        numbers |= {MADE_FROM + what: values for what, values in made_from.items()}
        for method in methods:
            begin = time.monotonic()
            rates, reconstructions = method.code(batch, progress.advance)
            numbers |= rates
            for decoder, levels in reconstructions.items():
                series = method.prefix + decoder
                numbers |= measures.of_levels(series, originals, levels, shown)
            seconds[method.work] += time.monotonic() - begin
        store.save(numbers)
        if is_primary() and time.monotonic() - last_write > _SECONDS_BETWEEN_WRITES:
            write_rates()
            last_write = time.monotonic()
    processes.wait_for(store, len(images))
    n_new = sum(map(len, ranges))
    return {work: value / n_new if n_new else None for work, value in seconds.items()}
