"""Numbers of every image that baselines sent, on disk batch by batch: a stopped run goes on where it was.

One store (`evaluation.store`) for each baseline, one for the originals and one for lossless codecs. One
batch of images is in memory at a time, and nothing is measured again as long as images, encoders, their
settings and measures stay the same.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, PyTree
from ml_collections import ConfigDict

from diffc_jax.baselines.lossless import LOSSLESS, lossless_versions, measure_lossless
from diffc_jax.baselines.method import Baseline, Images
from diffc_jax.baselines.points import CodecPoint
from diffc_jax.data.identity import Digests
from diffc_jax.evaluation import processes
from diffc_jax.evaluation.measures import Measures
from diffc_jax.evaluation.spectra import Spectra, spectra_of_originals, stored_spectra
from diffc_jax.evaluation.store import MADE_FROM, NUMBERS_VERSION, Arrays, Store, fingerprint
from diffc_jax.evaluation.subsets import ResultSet, Selection
from diffc_jax.runtime.files import AnyPath
from diffc_jax.runtime.progress import Progress

# The one series of a baseline's store: its numbers are called "MEASURE/file".
_SERIES = "file"
_SIZES, _ESTIMATES = "sizes", "estimates"
_FEATURES, _PIXELS = "features", "pixels"
_BATCH = 256

# Of the images of a batch, their indices, and whether they are shown.
_Measure = Callable[[Images, Int[np.ndarray, " b"], Bool[np.ndarray, " b"]], Arrays]


class BaselineStores:
    """The stores of an evaluation of baselines."""

    def __init__(
        self,
        folder: AnyPath,
        settings: ConfigDict,
        images: Selection,
        measures: Measures,
        baselines: Sequence[Baseline],
        *,
        lossless: bool,
    ):
        """Stores in `folder`, of config.eval, `settings`; `lossless` codecs shall be measured, too."""
        self._images, self._measures = images, measures
        self._are_shown = images.are_first(settings.grid_images)
        self._metrics = [f"{name}/{_SERIES}" for name in ("mse", *settings.image_metrics)]
        depend_on = {
            "features": settings.features,
            "image_metrics": list(settings.image_metrics),
            "shown": [settings.grid_images, *settings.subsets],
            "version": NUMBERS_VERSION,
        }

        def store(name: str, made_by: Mapping[str, Any], params: PyTree = None) -> Store:
            key = fingerprint({"made_by": dict(made_by), **depend_on}, params)
            return Store(folder / f"{name}-{key}")

        self._stores = {
            one: store(
                f"{one.identity['method']}-{one.identity['level']:g}", one.made_by(), one.params
            )
            for one in baselines
        }
        self._originals = store("originals", {})
        self._lossless = store("lossless", lossless_versions()) if lossless else None

    def fill(self, pixels: Digests) -> None:
        """Measures what is not there yet, of images with these digests.

        Raises:
            UsageError: images of a size that a baseline does not take.
            InputError: likewise; images that cannot be read, a lossless codec that is none, a damaged file.
        """
        made_from = self._measures.made_from(pixels)
        jobs: list[tuple[Store, int, _Measure]] = [(self._originals, 0, self._of_originals)]
        jobs += [
            (store, 1, functools.partial(self._of_files, baseline))
            for baseline, store in self._stores.items()
        ]
        if self._lossless:
            n_settings = sum(len(codec.settings) for codec in LOSSLESS.values())
            jobs.append((self._lossless, n_settings, self._of_lossless))
        n_done = 0
        for store, n_files, _ in jobs:
            store.forget_changed(made_from)
            n_done += n_files * int(store.done(len(pixels)).sum())
        total = len(pixels) * sum(n_files for _, n_files, _ in jobs)
        self._on_files = Progress("baselines", total, "files", done=n_done).advance
        # No batch has images of two subsets, so that those to show are the first of a batch.
        starts = [subset.start for subset in self._images.subsets.values()]
        for store, _, measure in jobs:
            missing = processes.own_images(store.done(len(pixels)), starts)
            for batch in processes.batches(self._images, missing, _BATCH):
                images, index = (batch[name][batch["mask"]] for name in ("image", "index"))
                own = {MADE_FROM + what: values[index] for what, values in made_from.items()}
                numbers = measure(images, index, self._are_shown[index])
                store.save({"index": index, **own, **numbers})

    def point(self, baseline: Baseline, result: ResultSet, n_pixels: int) -> CodecPoint:
        """Bytes and errors of the images of a set, each of `n_pixels`, and metrics of images."""
        names = [_SIZES, _ESTIMATES, *self._metrics]
        found = _joined(self._stores[baseline].read(result.images, names))
        errors, *metrics = (found[name][:, 0] for name in self._metrics)
        return CodecPoint(
            {**baseline.identity, "dataset": result.dataset, "split": result.split},
            result.images,
            n_pixels,
            found[_SIZES],
            errors,
            found.get(_ESTIMATES),
            dict(zip((name.split("/")[0] for name in self._metrics[1:]), metrics, strict=True)),
        )

    def features(
        self, images: range, baseline: Baseline | None = None
    ) -> Iterator[Float32[np.ndarray, "_ d"]]:
        """Features of images as a baseline sent them, or as they are, batch by batch."""
        store, name = self._originals, _FEATURES
        if baseline is not None:
            store, name = self._stores[baseline], f"{_FEATURES}/{_SERIES}/0"
        return (arrays[name] for arrays in store.read(images, [name]))

    def spectra(self, images: range, baseline: Baseline) -> Spectra:
        """Means over images."""
        ((spectra,),) = stored_spectra(self._stores[baseline], images, [_SERIES]).values()
        return spectra

    def shown(self, images: range, baseline: Baseline | None = None) -> Images:
        """Images that are shown, as a baseline sent them or as they are."""
        if baseline is None:
            return _joined(self._originals.read(images, [_PIXELS]))[_PIXELS]
        name = f"{_PIXELS}/{_SERIES}"
        return _joined(self._stores[baseline].read(images, [name]))[name][:, 0]

    def lossless_bits(self, images: range) -> Arrays | None:
        """`measure_lossless` of images; None if that was not asked for."""
        return _joined(self._lossless.read(images, [*LOSSLESS])) if self._lossless else None

    def _of_originals(
        self, images: Images, index: Int[np.ndarray, " b"], shown: Bool[np.ndarray, " b"]
    ) -> Arrays:
        del index
        return self._measures.of_originals(images, shown)

    def _of_files(
        self,
        baseline: Baseline,
        images: Images,
        index: Int[np.ndarray, " b"],
        shown: Bool[np.ndarray, " b"],
    ) -> Arrays:
        coded = baseline.code(images, index, self._on_files)
        numbers = {_SIZES: coded.sizes, **spectra_of_originals(images)}
        if coded.estimates is not None:
            numbers[_ESTIMATES] = coded.estimates
        return numbers | self._measures.of_levels(_SERIES, images, [coded.decoded], shown)

    def _of_lossless(
        self, images: Images, index: Int[np.ndarray, " b"], shown: Bool[np.ndarray, " b"]
    ) -> Arrays:
        del index, shown
        return dict(measure_lossless(images, self._on_files))


def _joined(batches: Iterable[Arrays]) -> Arrays:
    """Numbers of all images of some batches."""
    parts = list(batches)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
