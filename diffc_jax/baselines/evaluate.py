"""`evaluate_baselines(config, workdir)`: the methods to compare with, on the images of the sweep."""

import pathlib

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.baselines.classical import PER_IMAGE_FIELDS, evaluate_codecs, select_codecs
from diffc_jax.environment import write_environment
from diffc_jax.errors import UsageError
from diffc_jax.results import replace_rate_points, write_table
from diffc_jax.training.experiment import open_source

_BATCH = 256


def evaluate_baselines(config: ConfigDict, workdir: pathlib.Path) -> None:
    """Writes the rows of config.baselines.codecs to W/eval/rd.csv and per_image_baselines.csv.

    Args:
        config: a validated config; the images are those of config.data.eval and eval.max_images.
        workdir: folder of the results; rows of other methods in it are kept.

    Raises:
        UsageError: an unknown codec.
        InputError: images that cannot be read, or a codec that is not installed.
    """
    check_codecs(config)
    source = open_source(config, "eval")
    count = min(config.eval.max_images or len(source), len(source))
    batches = data.eval_batches(source, batch_size=_BATCH, stop=count)
    images = np.concatenate([batch["image"][batch["mask"]] for batch in batches])
    points, rows = evaluate_codecs(
        images, dataset=source.name, split=source.split, codecs=tuple(config.baselines.codecs)
    )
    methods = {point.method for point in points}
    folder = workdir / "eval"
    replace_rate_points(folder / "rd.csv", points, lambda point: point.method in methods)
    write_table(folder / "per_image_baselines.csv", PER_IMAGE_FIELDS, rows)
    write_environment(folder)
    logging.info("%d rate points of %s in %s", len(points), ", ".join(sorted(methods)), folder)


def check_codecs(config: ConfigDict) -> None:
    """Checks config.baselines.codecs.

    Raises:
        UsageError: empty, or an unknown codec.
        InputError: a codec that is not installed.
    """
    try:
        select_codecs(config.baselines.codecs)
    except UsageError as error:
        raise UsageError(f"baselines.{error}") from error
