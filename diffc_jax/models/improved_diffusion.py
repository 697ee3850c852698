"""The U-Net of "Improved Denoising Diffusion Probabilistic Models" (Nichol & Dhariwal 2021), for its weights.

Modules carry the names of the published PyTorch state dicts, so that conversion is by name. The network
takes other pixels and other times than the rest of this project; both maps are exact:

- its images are y = v / 127.5 - 1, ours x = (2 v + 1) / 256 - 1, hence y = (256 / 255) x;
- its noise levels are the indices i of a cosine schedule of 4000 steps, of which it is told i / 4.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Key

from diffc_jax.diffusion import process
from diffc_jax.models.base import Model, Variables
from diffc_jax.models.layers import (
    Depth,
    Width,
    activation_dtype,
    check_multiple,
    check_positive,
)

GROUPS = 32

_PIXEL_SCALE = 256.0 / 255.0
_LOG_SNR_SHIFT = 2.0 * math.log(_PIXEL_SCALE)

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


def time_embedding(time: Float[Array, " b"], width: int) -> Float[Array, "b w"]:
    """Cosines, then sines, of `width // 2` angular frequencies from 1 down to (almost) 1e-4."""
    half = width // 2
    frequencies = jnp.exp(-math.log(1e4) / half * jnp.arange(half))
    angles = time[:, None] * frequencies[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def _norm(name: str, dtype: DTypeLike) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, epsilon=1e-5, dtype=dtype, use_fast_variance=False, name=name)


def _conv(
    features: int, name: str, dtype: DTypeLike, stride: int = 1, zero: bool = False
) -> nn.Conv:
    """3x3, padded by one pixel on each side; with stride 2 "SAME" would pad otherwise."""
    initializer = nn.initializers.zeros if zero else nn.initializers.lecun_normal()
    return nn.Conv(
        features, (3, 3), stride, padding=1, dtype=dtype, kernel_init=initializer, name=name
    )


class ResidualBlock(nn.Module):
    """Two convolutions after norm and swish; the embedding scales and shifts the second norm's output."""

    width: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"]
    ) -> Float[Array, "b h w d"]:
        h = nn.swish(_norm("in_layers.0", self.dtype)(x))
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
    """x + attention of the normalised x; each head has its queries, keys and values side by side."""

    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        batch, height, width, channels = x.shape
        h = _norm("norm", self.dtype)(x).reshape(batch, height * width, channels)
        qkv = nn.Conv(3 * channels, (1,), dtype=self.dtype, name="qkv")(h)
        qkv = qkv.reshape(batch, height * width, self.heads, 3, channels // self.heads)
        mixed = jax.nn.dot_product_attention(*(qkv[..., i, :] for i in range(3)))
        project = nn.Conv(
            channels, (1,), dtype=self.dtype, kernel_init=nn.initializers.zeros, name="proj_out"
        )
        return x + project(mixed.reshape(h.shape)).reshape(x.shape)


class ImprovedDiffusionUNet(nn.Module):
    """Maps noisy y and the network's time to (noise, variance); see `improved_diffusion_model`."""

    outputs: int
    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    heads: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, y: Float[Array, "b h w c"], time: Float[Array, " b"]
    ) -> Float[Array, "b h w d"]:

        def stage(x: Array, width: int, prefix: str) -> Array:
            x = ResidualBlock(width, self.dtype, name=f"{prefix}.0")(x, embedding)
            if x.shape[1] in self.attention:
                x = AttentionBlock(self.heads, self.dtype, name=f"{prefix}.1")(x)
            return x

        def dense(name: str) -> nn.Dense:
            return nn.Dense(4 * self.width, name=name)

        embedding = nn.swish(dense("time_embed.0")(time_embedding(time, self.width)))
        embedding = dense("time_embed.2")(embedding)

        x = _conv(self.width, "input_blocks.0.0", self.dtype)(y)
        skips = [x]
        for level, multiplier in enumerate(self.multipliers):
            if level:
                x = _conv(x.shape[-1], f"input_blocks.{len(skips)}.0.op", self.dtype, stride=2)(x)
                skips.append(x)
            for _ in range(self.blocks):
                x = stage(x, multiplier * self.width, f"input_blocks.{len(skips)}")
                skips.append(x)

        x = ResidualBlock(x.shape[-1], self.dtype, name="middle_block.0")(x, embedding)
        x = AttentionBlock(self.heads, self.dtype, name="middle_block.1")(x)
        x = ResidualBlock(x.shape[-1], self.dtype, name="middle_block.2")(x, embedding)

        index = 0
        for level, multiplier in reversed(list(enumerate(self.multipliers))):
            for _ in range(self.blocks + 1):
                both = jnp.concatenate([x, skips.pop()], axis=-1)
                x = stage(both, multiplier * self.width, f"output_blocks.{index}")
                index += 1
            if level:
                position = 2 if x.shape[1] in self.attention else 1
                x = x.repeat(2, axis=1).repeat(2, axis=2)
                name = f"output_blocks.{index - 1}.{position}.conv"
                x = _conv(x.shape[-1], name, self.dtype)(x)

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
    check_positive(
        "model", width=width, multipliers=min(multipliers, default=0), blocks=blocks, heads=heads
    )
    check_multiple("model.width", width, GROUPS, "the number of groups of the norms")
    check_multiple("model.width", width, heads, "the number of heads (model.heads)")
    halvings = len(multipliers) - 1
    for side in image_shape[:2]:
        check_multiple(
            "model.image_shape", side, 2**halvings, f"halved {halvings} times by the levels"
        )
    network = ImprovedDiffusionUNet(
        outputs=2 * image_shape[-1],
        width=width,
        multipliers=tuple(multipliers),
        blocks=blocks,
        attention=tuple(attention),
        heads=heads,
        dtype=activation_dtype(dtype),
    )

    def init(key: Key[Array, ""], statistics: Any) -> Variables:
        del statistics
        return network.init(key, jnp.zeros((1, *image_shape)), jnp.zeros(1))

    def eps_hat(
        variables: Variables, z: Float[Array, "b h w c"], gamma: Float[Array, " b"]
    ) -> Float[Array, "b h w c"]:
        y, gamma = to_their_pixels(z, gamma)
        outputs = network.apply({"params": variables["params"]}, y, network_time(gamma))
        return cast(Array, outputs)[..., : z.shape[-1]]

    return Model(
        name="improved_diffusion",
        init=init,
        eps_hat=eps_hat,
        train_eps_hat=lambda variables, z, gamma, key: eps_hat(variables, z, gamma),
    )


def to_their_pixels(
    z: Float[Array, "b h w c"], gamma: Float[Array, " b"]
) -> tuple[Float[Array, "b h w c"], Float[Array, " b"]]:
    """Noisy x as noisy y with the same noise, and its noise level, 0.0078 higher.

    alpha x + sigma eps is (255/256) alpha y + sigma eps; scaled to unit power it is variance preserving.
    """
    theirs = gamma + _LOG_SNR_SHIFT
    ratio = process.sigma(theirs) / process.sigma(gamma)
    return process.per_image(ratio, z) * z, theirs
