"""Inception-v3 as the Fréchet Inception Distance uses it (TensorFlow's graph of 2015-12-05).

Szegedy et al. 2016 (arXiv:1512.00567), with the deviations that the weights of pytorch-fid
(`pt_inception-2015-12-05-6726825d.pth`) were ported with: average pools leave padding out of the
mean, and the last block pools by maximum. Parameters carry PyTorch's names.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from diffc_jax.metrics.features.extract import FeatureNetwork
from diffc_jax.models.base import Variables
from diffc_jax.runtime.tensor_checks import Shape, check_tensors
from diffc_jax.runtime.torch_layout import from_state_dict, torch_shapes

NAME = "inception_v3_fid"
DIMENSION = 2048
_INPUT_SIZE = 299
_LOGITS = 1008

_Spec = tuple[int, tuple[int, int]]


class _Conv(nn.Module):
    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        # Accelerators multiply in less than float32 unless told otherwise, which moves the distance.
        x = nn.Conv(
            self.features,
            self.kernel,
            self.stride,
            self.padding,
            use_bias=False,
            precision=jax.lax.Precision.HIGHEST,
            name="conv",
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=1e-3, name="bn")(x))


def _chain(x: Array, name: str, *specs: _Spec) -> Array:
    """Convolutions `name_1`, `name_2`, ... of (features, kernel), one after the other."""
    for i, (features, kernel) in enumerate(specs, start=1):
        x = _Conv(features, kernel, name=f"{name}_{i}")(x)
    return x


def _reduce(x: Array, features: int, name: str) -> Array:
    return _Conv(features, (3, 3), 2, "VALID", name=name)(x)


def _concatenate(branches: Sequence[Array]) -> Array:
    return jnp.concatenate(branches, axis=-1)


_average_pool = functools.partial(
    nn.avg_pool, window_shape=(3, 3), padding="SAME", count_include_pad=False
)
_max_pool = functools.partial(nn.max_pool, window_shape=(3, 3), padding="SAME")
_halving_pool = functools.partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2))


class _BlockA(nn.Module):
    pool_features: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        return _concatenate(
            [
                _Conv(64, name="branch1x1")(x),
                _chain(x, "branch5x5", (48, (1, 1)), (64, (5, 5))),
                _chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
                _Conv(self.pool_features, name="branch_pool")(_average_pool(x)),
            ]
        )


class _BlockB(nn.Module):
    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        double = _chain(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)))
        return _concatenate(
            [_reduce(x, 384, "branch3x3"), _reduce(double, 96, "branch3x3dbl_3"), _halving_pool(x)]
        )


class _BlockC(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        one, row, column = (self.width, (1, 1)), (self.width, (1, 7)), (self.width, (7, 1))
        return _concatenate(
            [
                _Conv(192, name="branch1x1")(x),
                _chain(x, "branch7x7", one, row, (192, (7, 1))),
                _chain(x, "branch7x7dbl", one, column, row, column, (192, (1, 7))),
                _Conv(192, name="branch_pool")(_average_pool(x)),
            ]
        )


class _BlockD(nn.Module):
    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        single = _chain(x, "branch3x3", (192, (1, 1)))
        wide = _chain(x, "branch7x7x3", (192, (1, 1)), (192, (1, 7)), (192, (7, 1)))
        return _concatenate(
            [
                _reduce(single, 320, "branch3x3_2"),
                _reduce(wide, 192, "branch7x7x3_4"),
                _halving_pool(x),
            ]
        )


class _BlockE(nn.Module):
    max_pool: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        single = _chain(x, "branch3x3", (384, (1, 1)))
        double = _chain(x, "branch3x3dbl", (448, (1, 1)), (384, (3, 3)))
        pooled = _max_pool(x) if self.max_pool else _average_pool(x)
        return _concatenate(
            [
                _Conv(320, name="branch1x1")(x),
                _Conv(384, (1, 3), name="branch3x3_2a")(single),
                _Conv(384, (3, 1), name="branch3x3_2b")(single),
                _Conv(384, (1, 3), name="branch3x3dbl_3a")(double),
                _Conv(384, (3, 1), name="branch3x3dbl_3b")(double),
                _Conv(192, name="branch_pool")(pooled),
            ]
        )


class InceptionV3(nn.Module):
    """The network up to its last average pool ("pool3")."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b 2048"]:
        """Features of images in [-1, 1], at least 75 x 75."""
        x = _Conv(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)
        x = _Conv(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
        x = _Conv(64, (3, 3), name="Conv2d_2b_3x3")(x)
        x = _halving_pool(x)
        x = _Conv(80, name="Conv2d_3b_1x1")(x)
        x = _Conv(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)
        x = _halving_pool(x)
        x = _BlockA(32, name="Mixed_5b")(x)
        x = _BlockA(64, name="Mixed_5c")(x)
        x = _BlockA(64, name="Mixed_5d")(x)
        x = _BlockB(name="Mixed_6a")(x)
        x = _BlockC(128, name="Mixed_6b")(x)
        x = _BlockC(160, name="Mixed_6c")(x)
        x = _BlockC(160, name="Mixed_6d")(x)
        x = _BlockC(192, name="Mixed_6e")(x)
        x = _BlockD(name="Mixed_7a")(x)
        x = _BlockE(max_pool=False, name="Mixed_7b")(x)
        x = _BlockE(max_pool=True, name="Mixed_7c")(x)
        return x.mean((1, 2))


def inception_v3_fid(variables: Variables) -> FeatureNetwork:
    """The feature network of the Fréchet Inception Distance.

    Images are resized to 299 x 299 as pytorch-fid does: bilinear between pixel centres, without
    anti-aliasing. (TensorFlow's original graph aligned the corners differently; published values
    computed with either differ in the first decimals.)

    Args:
        variables: from `from_torch`, or like `template()`.
    """

    def apply(variables: Variables, images: UInt8[Array, "b h w 3"]) -> Float[Array, "b 2048"]:
        shape = (images.shape[0], _INPUT_SIZE, _INPUT_SIZE, 3)
        unit = images.astype(jnp.float32) / 255.0
        resized = jax.image.resize(unit, shape, "bilinear", antialias=False)
        return cast(Array, InceptionV3().apply(variables, 2.0 * resized - 1.0))

    return FeatureNetwork(NAME, DIMENSION, apply, variables)


def template() -> Variables:
    """Names and shapes of the variables, as nested dicts of `jax.ShapeDtypeStruct`."""
    image = jnp.zeros((1, _INPUT_SIZE, _INPUT_SIZE, 3))
    return jax.eval_shape(InceptionV3().init, jax.random.key(0), image)


def from_torch(state_dict: Mapping[str, np.ndarray], source: str = "weights") -> Variables:
    """Converts the state dict of pytorch-fid's `fid_inception_v3()`.

    Args:
        state_dict: tensors by name, the classifier included (it is checked and dropped).
        source: where they come from, for messages.

    Returns:
        Variables of `inception_v3_fid`, float32.

    Raises:
        InputError: a missing, unexpected, wrongly shaped or non-finite tensor (the first is named,
            and how many there are).
    """
    collections = template()
    shapes: dict[str, Shape] = {}
    for collection in collections.values():
        shapes |= torch_shapes(collection)
    shapes |= {"fc.weight": (_LOGITS, DIMENSION), "fc.bias": (_LOGITS,)}
    given = {
        name: tensor
        for name, tensor in state_dict.items()
        if not name.endswith(".num_batches_tracked")
    }
    check_tensors(given, shapes, f"{source}: is not the Inception-v3 of pytorch-fid")
    return {
        name: from_state_dict(state_dict, collection) for name, collection in collections.items()
    }
