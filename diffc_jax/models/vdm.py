"""The U-Net of variational diffusion models (Kingma et al. 2021, appendix B), as in DiffC.

It never down-samples: likelihood is decided by fine detail, so all blocks see all pixels. At 64
blocks and width 256 it has 237.6 M parameters, the size used for ImageNet 64x64.
"""

from collections.abc import Sequence
from typing import Annotated, Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Key

from diffc_jax.errors import UsageError
from diffc_jax.models.base import Model, Variables
from diffc_jax.models.convolution import Conv
from diffc_jax.models.layers import (
    GAMMA_RANGE,
    LEAST_SINUSOIDS,
    Depth,
    GammaEmbedding,
    SelfAttention,
    Width,
    activation_dtype,
    check_common,
    check_epsilon,
    check_multiple,
    check_positive,
    normalised_gamma,
    run_network,
)
from diffc_jax.typed import Meta

# Flax's.
EPSILON = 1e-6
_Exponent = Annotated[int, Meta(ge=0, le=32)]


def fourier_features(
    z: Float[Array, "b h w c"], exponents: Sequence[int]
) -> Float[Array, "b h w d"]:
    """z, then sin(2 pi 2^n z) and cos(2 pi 2^n z) for every n (VDM, appendix C).

    n = 7 has one period for each of the 256 values in [-1, 1]: it tells how far z is from the
    nearest one.
    """
    frequencies = 2.0 * jnp.pi * 2.0 ** jnp.asarray(exponents, z.dtype)
    angles = (z[..., None] * frequencies.reshape(1, 1, 1, 1, -1)).reshape(*z.shape[:-1], -1)
    return jnp.concatenate([z, jnp.sin(angles), jnp.cos(angles)], axis=-1)


class ResidualBlock(nn.Module):
    """Two convolutions after norm and swish; the noise level shifts the second norm's input.

    The second convolution is zero-initialised, so that a block starts as its skip, which a dense layer adapts
    if the input has other channels than `width`.
    """

    width: int
    groups: int
    dropout: float
    dtype: DTypeLike
    epsilon: float = EPSILON

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], embedding: Float[Array, "b e"], training: bool
    ) -> Float[Array, "b h w d"]:
        h = nn.swish(nn.GroupNorm(self.groups, epsilon=self.epsilon, dtype=self.dtype)(x))
        h = Conv(self.width, self.dtype)(h)
        shift = nn.Dense(
            self.width, use_bias=False, dtype=self.dtype, kernel_init=nn.initializers.zeros
        )(embedding)
        h = nn.swish(
            nn.GroupNorm(self.groups, epsilon=self.epsilon, dtype=self.dtype)(
                h + shift[:, None, None]
            )
        )
        h = nn.Dropout(self.dropout, deterministic=not training)(h)
        h = Conv(self.width, self.dtype, kernel_init=nn.initializers.zeros)(h)
        if x.shape[-1] != self.width:
            x = nn.Dense(self.width, dtype=self.dtype)(x)
        return x + h


