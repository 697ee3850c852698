"""The U-Net of "Improved Denoising Diffusion Probabilistic Models" (Nichol & Dhariwal 2021), for its weights.

Modules carry the names of the published PyTorch state dicts, so that conversion is by name. Pixels are those
of `discrete_time`; noise levels are the indices i of a cosine schedule of 4000 steps, of which the network is
told i / 4.
"""

import math
from collections.abc import Callable, Sequence
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from diffc_jax.models.attention import attend
from diffc_jax.models.base import Model
from diffc_jax.models.convolution import Conv
from diffc_jax.models.discrete_time import discrete_time_model, time_embedding
from diffc_jax.models.layers import (
    Depth,
    Width,
    activation_dtype,
    check_attention,
    check_halvings,
    check_multiple,
    check_positive,
)

GROUPS = 32

_STEPS = 4000
_OFFSET = 0.008  # of the cosine schedule, so that its first steps are not too small
_START_ANGLE = 0.5 * math.pi * _OFFSET / (1.0 + _OFFSET)
_START_SIN2, _START_COS2 = math.sin(_START_ANGLE) ** 2, math.cos(_START_ANGLE) ** 2


def network_time(gamma: Float[Array, " b"]) -> Float[Array, " b"]:
    """What the network is told about noise of level gamma on its own images y: i / 4 for index i.

    Index i has signal power abar(tau) / abar(0), abar(tau) = cos^2(pi/2 (tau + 0.008) / 1.008), at
    tau = (i + 1) / 4000: the product of 1 - beta over the steps 0 to i, each beta the decrease of abar.
    Setting this to sigmoid(-gamma) and solving for tau gives 1000 tau - 0.25. (The last beta is capped at
    0.999, so that index 3999 is told 0.008 too little; gamma is 22.6 there.) Outside the indices' range
    the time is that of the nearest one.
    """
    # tan^2 of the angle from sines and cosines that keep their digits at both ends.
    sin = jnp.sqrt(_START_SIN2 + _START_COS2 * jax.nn.sigmoid(gamma))
    cos = jnp.sqrt(_START_COS2 * jax.nn.sigmoid(-gamma))
    tau = jnp.arctan2(sin, cos) * (2.0 / math.pi * (1.0 + _OFFSET)) - _OFFSET
    return jnp.clip(1000.0 * tau - 1000.0 / _STEPS, 0.0, 1000.0 * (1.0 - 1.0 / _STEPS))


def _norm(name: str, dtype: DTypeLike) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, epsilon=1e-5, dtype=dtype, use_fast_variance=False, name=name)


def _conv(
    features: int, name: str, dtype: DTypeLike, stride: int = 1, zero: bool = False
) -> nn.Module:
    """3x3, padded by one pixel on each side; with stride 2 "SAME" would pad otherwise."""
    initializer = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    if stride == 1:
        return Conv(features, dtype, initializer, name=name)
    return nn.Conv(
        features, (3, 3), stride, padding=1, dtype=dtype, kernel_init=initializer, name=name
    )


