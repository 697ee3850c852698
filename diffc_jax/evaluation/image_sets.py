"""`eval/images.json`: which images the rows of `rd.csv` beside it are of, by their pixels."""

import dataclasses
from collections.abc import Collection
from typing import TypedDict

from absl import logging

from diffc_jax.data.identity import Digests, set_digest
from diffc_jax.evaluation.results import read_rate_points, write_rate_points
from diffc_jax.evaluation.subsets import ResultSet
from diffc_jax.runtime import files
from diffc_jax.typed import Count

IMAGES = "images.json"


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Images of results.

    Attributes:
        dataset: as in results, like the two others.
        split: of the data set.
        n_images: number of images.
        digest: `data.identity.set_digest` of them.
    """

    dataset: str
    split: str
    n_images: int
    digest: str


class _Fields(TypedDict):
    """Those of `ImageSet` in the file."""

    dataset: str
    split: str
    n_images: Count
    digest: str


def read_images(folder: files.AnyPath) -> ImageSet | None:
    """What `images.json` in a folder `eval` says; None for results of older versions, which have none.

    Raises:
        InputError: it is damaged.
    """
    path = folder / IMAGES
    if not path.exists():
        return None
    content = files.read_json(path, _Fields, "delete it and run again")
    return ImageSet(**{name: content[name] for name in _Fields.__annotations__})


def claim_images(result: ResultSet, digests: Digests, methods: Collection[str]) -> None:
    """Says in the folder of results which images they are of, before rows of `methods` are written there.

    Rows of other images that are called the same go away, for they would be compared; the log names those
    that do not come back now.
    """
    now = ImageSet(result.dataset, result.split, len(result.images), set_digest(digests))
    before, path = read_images(result.folder), result.folder / "rd.csv"
    if before is not None and before != now and path.exists():
        points = read_rate_points(path)
        kept = [
            p for p in points if (p.dataset, p.split, p.n_images) != dataclasses.astuple(now)[:3]
        ]
        if lost := {p.method for p in points} - {p.method for p in kept} - {*methods}:
            logging.warning(
                "%s: removed the rows of %s: the %d images of %s %s have other pixels now",
                *(path, ", ".join(sorted(lost)), now.n_images, now.dataset, now.split),
            )
        write_rate_points(path, kept)
    files.write_json(result.folder / IMAGES, dataclasses.asdict(now))
