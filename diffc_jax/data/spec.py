"""What a source of images looks like, to those who use it and to those who add one."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8


@runtime_checkable
class ImageSource(Protocol):
    """Images by index, in a fixed order.

    Attributes:
        name: what results call the data set, including its variant ("imagenet64-dev").
        split: which part of the data set.
    """

    name: str
    split: str

    def __len__(self) -> int:
        """Number of images, at least 1."""

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The image, always the same for the same index; safe to call from several threads."""

    def label(self, index: int) -> str:
        """Names one image in messages: file and place in it. Nothing is decoded."""


@runtime_checkable
class Store(Protocol):
    """Images as they are kept, before decoding, conversion and scaling.

    Attributes:
        name: name of the data set, derived from where it lies.
    """

    name: str

    @property
    def files(self) -> Sequence[str]:
        """The files that it reads; empty for packages' own data and TFDS."""

    def __len__(self) -> int:
        """Number of images."""

    def label(self, index: int) -> str:
        """Names one image in error messages: file and member."""

    def read(self, index: int) -> bytes | UInt8[np.ndarray, "h w 3"]:
        """An encoded file or RGB pixels; safe to call from several threads."""


@runtime_checkable
class PixelStore(Store, Protocol):
    """A store whose images lie as arrays, all of one size, so that many can be read at once.

    Attributes:
        image_size: height and width of its images, pixels.
    """

    image_size: int

    def rows(self, start: int, stop: int) -> UInt8[np.ndarray, "n s s 3"]:
        """Images `start` to `stop` at once, as views where possible; not to be written to."""
