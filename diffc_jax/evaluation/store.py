"""Numbers of finished batches on disk, so that a killed evaluation goes on where it was."""

import collections
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging
from jaxtyping import Bool, PyTree, Shaped
from ml_collections import ConfigDict

from diffc_jax.models import default_fields
from diffc_jax.runtime import files
from diffc_jax.runtime.array_files import ArrayFile, open_arrays
from diffc_jax.runtime.run_config import flatten

Arrays = dict[str, np.ndarray]
# Raised by hand with every change of the code that gives other numbers for the same image, weights and
# config, so that none of before are used.
NUMBERS_VERSION = 3
# How arrays are called that tell what the numbers of an image were made from.
MADE_FROM = "made_from/"
# Fields of config.eval that change no number of an image.
_OF_OTHER_NUMBERS = (
    *("batch_size", "bound_times", "params", "set_metrics", "samples", "sample_steps"),
)
# Fields of a network that change no number either: they are of its training.
_OF_TRAINING = ("remat", "dropout")
_RANGE = re.compile(r"(\d{8,})-(\d{8,})")


class Store:
    """One npz file for each batch, named by the range of images that it holds.

    The first axis of every array is that of images, and every batch has "index"; pixels may be of the
    first images of a batch only. Arrays "made_from/WHAT" tell the inputs of each image from others that the
    name of the folder does not tell apart.
    """

    def __init__(self, folder: files.AnyPath):
        """`folder` belongs to this store; `open_store` names it after what the numbers depend on."""
        self._folder = folder

    def save(self, batch: Arrays) -> None:
        """Writes the numbers of a batch of neighbouring images, whole or not at all."""
        index = batch["index"]
        path = self._folder / f"{index[0]:08d}-{index[-1] + 1:08d}.npz"
        with files.atomic_write(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **batch)

    def forget_changed(self, made_from: Mapping[str, Shaped[np.ndarray, "n ..."]]) -> None:
        """Removes batches of images that were made from something else than `made_from`, and says why.

        `made_from` has, for all images, the arrays "made_from/WHAT" of batches by WHAT. Batches of older
        versions have none, and stay.

        Raises:
            InputError: a damaged file.
        """
        changed, unknown = collections.Counter[str](), 0
        for start, end, path in self._ranges():
            with _opened(path) as batch:
                before = {
                    what: batch.read(MADE_FROM + what) if MADE_FROM + what in batch.names else None
                    for what in made_from
                }
            now = {what: values[start:end] for what, values in made_from.items()}
            differing = [
                what
                for what, kept in before.items()
                if kept is not None and not np.array_equal(kept[: len(now[what])], now[what])
            ]
            if differing:
                changed[" and ".join(differing)] += end - start
                path.unlink()
            elif any(kept is None for kept in before.values()):
                unknown += end - start
        for what, count in changed.items():
            logging.warning(
                "%s: %d images are measured again: they, or neighbours in their batches, had other %s before",
                *(self._folder, count, what),
            )
        if unknown:
            logging.info(
                "%s: %d images were measured by an older version without digests; they count as unchanged",
                *(self._folder, unknown),
            )

    def done(self, count: int) -> Bool[np.ndarray, " count"]:
        """Which of images 0 to count - 1 have been saved."""
        done = np.zeros(count, bool)
        for start, end, _ in self._ranges():
            done[start:end] = True
        return done

    def read(self, images: range, names: Sequence[str] = ()) -> Iterator[Arrays]:
        """Numbers of neighbouring images in order, up to the first that has none.

        One batch is in memory at a time. Arrays not in `names` stay on disk; none means all. Batches without
        one skip it.

        Raises:
            InputError: a damaged file.
        """
        stop = images.start
        for start, end, path in self._ranges():
            if start > stop:
                return
            # Ranges overlap after a change of the batch size.
            new = slice(stop - start, max(min(images.stop, end) - start, 0))
            if new.start >= new.stop:
                continue
            stop = end
            with _opened(path) as batch:
                present = [name for name in names or batch.names if name in batch.names]
                values = {name: _rows(batch, name, end - start)[new] for name in present}
            yield values

    def _ranges(self) -> list[tuple[int, int, files.AnyPath]]:
        # Temporary files, which a killed process leaves behind, begin with a dot.
        paths = sorted(self._folder.glob("[0-9]*.npz"))
        found = [(_RANGE.fullmatch(path.stem), path) for path in paths]
        return [(int(ends[1]), int(ends[2]), path) for ends, path in found if ends]


def _opened(path: files.AnyPath) -> contextlib.AbstractContextManager[ArrayFile]:
    """The arrays of a batch; InputError if it is damaged."""
    return open_arrays(path, "is damaged", "delete it and run again")


def _rows(batch: ArrayFile, name: str, count: int) -> np.ndarray:
    """The array of a batch of `count` images; pixels may be of fewer."""
    array = batch.read(name, kind=np.number)
    if array.ndim < 1 or (
        len(array) != count and not (name.startswith("pixels") and len(array) < count)
    ):
        raise batch.refuse(f"{name!r} has shape {array.shape}, and there are {count} images")
    return array


def open_store(
    workdir: files.AnyPath, config: ConfigDict, dataset: str, parameters: PyTree
) -> Store:
    """The store in W/eval/progress of the numbers that these parameters give for a config and its images."""
    key = fingerprint(what_numbers_depend_on(config, dataset), parameters)
    return Store(workdir / "eval" / "progress" / key)


def open_samples(
    workdir: files.AnyPath, config: ConfigDict, network: str, parameters: PyTree
) -> Store:
    """The store in W/eval/progress of unconditional samples, with features of the network so called."""
    description = {
        "seed": config.seed,
        "image_size": config.data.image_size,
        "model": _model(config),
        "schedule": config.schedule.to_dict(),
        "sample_steps": config.eval.sample_steps,
        "features": network,
        "version": NUMBERS_VERSION,
    }
    key = fingerprint(description, parameters)
    return Store(workdir / "eval" / "progress" / f"samples-{key}")


def what_numbers_depend_on(config: ConfigDict, dataset: str) -> dict[str, Any]:
    """Everything but the parameters that changes the numbers of an image, as JSON can say it.

    How many images there are and how they are batched changes none, nor does the path of the parameters; but
    where there are subsets, their sizes say which image an index means.
    """
    settings = config.eval.to_dict()
    for field in _OF_OTHER_NUMBERS:
        del settings[field]
    # Under the name that the field had, so that what was stored before is found.
    settings["families"] = settings.pop("subsets")
    if not settings["families"]:
        del settings["max_images"]
    return {
        "seed": config.seed,
        "dataset": dataset,
        "images": {"image_size": config.data.image_size, **config.data.eval.to_dict()},
        "model": _model(config),
        "schedule": config.schedule.to_dict(),
        "eval": settings,
        "version": NUMBERS_VERSION,
    }


def _model(config: ConfigDict) -> dict[str, Any]:
    """Fields of the model that differ from its defaults, so that it is the same if one is written out."""
    defaults = flatten(default_fields(config.model.name))
    return {
        field: value
        for field, value in flatten(config.model).items()
        if field.rpartition(".")[2] not in _OF_TRAINING
        and (field not in defaults or defaults[field] != value)
    }


def fingerprint(description: Mapping[str, Any], params: PyTree) -> str:
    """Twelve hexadecimal digits that stand for a description and the values of parameters."""
    digest = hashlib.sha1(usedforsecurity=False)
    digest.update(json.dumps(description, sort_keys=True, allow_nan=False).encode())
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]
