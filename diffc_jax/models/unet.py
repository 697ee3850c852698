"""An efficient U-Net for small machines, around an exact Gaussian denoiser.

Convolutions on thin, large images are slow on CPUs and starve accelerators, so the network works on
patches of pixels, and what that loses or needs long to learn is exact instead (`preconditioning`). The
network sees the image whitened by a Gaussian fitted to the data; it predicts a correction of the
Wiener filter in units of its posterior deviation, and for each pixel a variance with which the pixel is
put on the grid of 8-bit values. At initialisation it is that denoiser, and it trains without a plateau.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Key

from diffc_jax.errors import UsageError
from diffc_jax.models.base import Model, Variables
from diffc_jax.models.convolution import KERNELS, Conv, transformed_kernels
from diffc_jax.models.gaussian import dct2, statistics_shapes
from diffc_jax.models.layers import (
    GAMMA_RANGE,
    Depth,
    GammaEmbedding,
    SelfAttention,
    Width,
    activation_dtype,
    check_common,
    check_multiple,
    check_positive,
    depth_to_space,
    normalised_gamma,
    run_network,
    space_to_depth,
)
from diffc_jax.models.preconditioning import grid_posterior, wiener_view

_EMBEDDING_WIDTH = 64
_EMBEDDING_FEATURES = 256


class ModulatedNorm(nn.Module):
    """Layer norm over channels; scale and shift come from the noise level."""

    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"]
    ) -> Float[Array, "b h w c"]:
        modulation = nn.Dense(2 * x.shape[-1], dtype=self.dtype, kernel_init=nn.initializers.zeros)(
            embedding
        )
        scale, shift = jnp.split(modulation[:, None, None], 2, axis=-1)
        x = nn.LayerNorm(use_bias=False, use_scale=False, dtype=self.dtype)(x)
        return x * (1.0 + scale) + shift


class GatedBlock(nn.Module):
    """x + dense(a swish(b)), where a and b are convolutions of the normalised input.

    The product lets the network choose among linear filters from place to place, as edges and textures
    ask for.
    """

    dropout: float
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"], training: bool
    ) -> Float[Array, "b h w c"]:
        width = x.shape[-1]
        h = ModulatedNorm(self.dtype)(x, embedding)
        h = Conv(2 * width, self.dtype)(h)
        h = gate(h)
        h = nn.Dropout(self.dropout, deterministic=not training)(h)
        initializer = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
        return x + nn.Dense(width, dtype=self.dtype, kernel_init=initializer)(h)


def gate(x: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
    """First half of the channels times swish of the second half."""
    first, second = jnp.split(x, 2, axis=-1)
    return first * nn.swish(second)


class PatchUNet(nn.Module):
    """Maps features of pixels and the noise level to outputs for each pixel; see `unet_model`."""

    outputs: int
    patch: int
    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    heads: int
    gamma_range: tuple[float, float]
    dropout: float
    dtype: DTypeLike
    remat: bool

    @nn.compact
    def __call__(
        self, features: Float[Array, "b h w c"], gamma: Float[Array, " b"], training: bool = False
    ) -> Float[Array, "b h w d"]:
        block_class = nn.remat(GatedBlock, static_argnums=(3,)) if self.remat else GatedBlock

        def run_blocks(x: Array, count: int, name: str) -> Array:
            for i in range(count):
                block = block_class(self.dropout, self.dtype, name=f"{name}_{i}")
                x = block(x, embedding, training)
            return x

        def dense(size: int, name: str) -> nn.Dense:
            return nn.Dense(size, dtype=self.dtype, name=name)

        embedding = GammaEmbedding(_EMBEDDING_WIDTH, _EMBEDDING_FEATURES, self.dtype)(
            normalised_gamma(gamma, self.gamma_range)
        )
        patches = space_to_depth(features, self.patch).astype(self.dtype)
        x = dense(self.widths[0], "stem")(patches)
        skips = []
        for level, count in enumerate(self.blocks[:-1]):
            # Blocks at the finest level cost most, and pay off where pixels are decided: on the way up.
            if level > 0:
                x = run_blocks(x, count, f"down_{level}")
            skips.append(x)
            x = dense(self.widths[level + 1], f"shrink_{level}")(space_to_depth(x, 2))
        x = run_blocks(x, self.blocks[-1], "bottom")
        x = x + SelfAttention(self.heads, self.dtype, name="attention")(
            ModulatedNorm(self.dtype, name="attention_norm")(x, embedding)
        )
        x = run_blocks(x, 1, "after_attention")
        for level, count in reversed(list(enumerate(self.blocks[:-1]))):
            x = skips.pop() + depth_to_space(dense(4 * self.widths[level], f"grow_{level}")(x), 2)
            x = run_blocks(x, count, f"up_{level}")
        x = ModulatedNorm(self.dtype, name="head_norm")(x, embedding)
        # The features of the patch itself again: pixel detail that did not fit through the width.
        x = gate(dense(2 * self.widths[0], "head_gate")(jnp.concatenate([x, patches], axis=-1)))
        head = nn.Dense(
            self.outputs * self.patch**2, kernel_init=nn.initializers.zeros, name="head"
        )
        return depth_to_space(head(x.astype(jnp.float32)), self.patch)


def unet_model(
    image_shape: tuple[int, int, int] = (64, 64, 3),
    patch: Width = 2,
    widths: Sequence[Width] = (32, 64, 192),
    blocks: Sequence[Depth] = (1, 1, 1),
    heads: Width = 4,
    gamma_range: Sequence[float | int] = GAMMA_RANGE,
    dropout: float = 0.0,
    dtype: str = "float32",
    remat: bool = False,
    group: str = "model",
) -> Model:
    """The efficient U-Net; the defaults train usefully in minutes on two CPU cores.

    Args:
        image_shape: height, width and channels of 8-bit images.
        patch: side of the patches that become the positions of the first level.
        widths: channels of each level; every level has half the resolution of the one before.
        blocks: gated blocks of each level, on the way up and, but for the first level, on the way down;
            at the last level before attention, followed by one more.
        heads: of the attention at the last level; divides the last of `widths`.
        gamma_range: noise levels that the embedding maps to [0, 1].
        dropout: rate in training.
        dtype: of the activations, "float32" or "bfloat16"; all else is float32.
        remat: recompute the blocks' activations in the backward pass, to save memory.
        group: what these fields belong to in a config, for messages.

    Raises:
        UsageError: a field that cannot be used, named; at `init`, statistics of other images.
    """
    if len(widths) != len(blocks) or not widths:
        raise UsageError(
            f"{tuple(blocks)} must have one entry for each of widths={tuple(widths)}",
            field=f"{group}.blocks",
        )
    check_positive(group, patch=patch, widths=min(widths), blocks=min(blocks), heads=heads)
    check_multiple(f"{group}.widths", widths[-1], heads, f"the number of heads ({group}.heads)")
    halvings = len(widths) - 1
    for side in image_shape[:2]:
        reason = f"patches of {group}.patch={patch} halved {halvings} times by {group}.widths"
        check_multiple("data.image_size", side, patch * 2**halvings, reason)
    check_common(group, dropout, gamma_range)
    channels = image_shape[-1]
    network = PatchUNet(
        outputs=2 * channels,
        patch=patch,
        widths=tuple(widths),
        blocks=tuple(blocks),
        heads=heads,
        gamma_range=(float(gamma_range[0]), float(gamma_range[1])),
        dropout=dropout,
        dtype=activation_dtype(dtype, group),
        remat=remat,
    )

    def blank() -> tuple[Array, Array]:
        return jnp.zeros((1, *image_shape[:2], 2 * channels)), jnp.zeros(1)

    def init(key: Key[Array, ""], statistics: Any) -> Variables:
        found = None if statistics is None else statistics["variances"].shape
        if found != tuple(image_shape):
            raise UsageError(
                f"unet needs variances of shape {tuple(image_shape)}, got {found}",
                field="statistics",
            )
        return {**network.init(key, *blank()), "fixed": statistics}

    def denoise(
        variables: Variables,
        z: Float[Array, "b h w c"],
        gamma: Float[Array, " b"],
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "b h w c"]:
        view = wiener_view(variables["fixed"], z, gamma)
        outputs = run_network(network, variables, view.features(), gamma, dropout_key=dropout_key)
        correction, log_variance = jnp.split(outputs, 2, axis=-1)
        eps = view.corrected_eps(dct2(correction))
        return grid_posterior(eps, view.mean_error * jnp.exp(log_variance), z, gamma)

    def prepare(variables: Variables) -> Variables:
        kernels = functools.partial(transformed_kernels, network)
        return {**variables, KERNELS: jax.jit(kernels)(variables["params"], *blank())}

    return Model("unet", init, denoise, denoise, statistics_shapes(image_shape), prepare)
