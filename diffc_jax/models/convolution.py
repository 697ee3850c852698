"""3x3 convolutions that are fast on CPUs."""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, DTypeLike, Float, PyTree

from diffc_jax.models.winograd import convolve, kernel_gradient, tile_side, transform_kernel

# Variables that are kept between calls: kernels as `transform_kernel` makes them, in parts.
KERNELS = "kernels"
# With fewer channels the transformations take longer than the products that they save.
_FEWEST_CHANNELS = 32
_ONLY_XLA = contextvars.ContextVar("only_xla", default=False)
_SAME = lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ("NHWC", "HWIO", "NHWC"))


class Conv(nn.Module):
    """`nn.Conv(features, (3, 3))`: a 3x3 convolution, zero beyond the borders, with a bias.

    On one CPU it is Winograd's, forward and backward, where XLA's code takes about twice as long. Elsewhere,
    and where images are spread over devices, it is XLA's. Transformed kernels are read from the collection
    `KERNELS` if it is there: see `transformed_kernels`.
    """

    features: int
    dtype: DTypeLike = jnp.float32
    kernel_init: nn.initializers.Initializer = nn.linear.default_kernel_init

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        kernel = self.param("kernel", self.kernel_init, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias[None, None, None]))
        side = _tile_side(x, kernel)
        if side is None:
            result = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_SAME)
            return result + bias
        if self.is_mutable_collection(KERNELS) and not self.is_initializing():
            rows = jnp.split(transform_kernel(kernel, side), side + 2)
            self.put_variable(KERNELS, "kernel", tuple(rows))
        if self.has_variable(KERNELS, "kernel"):
            return convolve(x, self.get_variable(KERNELS, "kernel")) + bias
        return winograd(x, kernel) + bias


@contextlib.contextmanager
def only_xla() -> Iterator[None]:
    """Networks that are traced in it have XLA's convolutions, as on accelerators."""
    token = _ONLY_XLA.set(True)
    try:
        yield
    finally:
        _ONLY_XLA.reset(token)


def transformed_kernels(network: nn.Module, params: PyTree, *inputs: Array) -> dict[str, Any]:
    """The collection `KERNELS` of a network for `inputs`; empty where all convolutions are XLA's."""
    _, kernels = network.apply({"params": params}, *inputs, mutable=[KERNELS])
    return cast(dict[str, Any], kernels.get(KERNELS, {}))


@jax.custom_vjp
def winograd(
    x: Float[Array, "b h w c"], kernel: Float[Array, "3 3 c d"]
) -> Float[Array, "b h w d"]:
    """Winograd's convolution of images that tiles fill; so are its gradients."""
    side = tile_side(*x.shape[1:3])
    assert side is not None
    return convolve(x, [transform_kernel(kernel, side)])


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return winograd(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    transposed = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return winograd(grad, transposed), kernel_gradient(x, grad)


winograd.defvjp(_forward, _backward)


def _tile_side(x: Array, kernel: Array) -> int | None:
    """That of Winograd's tiles; None where XLA's convolution is faster, or more exact."""
    if jax.default_backend() != "cpu" or jax.device_count() > 1 or _ONLY_XLA.get():
        return None
    if min(kernel.shape[2:]) < _FEWEST_CHANNELS or x.dtype != jnp.float32:
        return None
    return tile_side(*x.shape[1:3])
