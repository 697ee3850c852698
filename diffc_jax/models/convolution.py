"""Convolutions whose kernel has a fast gradient on CPUs."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

# Positions of images and channels of what is worked on at once, which then stays in the cache of a core.
_CHUNK_SIZE = 100_000
_SAME = lax.conv_dimension_numbers((1, 1, 1, 1), (1, 1, 1, 1), ("NHWC", "HWIO", "NHWC"))


def conv(
    x: Float[Array, "b h w c"],
    kernel: Float[Array, "k1 k2 g d"],
    strides: Sequence[int],
    padding: Any,
    **options: Any,
) -> Float[Array, "b h2 w2 d"]:
    """`lax.conv_general_dilated` for `nn.Conv`; on one CPU the gradient of 3x3 kernels is `kernel_gradient`.

    Autodiff turns that gradient into a convolution of the images' size, of which XLA makes code for CPUs that
    takes three times as long as matrix products. Where images are spread over devices it stays as it is.
    """
    ours = (
        kernel.shape[:2] == (3, 3)
        and kernel.shape[2] == x.shape[-1]
        and padding == "SAME"
        and set(strides) | set(options["lhs_dilation"]) | set(options["rhs_dilation"]) == {1}
        and options["precision"] is None
    )
    if not ours or jax.default_backend() != "cpu" or jax.device_count() > 1:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    result: Array = _conv(x, kernel)
    return result


@jax.custom_vjp
def _conv(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=_SAME)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    transposed = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
    return _conv(grad, transposed), kernel_gradient(x, grad)


_conv.defvjp(_forward, _backward)


def kernel_gradient(
    x: Float[Array, "b h w c"], grad: Float[Array, "b h w d"]
) -> Float[Array, "3 3 c d"]:
    """Gradient of the kernel of a 3x3 convolution of x, from that of its output.

    For each of the nine taps a matrix product of shifted images with the gradient, over few images at a time.
    Sums are float32, whatever the type of x, which is that of the result.
    """
    n_images, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    count = max(1, _CHUNK_SIZE // (height * width * channels))
    while n_images % count:
        count -= 1

    def products(x: Array, grad: Array) -> Array:
        rows = grad.reshape(-1, grad.shape[-1])
        taps = [
            jnp.matmul(
                x[:, i : i + height, j : j + width].reshape(-1, channels).T,
                rows,
                preferred_element_type=jnp.float32,
            )
            for i in range(3)
            for j in range(3)
        ]
        return jnp.stack(taps).reshape(3, 3, channels, -1)

    def add(total: Array, chunk: tuple[Array, ...]) -> tuple[Array, None]:
        return total + products(*chunk), None

    if count == n_images:
        return products(padded, grad).astype(x.dtype)
    chunks = tuple(a.reshape(-1, count, *a.shape[1:]) for a in (padded, grad))
    total = jnp.zeros((3, 3, channels, grad.shape[-1]), jnp.float32)
    return lax.scan(add, total, chunks)[0].astype(x.dtype)
