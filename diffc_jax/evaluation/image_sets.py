"""`eval/images.json`: which images the rows of `rd.csv` beside it are of, by their pixels."""

import dataclasses
from collections.abc import Collection
from typing import TypedDict

from absl import logging

from diffc_jax.data.identity import Digests, set_digest
from diffc_jax.evaluation.result_files import IMAGES, OF_IMAGES, RATES
from diffc_jax.evaluation.results import read_rate_points, write_rate_points
from diffc_jax.evaluation.subsets import ResultSet
from diffc_jax.runtime import files
from diffc_jax.typed import Count


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

    @property
    def name(self) -> tuple[str, str, int]:
        """What results call it."""
        return self.dataset, self.split, self.n_images


class _Fields(TypedDict):
    """Those of `ImageSet` in the file."""

    dataset: str
    split: str
    n_images: Count
    digest: str


class _Content(_Fields, total=False):
    others: list[_Fields]


def read_images(folder: files.AnyPath) -> ImageSet | None:
    """What `images.json` in a folder `eval` says; None for results of older versions, which have none.

    Raises:
        InputError: it is damaged.
    """
    sets = _read_sets(folder)
    return sets[0] if sets else None


def _read_sets(folder: files.AnyPath) -> list[ImageSet]:
    """The set that was evaluated last, and others of which there may be rows: other numbers of images."""
    path = folder / IMAGES
    if not path.exists():
        return []
    content = files.read_json(path, _Content, "delete it and run again")
    return [
        ImageSet(**{name: one[name] for name in _Fields.__annotations__})
        for one in (content, *content.get("others", ()))
    ]


def claim_images(result: ResultSet, digests: Digests, methods: Collection[str]) -> None:
    """Says in the folder of results which images they are of, before rows of `methods` are written there.

    Rows of other images that are called the same go away, for they would be compared, and so does all else
    that is about them; the log names the methods that do not come back now.
    """
    now = ImageSet(result.dataset, result.split, len(result.images), set_digest(digests))
    before, path = _read_sets(result.folder), result.folder / RATES
    if before and now not in before and path.exists():
        points = read_rate_points(path)
        kept = [p for p in points if (p.dataset, p.split, p.n_images) != now.name]
        if lost := {p.method for p in points} - {p.method for p in kept} - {*methods}:
            logging.warning(
                "%s: removed the rows of %s: the %d images of %s %s have other pixels now",
                *(path, ", ".join(sorted(lost)), now.n_images, now.dataset, now.split),
            )
        if len(kept) < len(points):
            write_rate_points(path, kept)
            for name in OF_IMAGES:
                (result.folder / name).unlink(missing_ok=True)
    others = [dataclasses.asdict(one) for one in before if one.name != now.name]
    content = dataclasses.asdict(now) | ({"others": others} if others else {})
    files.write_json(result.folder / IMAGES, content)
