"""Parts that HiFiC's networks share. Convolutions are padded so that a stride of 1 keeps the size."""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffc_jax.models.layers import depth_to_space

_LEAK = 0.2


class ChannelNorm(nn.Module):
    """Normalises every pixel over its channels, with a learned scale and shift for each (section 3.2).

    The variance is the unbiased one, so there must be at least two channels.

    Attributes:
        epsilon: added to the variance.
    """

    epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Normalised activations."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        shift = self.param("shift", nn.initializers.zeros, x.shape[-1:])
        mean = x.mean(axis=-1, keepdims=True)
        deviation = jnp.sqrt(x.var(axis=-1, keepdims=True, ddof=1) + self.epsilon)
        return (x - mean) / deviation * scale[None, None, None] + shift[None, None, None]


class Doubling(nn.Module):
    """A transposed convolution of stride 2: twice as high and wide.

    The same function of the same parameters as `flax.linen.ConvTranspose`, computed as a convolution of
    stride 1 that gives the four pixels of every 2x2 block at once: on CPUs its gradient takes a fifth of the
    time.

    Attributes:
        channels: of the result.
        kernel: side of the kernel, odd and at least 3.
    """

    channels: int
    kernel: int

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c_"]:
        """Maps activations to activations."""
        inputs, outputs, side = x.shape[-1], self.channels, self.kernel
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (side, side, inputs, outputs))
        bias = self.param("bias", nn.initializers.zeros, (outputs,))
        # Tap t reaches row 2i + a of the result from row i + j - 1 where t = 2j + 1 - a, up to a shift.
        taps = (side + 1) // 2
        shift = (1, 0) if side % 4 == 3 else (0, 1)
        kernel = jnp.pad(kernel, (shift, shift, (0, 0), (0, 0)))
        kernel = kernel.reshape(taps, 2, taps, 2, inputs, outputs)[:, ::-1, :, ::-1]
        kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(taps, taps, inputs, 4 * outputs)
        padding = (taps // 2, (taps - 1) // 2)
        blocks = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), (padding, padding), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return depth_to_space(blocks, 2) + bias[None, None, None]


class NormedConv(nn.Module):
    """A convolution, ChannelNorm and, unless it is switched off, ReLU.

    Attributes:
        channels: of the result.
        kernel: side of the kernel.
        stride: 2 halves the sides.
        relu: whether negative values are cut off.
    """

    channels: int
    kernel: int = 3
    stride: int = 1
    relu: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h_ w_ c_"]:
        """Maps activations to activations."""
        strides = (self.stride, self.stride)
        x = nn.Conv(self.channels, (self.kernel, self.kernel), strides=strides)(x)
        x = ChannelNorm()(x)
        return nn.relu(x) if self.relu else x


class SpectralConv(nn.Module):
    """A convolution whose kernel, as a matrix, is divided by its largest singular value.

    That value is followed by one power iteration a call (Miyato et al. 2018), in "batch_stats".

    Attributes:
        channels: of the result.
        kernel: side of the kernel.
        stride: 2 halves the sides.
    """

    channels: int
    kernel: int = 4
    stride: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, update_stats: bool
    ) -> Float[Array, "b h_ w_ c_"]:
        """Maps activations to activations; `update_stats` says whether the iteration is kept."""
        conv = nn.Conv(
            self.channels, (self.kernel, self.kernel), strides=(self.stride, self.stride)
        )
        return cast(Array, nn.SpectralNorm(conv)(x, update_stats=update_stats))


def leaky_relu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Negative values are multiplied by 0.2."""
    return nn.leaky_relu(x, _LEAK)
