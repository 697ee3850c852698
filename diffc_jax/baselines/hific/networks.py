"""HiFiC's networks: encoder E, generator G, hyper-prior, discriminator D, and the layers they share."""

import itertools
import math
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from diffc_jax.baselines.hific.config import HificArchitecture
from diffc_jax.models.layers import depth_to_space

_HYPER_KERNEL = 5
# Of the discriminator: channels that the latent is mapped to, strides of its layers.
_LATENT_CHANNELS, _STRIDES = 12, (2, 2, 2, 1)
_LEAK = 0.2
# Of the learned density: widths of its layers, spread of its initial mass, range of its medians.
_FILTERS, _INITIAL_SPREAD = (1, 3, 3, 3, 1), 10.0
_MEDIAN_RANGE, _BISECTIONS = 4096.0, 64


class Encoder(nn.Module):
    """One layer at full size, one for each halving, and a linear one to the latent's channels."""

    architecture: HificArchitecture

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b h_ w_ c"]:
        """Latents, not quantised, of images with values in [0, 1]."""
        channels = self.architecture.base_channels
        # Centred: else the mean of the image dominates what the first ChannelNorm divides by, and the first
        # thousand updates go into learning to subtract it.
        x = NormedConv(channels, kernel=7)(4.0 * images - 2.0)
        for halving in range(1, self.architecture.downsamplings + 1):
            x = NormedConv(channels << halving, stride=2)(x)
        return nn.Conv(self.architecture.latent_channels, (3, 3))(x)


