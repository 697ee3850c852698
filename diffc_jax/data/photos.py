"""Built-in photographs: real images for a first run without any download.

Crops, at several scales, of photographs that lie inside the scikit-image and scikit-learn wheels:

| split | photograph | package | licence |
|---|---|---|---|
| train | astronaut.png | scikit-image | NASA, public domain |
| train | coffee.png | scikit-image | CC0, Rachel Michetti |
| train | rocket.jpg | scikit-image | SpaceX, public domain |
| train | motorcycle_left.png | scikit-image | none stated (Middlebury stereo benchmark 2014) |
| train | flower.jpg | scikit-learn | CC BY 2.0, vultilion |
| eval | chelsea.png | scikit-image | CC0, Stefan van der Walt |
| eval | china.jpg | scikit-learn | CC BY 2.0, danielbuechele |

Nothing is copied from the packages. No photograph is in both splits, and the crops of one scale do
not overlap in the evaluation split, which leaves out nearly flat ones.
"""

import importlib.util
import pathlib

import numpy as np
from jaxtyping import Int, UInt8
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from diffc_jax.config.sources import SourceSpec
from diffc_jax.data.scaling import shrink
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.image_files import as_array, decode_image_file
from diffc_jax.runtime.optional import PACKAGES, missing

# Packages, with the folders in them.
_SKIMAGE, _SKLEARN = ("skimage", "data"), ("sklearn", "datasets/images")
_PHOTOGRAPHS: dict[str, tuple[tuple[tuple[str, str], str], ...]] = {
    "train": (
        (_SKIMAGE, "astronaut.png"),
        (_SKIMAGE, "coffee.png"),
        (_SKIMAGE, "rocket.jpg"),
        (_SKIMAGE, "motorcycle_left.png"),
        (_SKLEARN, "flower.jpg"),
    ),
    "eval": ((_SKIMAGE, "chelsea.png"), (_SKLEARN, "china.jpg")),
}
# Down-scaling factors, each with the distance between neighbouring crops in sides of a crop.
_GRIDS: dict[str, dict[float, float]] = {
    "train": {1.0: 3 / 8, 1.5: 1 / 4, 2.0: 1 / 6, 3.0: 1 / 8, 4.0: 1 / 12},
    "eval": {1.0: 1, 1.5: 1, 2.0: 1, 3.0: 1, 4.0: 1},
}
# Evaluation crops need this standard deviation (8-bit values): patches of empty sky are all alike.
_CONTRAST = 10.0
_GOLDEN_RATIO = (5**0.5 - 1) / 2


class PhotosStore:
    """Crops of the built-in photographs on a fixed grid.

    The order is a fixed permutation that spreads any first N crops over all photographs and scales.
    At 64x64 there are 7563 training crops and 136 evaluation crops.
    """

    files: tuple[str, ...] = ()

    def __init__(self, spec: SourceSpec):
        if spec.split not in _PHOTOGRAPHS:
            raise UsageError(
                f"unknown {spec.split!r} for photos; choose train or eval", field="split"
            )
        self.name = "photos" if spec.resize_filter == "box" else f"photos-{spec.resize_filter}"
        self._size = spec.image_size
        self._names: list[str] = []
        self._images: list[UInt8[np.ndarray, "h w 3"]] = []
        grids: list[Int[np.ndarray, "n 3"]] = []
        for place, file in _PHOTOGRAPHS[spec.split]:
            photograph = _load(place, file)
            for factor, spacing in _GRIDS[spec.split].items():
                shape = (round(photograph.width / factor), round(photograph.height / factor))
                if min(shape) < self._size:
                    continue
                pixels = shrink(photograph, shape, spec.resize_filter)
                positions = _grid(shape, self._size, max(1, round(spacing * self._size)))
                if spec.split == "eval":
                    crops = sliding_window_view(pixels, (self._size, self._size), axis=(0, 1))
                    contrast = crops[positions[:, 1], positions[:, 0]].std(axis=(2, 3)).mean(axis=1)
                    positions = positions[contrast >= _CONTRAST]
                which = np.full((len(positions), 1), len(self._images))
                grids.append(np.concatenate([which, positions], axis=1))
                self._names.append(f"{file} at 1/{factor:g}")
                self._images.append(pixels)
        if not grids:
            raise UsageError(
                f"{self._size} is larger than the built-in photographs; use 256 or less",
                field="image_size",
            )
        grid = np.concatenate(grids)
        order = np.argsort(np.arange(len(grid)) * _GOLDEN_RATIO % 1)
        # An array: at small sizes there are more than a million.
        self._crops = grid[order]

    def _cut(
        self, pixels: UInt8[np.ndarray, "h w 3"], left: int, top: int
    ) -> UInt8[np.ndarray, "s s 3"]:
        return pixels[top : top + self._size, left : left + self._size]

    def __len__(self) -> int:
        return len(self._crops)

    def label(self, index: int) -> str:
        """Photograph, scale and position."""
        image, left, top = self._crops[index].tolist()
        return f"{self._names[image]}, crop at ({left}, {top})"

    def read(self, index: int) -> UInt8[np.ndarray, "h w 3"]:
        """The crop's pixels."""
        image, left, top = self._crops[index].tolist()
        return self._cut(self._images[image], left, top)


def photograph_names() -> list[str]:
    """Files of all photographs, of both splits."""
    return [file for some in _PHOTOGRAPHS.values() for _, file in some]


def photograph(name: str) -> UInt8[np.ndarray, "h w 3"]:
    """A whole photograph.

    Raises:
        KeyError: there is none of this name.
        InputError: its package is not installed.
    """
    places = {file: place for some in _PHOTOGRAPHS.values() for place, file in some}
    return as_array(_load(places[name], name))


def _load(place: tuple[str, str], file: str) -> Image.Image:
    module, folder = place
    package = PACKAGES[module]
    # Found without importing the package, which would take seconds.
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise missing(package)
    path = pathlib.Path(found.origin).parent / folder / file
    try:
        return decode_image_file(path.read_bytes(), str(path)).image.convert("RGB")
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error}); reinstall {package.distribution}"
        ) from error


def _grid(shape: tuple[int, int], size: int, step: int) -> Int[np.ndarray, "n 2"]:
    lefts, tops = (np.arange((side - size) % step // 2, side - size + 1, step) for side in shape)
    return np.stack(np.meshgrid(lefts, tops, indexing="ij"), axis=-1).reshape(-1, 2)