def _mean_of_pixels(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
    return cast(Array, nn.avg_pool(x, (2, 2), (2, 2)))


def _repeat_pixels(x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    return x.repeat(2, axis=1).repeat(2, axis=2)


class ResidualBlock(nn.Module):
    """Two convolutions after norm and swish; the embedding scales and shifts the second norm's output.

    `resample` is what happens to the skip, and to the other path before its first convolution.
    """

    width: int
    dtype: DTypeLike
    resample: Callable[[Array], Array] = lambda x: x

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"]
    ) -> Float[Array, "b h2 w2 d"]:
        h, x = (self.resample(one) for one in (nn.swish(_norm("in_layers.0", self.dtype)(x)), x))
        h = _conv(self.width, "in_layers.2", self.dtype)(h)
        modulation = nn.Dense(2 * self.width, dtype=self.dtype, name="emb_layers.1")(
            nn.swish(embedding)
        )
        scale, shift = jnp.split(modulation[:, None, None], 2, axis=-1)
        h = _norm("out_layers.0", self.dtype)(h) * (1.0 + scale) + shift
        h = _conv(self.width, "out_layers.3", self.dtype, zero=True)(nn.swish(h))
        if x.shape[-1] != self.width:
            x = nn.Conv(self.width, (1, 1), dtype=self.dtype, name="skip_connection")(x)
        return x + h


class AttentionBlock(nn.Module):
    """x + attention of the normalised x.

    Each head has its queries, keys and values side by side; or all queries come first, if `heads_last`.
    """

    heads: int
    dtype: DTypeLike
    heads_last: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        batch, height, width, channels = x.shape
        h = _norm("norm", self.dtype)(x).reshape(batch, height * width, channels)
        qkv = nn.Conv(3 * channels, (1,), dtype=self.dtype, name="qkv")(h)
        split = (3, self.heads) if self.heads_last else (self.heads, 3)
        qkv = qkv.reshape(batch, height * width, *split, channels // self.heads)
        axis = 2 if self.heads_last else 3
        mixed = attend(*(qkv.take(i, axis) for i in range(3)))
        project = nn.Conv(
            channels, (1,), dtype=self.dtype, kernel_init=nn.initializers.zeros, name="proj_out"
        )
        return x + project(mixed.reshape(h.shape)).reshape(x.shape)


class ImprovedDiffusionUNet(nn.Module):
    """Maps noisy y and the network's time to (noise, variance).

    See `improved_diffusion_model` and `guided_diffusion.guided_diffusion_model` for the fields. There are
    `heads` heads, or as many as have `head_channels` channels.
    """

    outputs: int
    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    heads: int
    dtype: DTypeLike
    head_channels: int = 0
    heads_last: bool = False
    resampling_blocks: bool = False

    @nn.compact
    def __call__(
        self, y: Float[Array, "b h w c"], time: Float[Array, " b"]
    ) -> Float[Array, "b h w d"]:

        def stage(x: Array, width: int, prefix: str) -> Array:
            x = ResidualBlock(width, self.dtype, name=f"{prefix}.0")(x, embedding)
            return attend(x, f"{prefix}.1") if x.shape[1] in self.attention else x

        def attend(x: Array, name: str) -> Array:
            heads = x.shape[-1] // self.head_channels if self.head_channels else self.heads
            return AttentionBlock(heads, self.dtype, self.heads_last, name=name)(x)

        def halve(x: Array, prefix: str) -> Array:
            if self.resampling_blocks:
                block = ResidualBlock(x.shape[-1], self.dtype, _mean_of_pixels, name=prefix)
                return block(x, embedding)
            return _conv(x.shape[-1], f"{prefix}.op", self.dtype, stride=2)(x)

        def double(x: Array, prefix: str) -> Array:
            if self.resampling_blocks:
                block = ResidualBlock(x.shape[-1], self.dtype, _repeat_pixels, name=prefix)
                return block(x, embedding)
            convolution = _conv(x.shape[-1], f"{prefix}.conv", self.dtype)
            return convolution(_repeat_pixels(x))

        def dense(name: str) -> nn.Dense:
            return nn.Dense(4 * self.width, name=name)

        embedding = nn.swish(dense("time_embed.0")(time_embedding(time, self.width)))
        embedding = dense("time_embed.2")(embedding)

        x = _conv(self.width, "input_blocks.0.0", self.dtype)(y)
        skips = [x]
        for level, multiplier in enumerate(self.multipliers):
            if level:
                x = halve(x, f"input_blocks.{len(skips)}.0")
                skips.append(x)
            for _ in range(self.blocks):
                x = stage(x, multiplier * self.width, f"input_blocks.{len(skips)}")
                skips.append(x)

        x = ResidualBlock(x.shape[-1], self.dtype, name="middle_block.0")(x, embedding)
        x = attend(x, "middle_block.1")
        x = ResidualBlock(x.shape[-1], self.dtype, name="middle_block.2")(x, embedding)

        index = 0
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            for _ in range(self.blocks + 1):
                both = jnp.concatenate([x, skips.pop()], axis=-1)
                x = stage(both, multiplier * self.width, f"output_blocks.{index}")
                index += 1
            if level:
                position = 2 if x.shape[1] in self.attention else 1
                x = double(x, f"output_blocks.{index - 1}.{position}")

        x = nn.swish(_norm("out.0", jnp.float32)(x.astype(jnp.float32)))
        return cast(Array, _conv(self.outputs, "out.2", jnp.float32, zero=True)(x))


def improved_diffusion_model(
    image_shape: tuple[int, int, int] = (64, 64, 3),
    width: Width = 128,
    multipliers: Sequence[Width] = (1, 2, 3, 4),
    blocks: Depth = 3,
    attention: Sequence[int] = (16, 8),
    heads: Width = 4,
    dtype: str = "float32",
) -> Model:
    """The U-Net with a cosine schedule of 4000 steps and learned variances, which are not used.

    The defaults are the unconditional ImageNet 64x64 networks, 121.1 M parameters. The network has seen
    noise from gamma = -11.53 to 22.60; less noise than that is treated as the least it knows.

    Args:
        image_shape: height, width and channels.
        width: channels at the first level; a multiple of 32, the groups of the norms.
        multipliers: of `width` for each level; every level has half the resolution of the one before.
        blocks: residual blocks of each level on the way down; the way up has one more.
        attention: heights of the levels whose residual blocks are followed by attention.
        heads: of the attention.
        dtype: of the activations, "float32" or "bfloat16"; parameters are float32.

    Raises:
        UsageError: a field that cannot be used, named.
    """
    check_sizes(image_shape, width, multipliers, blocks, attention)
    check_positive("model", heads=heads)
    check_multiple("model.width", width, heads, "the number of heads (model.heads)")
    network = ImprovedDiffusionUNet(
        outputs=2 * image_shape[-1],
        width=width,
        multipliers=tuple(multipliers),
        blocks=blocks,
        attention=tuple(attention),
        heads=heads,
        dtype=activation_dtype(dtype),
    )

    return discrete_time_model("improved_diffusion", network, image_shape, network_time)


def check_sizes(
    image_shape: tuple[int, int, int],
    width: int,
    multipliers: Sequence[int],
    blocks: int,
    attention: Sequence[int],
) -> None:
    """Raises UsageError for fields of a model that no U-Net of this kind can have."""
    check_positive("model", width=width, multipliers=min(multipliers, default=0), blocks=blocks)
    check_multiple("model.width", width, GROUPS, "the number of groups of the norms")
    check_halvings(image_shape, len(multipliers) - 1)
    check_attention(attention, image_shape, len(multipliers))
