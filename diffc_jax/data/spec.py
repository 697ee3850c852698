"""What a source of images is asked for, and what it looks like from outside."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

RESIZE_MODES = ("refuse", "squash", "crop")
NON_RGB_MODES = ("refuse", "convert")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """Which images, and how they become `image_size` x `image_size` RGB.

    Attributes:
        source: photos, tfds, npz, pickle, folder, tar, array_record or packed.
        path: file, folder or glob, several separated by commas (all sources but photos); for tfds
            the data directory or the folder of one prepared data set, empty for the default.
        name: the TFDS builder ("imagenet_resized/64x64"); for other sources what results call the
            data set, empty for a name derived from the path.
        split: "train" or "eval" for photos; a TFDS split; "train" or "validation" choose among the
            official ImageNet files in a folder; for other sources only recorded in results.
        image_size: height and width of every image, pixels.
        resize: what happens to an image of another size. "refuse" makes it an error; "squash"
            scales it with a box filter without keeping the aspect; "crop" takes the central square
            and scales it with a box filter. Smaller images are never enlarged.
        non_rgb: what happens to an image that is not 8-bit RGB. "refuse" makes it an error;
            "convert" repeats grey three times, expands palettes, puts alpha on black and keeps the
            high byte of 16-bit values.
        skip_corrupt: leave out images that cannot be decoded, log each by name. Every image is
            decoded once when the source is opened.
        max_images: use only the first images of the source's fixed order; 0 means all.
    """

    source: str = "photos"
    path: str = ""
    name: str = ""
    split: str = "train"
    image_size: int = 64
    resize: str = "refuse"
    non_rgb: str = "refuse"
    skip_corrupt: bool = False
    max_images: int = 0


@runtime_checkable
class ImageSource(Protocol):
    """Images by index, in a fixed order.

    Attributes:
        name: what results call the data set, including its variant ("imagenet64-dev/hq64").
        split: which part of the data set.
    """

    name: str
    split: str

    def __len__(self) -> int:
        """Number of images, at least 1."""
        ...

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The image, always the same for the same index; safe to call from several threads."""
        ...

    def label(self, index: int) -> str:
        """Names one image in messages: file and place in it. Nothing is decoded."""
        ...


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
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def label(self, index: int) -> str:
        """Names one image in error messages: file and member."""
        ...

    def read(self, index: int) -> bytes | UInt8[np.ndarray, "h w 3"]:
        """An encoded file or RGB pixels; safe to call from several threads."""
        ...


@runtime_checkable
class PixelStore(Store, Protocol):
    """A store whose images lie as arrays, all of one size, so that many can be had at once.

    Attributes:
        image_size: height and width of its images, pixels.
    """

    image_size: int

    def rows(self, start: int, stop: int) -> UInt8[np.ndarray, "n s s 3"]:
        """Images `start` to `stop` at once, as views where possible; not to be written to."""
        ...
