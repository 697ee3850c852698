"""`evaluate_baselines(config, workdir)`: the methods to compare with, on the images of the sweep."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging
from jaxtyping import Float32, UInt8
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.baselines.classical import evaluate_codecs
from diffc_jax.baselines.codecs import select_codecs
from diffc_jax.baselines.hific.runs import evaluate_runs, find_runs, load_run
from diffc_jax.baselines.lossless import measure_lossless
from diffc_jax.baselines.points import PER_IMAGE_FIELDS, CodecPoint
from diffc_jax.environment import write_environment
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.quality import COLUMNS, Quality
from diffc_jax.files import AnyPath, replacing, write_json
from diffc_jax.moments import Averages
from diffc_jax.results import RatePoint, replace_rate_points, write_table
from diffc_jax.training.experiment import open_source
from diffc_jax.training.sharding import make_mesh

_BATCH = 256


def evaluate_baselines(
    config: ConfigDict, workdir: AnyPath, trained: Sequence[AnyPath] = ()
) -> None:
    """Writes the rows of config.baselines to W/eval/rd.csv, and files of their own beside it.

    The methods are config.baselines.codecs and the trained networks in config.baselines.trained; the files
    are per_image_baselines.csv and, for the first images, reconstructions_baselines.npz. With codecs also
    lossless.json, the bits per dimension of lossless ones.

    Args:
        config: a validated config; the images are those of config.data.eval and eval.max_images, measured
            as config.eval.features and config.eval.image_metrics say.
        workdir: folder of the results; rows of other methods in it are kept.
        trained: folders of more trained networks.

    Raises:
        UsageError: an unknown codec, or neither codecs nor trained networks.
        InputError: images that cannot be read, a codec that is not installed, or missing weights.
    """
    check_baselines(config)
    runs = [load_run(path) for path in (*find_runs(config.baselines.trained), *trained)]
    if not (runs or config.baselines.codecs):
        raise UsageError(
            "baselines.codecs, baselines.trained: both are empty, there is nothing to measure"
        )
    source = open_source(config, "eval")
    quality = Quality(config, make_mesh())
    count = min(config.eval.max_images or len(source), len(source))
    batches = data.eval_batches(source, batch_size=_BATCH, stop=count)
    images = np.concatenate([batch["image"][batch["mask"]] for batch in batches])
    folder = workdir / "eval"
    reference = None
    if quality.has_features and count > 1:
        originals = functools.partial(_features, quality, images)
        reference = quality.reference(config, originals, folder / "reference")

    points: list[RatePoint] = []
    pictures = _Pictures(images[: config.eval.grid_images])

    def measured_rows() -> Iterator[dict[str, Any]]:
        codecs = tuple(config.baselines.codecs)
        for codec_point in itertools.chain(
            evaluate_runs(runs, images, source.name, source.split),
            evaluate_codecs(images, source.name, source.split, codecs=codecs),
        ):
            columns = _perceptual_columns(quality, images, codec_point.decoded)
            if reference is not None:
                distance = reference.distance(_features(quality, codec_point.decoded))
                columns |= dataclasses.asdict(distance)
            points.append(dataclasses.replace(codec_point.point, **columns))
            pictures.add(codec_point)
            yield from codec_point.rows

    write_table(folder / "per_image_baselines.csv", PER_IMAGE_FIELDS, measured_rows())
    methods = {point.method for point in points}
    replace_rate_points(folder / "rd.csv", points, lambda point: point.method in methods)
    pictures.save(folder / "reconstructions_baselines.npz")
    if config.baselines.codecs:
        origin = {"n_images": count, "dataset": source.name, "split": source.split}
        write_json(folder / "lossless.json", measure_lossless(images) | origin)
    write_environment(folder)
    logging.info("%d rate points of %s in %s", len(points), ", ".join(sorted(methods)), folder)


def check_baselines(config: ConfigDict) -> None:
    """Checks config.baselines.

    Raises:
        UsageError: an unknown codec.
        InputError: a codec that is not installed, or a folder of trained networks that does not exist.
    """
    find_runs(config.baselines.trained)
    try:
        select_codecs(config.baselines.codecs)
    except UsageError as error:
        raise UsageError(f"baselines.{error}") from error


def _perceptual_columns(
    quality: Quality, images: UInt8[np.ndarray, "n h w 3"], decoded: UInt8[np.ndarray, "n h w 3"]
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for metric, values in quality.pairs(images, decoded).items():
        average = Averages.of(np.asarray(values, np.float64))
        columns[COLUMNS[metric]] = float(average.mean)
        columns[f"{COLUMNS[metric]}_stderr"] = float(average.stderr) if len(images) > 1 else None
    return columns


def _features(
    quality: Quality, images: UInt8[np.ndarray, "n h w 3"]
) -> Iterator[Float32[np.ndarray, "_ d"]]:
    for start in range(0, len(images), _BATCH):
        yield quality.features(images[start : start + _BATCH])


class _Pictures:
    """The first images as every codec and quality gives them, in the layout of docs/formats.md."""

    def __init__(self, originals: UInt8[np.ndarray, "n h w 3"]):
        self._originals = originals
        self._points: dict[str, list[CodecPoint]] = {}

    def add(self, point: CodecPoint) -> None:
        """Keeps the first images of a point."""
        first = dataclasses.replace(
            point,
            rows=point.rows[: len(self._originals)],
            decoded=point.decoded[: len(self._originals)].copy(),
        )
        self._points.setdefault(point.name, []).append(first)

    def save(self, path: AnyPath) -> None:
        """Writes them, whole or not at all."""
        if not len(self._originals):
            return
        arrays = {"index": np.arange(len(self._originals)), "original": self._originals}
        for name, points in self._points.items():
            first = points[0].point
            arrays |= {
                f"{name}/images": np.stack([p.decoded for p in points], axis=1),
                f"{name}/level": np.array([p.point.level for p in points]),
                f"{name}/method": np.array(first.method),
                f"{name}/model": np.array(first.model or ""),
            }
            for field in ("bpp", "psnr"):
                values = [[row[field] for row in p.rows] for p in points]
                arrays[f"{name}/{field}"] = np.array(values).T
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
