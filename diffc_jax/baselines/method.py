"""A baseline: one codec at one setting. It sends images as real files, whose bytes are its rate."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int, PyTree, UInt8

Images = UInt8[np.ndarray, "b h w 3"]


@dataclasses.dataclass(frozen=True, eq=False)
class Coded:
    """A batch of images that were sent.

    Attributes:
        sizes: bytes of the whole file of each image, and without its header.
        decoded: what the files decode to.
        estimates: bits that entropy models estimate for each file, if they do.
    """

    sizes: Int[np.ndarray, "b 2"]
    decoded: Images
    estimates: Float[np.ndarray, " b"] | None = None


class Baseline(abc.ABC):
    """One codec at one setting.

    Attributes:
        curve: name that all settings of the codec have, and no other codec has.
        identity: columns of results that are the same for all images: `method`, `model`, `level` and the cost
            of training.
        params: what was trained, for the name of the numbers on disk; None for classical codecs.
    """

    curve: str
    identity: Mapping[str, Any]
    params: PyTree

    @abc.abstractmethod
    def made_by(self) -> dict[str, Any]:
        """Everything but `params` that its files depend on, as JSON can say it."""

    @abc.abstractmethod
    def code(
        self, images: Images, indices: Int[np.ndarray, " b"], on_files: Callable[[int], None]
    ) -> Coded:
        """Sends images.

        Args:
            images: of one batch.
            indices: of the images in the selection; shared randomness depends on them.
            on_files: called with the number of files that are finished.

        Raises:
            UsageError: images of a size that the codec does not take.
            InputError: likewise, for a reason that lies with the encoder.
        """