class VDMNetwork(nn.Module):
    """eps_hat = z + h(z, gamma); see `vdm_model` for the fields."""

    blocks: int
    width: int
    groups: int
    fourier: tuple[int, ...]
    gamma_range: tuple[float, float]
    dropout: float
    dtype: DTypeLike
    remat: bool
    epsilon: float

    @nn.compact
    def __call__(
        self, z: Float[Array, "b h w c"], gamma: Float[Array, " b"], training: bool = False
    ) -> Float[Array, "b h w c"]:
        block_class = nn.remat(ResidualBlock, static_argnums=(3,)) if self.remat else ResidualBlock

        def block(x: Array, name: str) -> Array:
            module = block_class(
                self.width, self.groups, self.dropout, self.dtype, self.epsilon, name=name
            )
            return module(x, embedding, training)

        embedding = GammaEmbedding(self.width, 4 * self.width, self.dtype)(
            normalised_gamma(gamma, self.gamma_range)
        )
        # Fourier features need float32: 2 pi 2^7 z in bfloat16 has lost its phase.
        features = fourier_features(z, self.fourier)
        stem = nn.Conv(self.width, (3, 3), dtype=self.dtype, name="stem")(features)
        down, up = ([f"{way}_{i}" for i in range(self.blocks)] for way in ("down", "up"))
        if self.is_initializing():  # only the parameters matter, and the loop needs them
            for name in down:
                block(stem, name)
            for name in up:
                block(jnp.concatenate([stem, stem], axis=-1), name)
            x, skips = stem, None
        else:
            x, skips = self._scan(down, stem, embedding, training)
        x = block(x, "middle_0")
        x = x + SelfAttention(heads=1, dtype=self.dtype)(
            nn.GroupNorm(self.groups, epsilon=self.epsilon, dtype=self.dtype)(x)
        )
        x = block(x, "middle_1")
        if skips is not None:
            x, _ = self._scan(up[::-1], x, embedding, training, skips)
        x = block(jnp.concatenate([x, stem], axis=-1), f"up_{self.blocks}")
        x = nn.swish(nn.GroupNorm(self.groups, epsilon=self.epsilon, dtype=self.dtype)(x))
        head = nn.Conv(z.shape[-1], (3, 3), kernel_init=nn.initializers.zeros, name="head")
        return z + head(x.astype(jnp.float32))

    def _scan(
        self,
        names: Sequence[str],
        x: Float[Array, "b h w c"],
        embedding: Float[Array, "b e"],
        training: bool,
        skips: Float[Array, "n b h w c"] | None = None,
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "n b h w c"] | None]:
        """Runs blocks of equal shapes as one loop: forwards, or backwards along `skips`.

        It is compiled once, and its backward pass ends with a block before it starts the next, which is
        what rematerialisation saves memory by. On CPUs a loop is slower than what is in it, so that without
        rematerialisation there is none.

        Returns:
            The last output, and without `skips` the outputs of all blocks.
        """
        block = ResidualBlock(
            self.width, self.groups, self.dropout, self.dtype, self.epsilon, parent=None
        )
        params = self.variables["params"]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(params[name] for name in names))
        keys = jax.random.split(self.make_rng("dropout"), len(names)) if training else None

        def step(x: Array, inputs: tuple[Variables, Any, Any]) -> tuple[Array, Array | None]:
            params, key, skip = inputs
            h = x if skip is None else jnp.concatenate([x, skip], axis=-1)
            rngs = {"dropout": key} if training else None
            y = cast(Array, block.apply({"params": params}, h, embedding, training, rngs=rngs))
            return y, y if skip is None else None

        step = jax.checkpoint(step, prevent_cse=False) if self.remat else step
        unroll = jax.default_backend() == "cpu" and not self.remat
        return jax.lax.scan(
            step, x, (stacked, keys, skips), reverse=skips is not None, unroll=unroll
        )


def vdm_model(
    image_shape: tuple[int, int, int] = (64, 64, 3),
    blocks: Depth = 64,
    width: Width = 256,
    groups: Width = 32,
    fourier: Sequence[_Exponent] = (6, 7),
    gamma_range: tuple[float, float] = GAMMA_RANGE,
    dropout: float = 0.1,
    dtype: str = "float32",
    remat: bool = False,
    epsilon: float = EPSILON,
) -> Model:
    """The VDM U-Net; the defaults are the paper's for ImageNet 64x64.

    Args:
        image_shape: height, width and channels.
        blocks: residual blocks on the way down; the way up has one more.
        width: channels of every block.
        groups: of the group norms; divides `width`.
        fourier: exponents n of the Fourier features of z, sin and cos of 2 pi 2^n z.
        gamma_range: noise levels that the embedding maps to [0, 1].
        dropout: rate in training.
        dtype: of the activations, "float32" or "bfloat16"; parameters are float32.
        remat: recompute the blocks' activations in the backward pass, to save memory.
        epsilon: of the norms, added to variances.

    Raises:
        UsageError: a field that cannot be used, named.
    """
    check_positive("model", blocks=blocks, width=width, groups=groups)
    check_multiple("model.width", width, groups, "the number of groups (model.groups)")
    check_multiple("model.width", width, 2, "for as many sines as cosines of gamma")
    if width < LEAST_SINUSOIDS:
        raise UsageError(f"{width} must be at least {LEAST_SINUSOIDS}", field="model.width")
    check_common("model", dropout, gamma_range)
    check_epsilon("model.epsilon", epsilon)
    network = VDMNetwork(
        blocks=blocks,
        width=width,
        groups=groups,
        fourier=tuple(fourier),
        gamma_range=(gamma_range[0], gamma_range[1]),
        dropout=dropout,
        dtype=activation_dtype(dtype),
        remat=remat,
        epsilon=epsilon,
    )

    def init(key: Key[Array, ""], statistics: Any) -> Variables:
        del statistics
        return network.init(key, jnp.zeros((1, *image_shape)), jnp.zeros(1))

    def denoise(
        variables: Variables,
        z: Float[Array, "b h w c"],
        gamma: Float[Array, " b"],
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "b h w c"]:
        return run_network(network, variables, z, gamma, dropout_key=dropout_key)

    return Model("vdm", init, denoise, denoise)
