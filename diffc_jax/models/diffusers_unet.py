"""`UNet2DModel` of Hugging Face diffusers, for its weights: the U-Net of DDPM (Ho et al. 2020) and its kin.

Modules carry the names of its state dicts, so that conversion is by name. Pixels and noise levels are those
of `discrete_time`; which schedule and which prediction are fields, as in its `scheduler_config.json`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from diffc_jax.models.attention import attend
from diffc_jax.models.base import Model
from diffc_jax.models.convolution import Conv
from diffc_jax.models.discrete_time import (
    PREDICTIONS,
    Steps,
    discrete_time_model,
    index_at,
    index_gammas,
    time_embedding,
)
from diffc_jax.models.layers import (
    Depth,
    Width,
    activation_dtype,
    check_attention,
    check_epsilon,
    check_halvings,
    check_multiple,
    check_positive,
)
from diffc_jax.typed import Meta, one_of


class DiffusersUNet(nn.Module):
    """Maps noisy y and the index of its noise level to what is predicted; see `diffusers_unet_model`."""

    outputs: int
    widths: tuple[int, ...]
    blocks: int
    attention: tuple[bool, ...]  # of each level
    head_channels: int
    groups: int
    epsilon: float
    pad_both_sides: bool
    sines_first: bool
    frequency_shift: int
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, y: Float[Array, "b h w c"], time: Float[Array, " b"]
    ) -> Float[Array, "b h w d"]:

        def norm(x: Array, name: str, dtype: DTypeLike = self.dtype) -> Array:
            module = nn.GroupNorm(
                self.groups, epsilon=self.epsilon, dtype=dtype, use_fast_variance=False, name=name
            )
            return cast(Array, module(x))

        def conv(x: Array, width: int, name: str, **options: Any) -> Array:
            return Conv(width, name=name, **({"dtype": self.dtype} | options))(x)

        def dense(x: Array, width: int, name: str, dtype: DTypeLike = self.dtype) -> Array:
            return cast(Array, nn.Dense(width, dtype=dtype, name=name)(x))

        def residual(x: Array, width: int, prefix: str) -> Array:
            h = conv(nn.swish(norm(x, f"{prefix}.norm1")), width, f"{prefix}.conv1")
            h = h + dense(nn.swish(embedding), width, f"{prefix}.time_emb_proj")[:, None, None]
            h = conv(nn.swish(norm(h, f"{prefix}.norm2")), width, f"{prefix}.conv2")
            if x.shape[-1] != width:
                x = nn.Conv(width, (1, 1), dtype=self.dtype, name=f"{prefix}.conv_shortcut")(x)
            return x + h

        def mix(x: Array, prefix: str) -> Array:
            batch, height, width, channels = x.shape
            heads = channels // self.head_channels if self.head_channels else 1
            h = norm(x, f"{prefix}.group_norm").reshape(batch, height * width, channels)
            split = (batch, height * width, heads, channels // heads)
            mixed = attend(
                *(dense(h, channels, f"{prefix}.to_{one}").reshape(split) for one in "qkv")
            )
            return x + dense(mixed.reshape(h.shape), channels, f"{prefix}.to_out.0").reshape(
                x.shape
            )

        def stage(x: Array, level: int, i: int, prefix: str) -> Array:
            x = residual(x, self.widths[level], f"{prefix}.resnets.{i}")
            return mix(x, f"{prefix}.attentions.{i}") if self.attention[level] else x

        width = self.widths[0]
        embedding = time_embedding(time, width, self.sines_first, self.frequency_shift)
        for i in (1, 2):
            embedding = embedding if i == 1 else nn.swish(embedding)
            embedding = dense(embedding, 4 * width, f"time_embedding.linear_{i}", jnp.float32)

        x = conv(y, width, "conv_in")
        skips = [x]
        last = len(self.widths) - 1
        for level in range(last + 1):
            prefix = f"down_blocks.{level}"
            for i in range(self.blocks):
                x = stage(x, level, i, prefix)
                skips.append(x)
            if level != last:
                name = f"{prefix}.downsamplers.0.conv"
                # One more row and column at the end only is "SAME" for even sides.
                padding: Any = 1 if self.pad_both_sides else ((0, 1), (0, 1))
                shrink = nn.Conv(x.shape[-1], (3, 3), 2, padding, dtype=self.dtype, name=name)
                x = shrink(x)
                skips.append(x)

        x = residual(x, x.shape[-1], "mid_block.resnets.0")
        x = mix(x, "mid_block.attentions.0")
        x = residual(x, x.shape[-1], "mid_block.resnets.1")

        for level in reversed(range(last + 1)):
            prefix = f"up_blocks.{last - level}"
            for i in range(self.blocks + 1):
                x = stage(jnp.concatenate([x, skips.pop()], axis=-1), level, i, prefix)
            if level:
                x = x.repeat(2, axis=1).repeat(2, axis=2)
                x = conv(x, x.shape[-1], f"{prefix}.upsamplers.0.conv")

        x = nn.swish(norm(x.astype(jnp.float32), "conv_norm_out", jnp.float32))
        zeros = nn.initializers.zeros
        return conv(x, self.outputs, "conv_out", dtype=jnp.float32, kernel_init=zeros)


def diffusers_unet_model(
    image_shape: tuple[int, int, int] = (32, 32, 3),
    widths: Sequence[Width] = (128, 256, 256, 256),
    blocks: Depth = 2,
    attention: Sequence[int] = (16,),
    head_channels: Annotated[int, Meta(ge=0, le=1 << 16)] = 0,
    groups: Width = 32,
    epsilon: float = 1e-6,
    pad_both_sides: bool = False,
    sines_first: bool = True,
    frequency_shift: Annotated[int, Meta(ge=0, le=1)] = 1,
    centre_input: bool = False,
    learned_variance: bool = False,
    prediction: str = "eps",
    betas: str = "linear",
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    steps: Steps = 1000,
    dtype: str = "float32",
) -> Model:
    """The U-Net of `UNet2DModel`; the defaults are google/ddpm-cifar10-32, 35.7 M parameters.

    Noise outside the levels of the schedule is treated as the nearest one.

    Args:
        image_shape: height, width and channels.
        widths: channels of each level; every level has half the resolution of the one before.
        blocks: residual blocks of each level on the way down; the way up has one more.
        attention: heights of the levels whose residual blocks are followed by attention.
        head_channels: of each head of the attention; 0 for one head of all channels.
        groups: of the norms; divides the widths.
        epsilon: of the norms.
        pad_both_sides: before a convolution with stride 2, or only below and to the right.
        sines_first: of the embedding of time, before its cosines.
        frequency_shift: of its frequencies, see `discrete_time.time_embedding`.
        centre_input: the network is given 2 y - 1 instead of y.
        learned_variance: there are as many outputs again for variances, which are not used.
        prediction: of the network, "eps", "v" (alpha eps - sigma x) or "x".
        betas: see `discrete_time.index_gammas`, like the following three.
        beta_start: the first one.
        beta_end: the last one.
        steps: how many there are.
        dtype: of the activations, "float32" or "bfloat16"; parameters are float32.

    Raises:
        UsageError: a field that cannot be used, named.
    """
    check_positive("model", widths=min(widths, default=0), blocks=blocks, groups=groups)
    for width in widths:
        check_multiple("model.widths", width, groups, "the number of groups (model.groups)")
        check_multiple("model.widths", width, head_channels or 1, "the channels of a head")
    check_multiple("model.widths", widths[0], 4, "for as many sines as cosines of time")
    check_halvings(image_shape, len(widths) - 1)
    check_attention(attention, image_shape, len(widths))
    check_epsilon("model.epsilon", epsilon)
    one_of("model.prediction", prediction, PREDICTIONS)
    gammas = index_gammas(betas, steps, beta_start, beta_end)
    network = DiffusersUNet(
        outputs=image_shape[-1] * (2 if learned_variance else 1),
        widths=tuple(widths),
        blocks=blocks,
        attention=tuple(image_shape[0] // 2**level in attention for level in range(len(widths))),
        head_channels=head_channels,
        groups=groups,
        epsilon=epsilon,
        pad_both_sides=pad_both_sides,
        sines_first=sines_first,
        frequency_shift=frequency_shift,
        dtype=activation_dtype(dtype),
    )

    return discrete_time_model(
        "diffusers_unet",
        network,
        image_shape,
        lambda gamma: index_at(gamma, gammas),
        prediction,
        centre_input,
    )