class Generator(nn.Module):
    """Residual blocks on the latent's grid with a skip over all of them, then a layer for each doubling."""

    architecture: HificArchitecture

    @nn.compact
    def __call__(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b h_ w_ 3"]:
        """Images with values around [0, 1]; nothing keeps them inside."""
        base, doublings = self.architecture.base_channels, self.architecture.downsamplings
        channels = base << doublings
        head = NormedConv(channels, relu=False)(ChannelNorm()(latents))
        x = head
        for _ in range(self.architecture.residual_blocks):
            x += NormedConv(channels, relu=False)(NormedConv(channels)(x))
        x += head
        for doubling in reversed(range(doublings)):
            x = nn.relu(ChannelNorm()(Doubling(base << doubling, kernel=3)(x)))
        # Starts near grey: errors of images out of range would teach the encoder to send nothing.
        return nn.Conv(
            3,
            (7, 7),
            kernel_init=nn.initializers.variance_scaling(0.05, "fan_in", "truncated_normal"),
            bias_init=nn.initializers.constant(0.5),
        )(x)


class HyperAnalysis(nn.Module):
    """Latents to hyper-latents, on a grid a quarter as fine."""

    channels: int

    @nn.compact
    def __call__(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b h_ w_ c_"]:
        """Hyper-latents, not quantised."""
        x = nn.relu(nn.Conv(self.channels, (3, 3))(latents))
        x = nn.relu(nn.Conv(self.channels, (_HYPER_KERNEL, _HYPER_KERNEL), strides=(2, 2))(x))
        return nn.Conv(self.channels, (_HYPER_KERNEL, _HYPER_KERNEL), strides=(2, 2))(x)


class HyperSynthesis(nn.Module):
    """Quantised hyper-latents to one parameter (mean or scale) of each value of a latent."""

    channels: int
    latent_channels: int

    @nn.compact
    def __call__(
        self, hyper_latents: Float[Array, "b h w c"], latent_size: tuple[int, int]
    ) -> Float[Array, "b h_ w_ c_"]:
        """Parameters for a latent of `latent_size`, (h, w), at most four times that of the hyper-latent."""
        x = hyper_latents
        for _ in range(2):
            x = nn.relu(Doubling(self.channels, _HYPER_KERNEL)(x))
        height, width = latent_size
        return nn.Conv(self.latent_channels, (3, 3))(x)[:, :height, :width]


class FactorizedPrior(nn.Module):
    """A density for each channel, whose cumulative function is a small monotone network.

    The logit of the cumulative function is a stack of four matrices with positive entries and three
    nonlinearities x + tanh(a) tanh(x), three units wide (Balle et al. 2018, appendix 6.1).
    """

    channels: int

    def setup(self) -> None:
        """Makes the parameters: nearly linear functions that spread mass over about -5 to 5."""
        gain = _INITIAL_SPREAD ** (1 / (len(_FILTERS) - 1))
        layers: list[dict[str, Any]] = []
        for index, (inputs, outputs) in enumerate(itertools.pairwise(_FILTERS)):
            start = nn.initializers.constant(math.log(math.expm1(1 / gain / outputs)))
            layer = {
                "matrix": self.param(f"matrix{index}", start, (self.channels, outputs, inputs)),
                "bias": self.param(f"bias{index}", _centred_uniform, (self.channels, outputs, 1)),
            }
            if index < len(_FILTERS) - 2:
                zeros = nn.initializers.zeros
                layer["factor"] = self.param(f"factor{index}", zeros, (self.channels, outputs, 1))
            layers.append(layer)
        self.layers = layers

    def __call__(self, values: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Mass within half a unit of `values`."""
        channels_first = jnp.moveaxis(values, -1, 0)
        masses = self.masses(channels_first.reshape(self.channels, -1))
        return jnp.moveaxis(masses.reshape(channels_first.shape), 0, -1)

    def masses(self, values: Float[Array, "c n"]) -> Float[Array, "c n"]:
        """Mass within half a unit of values that are grouped by channel."""
        lower, upper = self._logits(values - 0.5), self._logits(values + 0.5)
        # On the side where both are negative the difference keeps its precision.
        sign = jnp.where(lower + upper > 0, -1.0, 1.0)
        return jnp.abs(jax.nn.sigmoid(sign * upper) - jax.nn.sigmoid(sign * lower))

    def medians(self) -> Float[Array, " c"]:
        """Medians, by bisection; no gradient. Values are quantised at whole distances from them."""
        dtype = self.layers[0]["matrix"].dtype
        start = jnp.full((self.channels, 1), _MEDIAN_RANGE, dtype)

        def halve(_: Int[Array, ""], ends: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = ends
            middle = 0.5 * (low + high)
            above = self._logits(middle) > 0
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (-start, start))
        return jax.lax.stop_gradient(0.5 * (low + high))[:, 0]

    def _logits(self, values: Float[Array, "c n"]) -> Float[Array, "c n"]:
        x = values[:, None]
        for layer in self.layers:
            x = jax.nn.softplus(layer["matrix"]) @ x + layer["bias"]
            if "factor" in layer:
                x += jnp.tanh(layer["factor"]) * jnp.tanh(x)
        return x[:, 0]


def _centred_uniform(key: Key[Array, ""], shape: tuple[int, ...]) -> Float[Array, "*n"]:
    return jax.random.uniform(key, shape, minval=-0.5, maxval=0.5)


class Discriminator(nn.Module):
    """PatchGAN with one decision for each 8x8 pixels, conditioned on the latent; spectral norm throughout."""

    architecture: HificArchitecture

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        latents: Float[Array, "b h_ w_ c"],
        *,
        update_stats: bool,
    ) -> Float[Array, "b h//8 w//8"]:
        """Logits, positive for photographs, of images with values in [0, 1] and their quantised latents.

        `update_stats` says whether the power iterations of the spectral norms move on.
        """
        given = SpectralConv(_LATENT_CHANNELS, kernel=3)(latents, update_stats=update_stats)
        given = nn.leaky_relu(given, _LEAK)
        given = jax.image.resize(given, (*images.shape[:3], _LATENT_CHANNELS), "nearest")
        x = jnp.concatenate([images, given], axis=-1)
        channels = self.architecture.discriminator_channels
        for doublings, stride in enumerate(_STRIDES):
            layer = SpectralConv(channels << doublings, stride=stride)
            x = nn.leaky_relu(layer(x, update_stats=update_stats), _LEAK)
        return SpectralConv(1)(x, update_stats=update_stats)[..., 0]


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
    """A convolution, ChannelNorm and, unless it is switched off, ReLU."""

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
