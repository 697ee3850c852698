"""What an evaluation asks of a method: numbers of a batch of images, and the columns they become."""

import abc
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from diffc_jax.data import Batch
from diffc_jax.evaluation.plan import SweepPlan
from diffc_jax.evaluation.store import Arrays
from diffc_jax.metrics.statistics import RunningMean

Images = UInt8[np.ndarray, "b h w 3"]
# Means over images, by the names of what `Method.averaged` gives.
Means = Mapping[str, RunningMean]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a CSV file and the order of their fields."""

    fields: Sequence[str]
    rows: Iterable[Mapping[str, Any]]


class Method(abc.ABC):
    """A way to send images at several noise levels, with several decoders.

    Attributes:
        name: `method` in rd.csv.
        work: what its time is called in summary.json.
        rate_kind: `rate_kind` in rd.csv.
        plan: the noise levels.
        decoders: what the receiver may do; none if the method is left out.
        image_table: file of its numbers of every image.
        image_columns: columns of that table, between those that all methods have.
        reconstructions: file of its reconstructions of the first images.
        arrays: names of the numbers of an image that `code` gives.
        prefix: put before a decoder's name to make its SERIES, as in the arrays "mse/SERIES"; empty for the
            sweep.
    """

    name: str
    work: str
    rate_kind: str
    plan: SweepPlan
    decoders: tuple[str, ...]
    image_table: str
    image_columns: tuple[str, ...]
    reconstructions: str
    arrays: tuple[str, ...]
    prefix: str

    @abc.abstractmethod
    def evaluations_per_image(self) -> int:
        """Denoiser evaluations that `code` reports for each image."""

    @abc.abstractmethod
    def code(
        self, batch: Batch, on_evaluations: Callable[[int], None]
    ) -> tuple[Arrays, dict[str, list[Images]]]:
        """Sends the images of a batch.

        Args:
            batch: "image", "index" and "mask" (False for padding) of `data.eval_batches`.
            on_evaluations: called with the number of denoiser evaluations of each finished piece of work.

        Returns:
            `arrays`; and for each decoder the reconstructions at each level. None of them of padding.
        """

    @abc.abstractmethod
    def averaged(self, numbers: Arrays) -> Arrays:
        """Numbers of each image whose means `rate` needs.

        Args:
            numbers: arrays of all methods, with "psnr/SERIES".
        """

    @abc.abstractmethod
    def rate(self, means: Means, level: int) -> dict[str, Any]:
        """Columns of a rate point that the decoder does not change, `gamma` among them.

        Args:
            means: over the images.
            level: position in the levels of the plan.
        """

    @abc.abstractmethod
    def image_rates(self, numbers: Arrays) -> dict[str, Shaped[np.ndarray, "b l"]]:
        """`gamma` and `image_columns` of each image at each level."""

    @abc.abstractmethod
    def shown(self, first: Arrays) -> Arrays:
        """What the file of reconstructions has beside `index` and `original`.

        Args:
            first: numbers of the first images of a set, "pixels/SERIES" of all that are shown among them.
        """

    @abc.abstractmethod
    def summary(self, means: Means, elbo: Mapping[str, float]) -> dict[str, Any]:
        """What it adds to summary.json.

        Args:
            means: over the images.
            elbo: the negative ELBO in continuous time and its terms, bits/dim.
        """

    @abc.abstractmethod
    def tables(self, means: Means) -> dict[str, Table]:
        """Further tables by the name of their file."""
