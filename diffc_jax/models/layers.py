"""Parts that the networks share. Images are channel-last; positions are normalised to [0, 1]."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Key

from diffc_jax.errors import UsageError
from diffc_jax.models.attention import attend
from diffc_jax.models.base import Model, Variables
from diffc_jax.models.convolution import KERNELS
from diffc_jax.typed import Meta, check_arguments

# The ends of the noise range that the networks expect, for 8-bit images (Kingma et al. 2021).
GAMMA_RANGE = (-13.3, 5.0)

# Sizes of networks, whose least values the builders check. What is beyond is a slip or a damaged card, and
# would take days to find out.
Depth = Annotated[int, Meta(le=1 << 8)]
Width = Annotated[int, Meta(le=1 << 16)]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def normalised_gamma(
    gamma: Float[Array, " b"], gamma_range: tuple[float, float]
) -> Float[Array, " b"]:
    """Maps `gamma_range` to [0, 1]."""
    low, high = gamma_range
    return (gamma - low) / (high - low)


LEAST_SINUSOIDS = 4


def sinusoidal_embedding(position: Float[Array, " b"], width: int) -> Float[Array, "b w"]:
    """Sines, then cosines, of `width // 2` angular frequencies spaced logarithmically from 1000 to 0.1.

    Positions are in [0, 1]; the width is even, at least `LEAST_SINUSOIDS`.
    """
    half = width // 2
    frequencies = 1000.0 * jnp.exp(-math.log(1e4) / (half - 1) * jnp.arange(half))
    angles = position[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class GammaEmbedding(nn.Module):
    """Sinusoids of the noise level, normalised to [0, 1], and two dense layers, each followed by swish."""

    width: int
    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, position: Float[Array, " b"]) -> Float[Array, "b f"]:
        x = sinusoidal_embedding(position, self.width)
        for _ in range(2):
            x = nn.swish(nn.Dense(self.features, dtype=self.dtype)(x))
        return x


class SelfAttention(nn.Module):
    """Attention of every pixel to all pixels, with a zero-initialised projection; no skip, no norm.

    The heads must divide the channels; the softmax is computed in float32.
    """

    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        batch, height, width, channels = x.shape
        qkv = nn.Dense(3 * channels, dtype=self.dtype)(x)
        qkv = qkv.reshape(batch, height * width, 3, self.heads, channels // self.heads)
        mixed = attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        project = nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros)
        return project(mixed.reshape(x.shape))


def run_network(
    network: nn.Module,
    variables: Variables,
    *inputs: Array,
    dropout_key: Key[Array, ""] | None = None,
) -> Array:
    """Applies `network` to its own of the variables, with dropout if there is a key for it."""
    rngs = None if dropout_key is None else {"dropout": dropout_key}
    own = {name: variables[name] for name in ("params", KERNELS) if name in variables}
    return cast(Array, network.apply(own, *inputs, training=rngs is not None, rngs=rngs))


def space_to_depth(
    x: Float[Array, "b h w c"], size: int
) -> Float[Array, "b h//{size} w//{size} d"]:
    """Every block of `size` x `size` pixels becomes one pixel with size^2 as many channels."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // size, size, w // size, size, c).swapaxes(2, 3)
    return x.reshape(b, h // size, w // size, size * size * c)


def depth_to_space(x: Float[Array, "b h w d"], size: int) -> Float[Array, "b h*{size} w*{size} c"]:
    """Inverse of `space_to_depth`."""
    b, h, w, d = x.shape
    c = d // size**2
    x = x.reshape(b, h, w, size, size, c).swapaxes(2, 3)
    return x.reshape(b, h * size, w * size, c)


def activation_dtype(name: str, group: str = "model") -> Any:
    """The dtype of that name; UsageError, with the field's group, if there is none."""
    if name not in DTYPES:
        raise UsageError(
            f"unknown {name!r}; choose one of {', '.join(DTYPES)}", field=f"{group}.dtype"
        )
    return DTYPES[name]


def build_from_fields(
    builder: Callable[..., Model],
    group: str,
    name: str,
    fields: Mapping[str, Any],
    image_shape: tuple[int, int, int],
) -> Model:
    """Calls `builder(image_shape=image_shape, **fields)` after a check of names and types of the fields.

    `group` is what they belong to in a config ("model"), and is passed on if the builder asks for it; `name`
    is that of the model, for messages.

    Raises:
        UsageError: a field that the model does not have, or that it needs and lacks, or of another type.
    """
    own: dict[str, Any] = {"image_shape": image_shape, "group": group}
    given = {arg: own[arg] for arg in own if arg in inspect.signature(builder).parameters}
    check_arguments(builder, fields, group, name, given)
    return builder(**given, **fields)


def check_positive(group: str, **fields: int) -> None:
    """Raises UsageError for the first field of a group below one."""
    for field, value in fields.items():
        if value < 1:
            raise UsageError(f"{value} must be at least 1", field=f"{group}.{field}")


def check_multiple(field: str, value: int, divisor: int, reason: str) -> None:
    """Raises UsageError unless `divisor` divides `value`."""
    if value % divisor:
        raise UsageError(f"{value} is not a multiple of {divisor}, {reason}", field=field)


def check_halvings(image_shape: tuple[int, int, int], halvings: int) -> None:
    """Raises UsageError unless height and width can be halved that many times."""
    for side in image_shape[:2]:
        check_multiple(
            "data.image_size", side, 2**halvings, f"halved {halvings} times by the levels"
        )


def check_attention(
    heights: Sequence[int], image_shape: tuple[int, int, int], n_levels: int
) -> None:
    """Raises UsageError for heights of `model.attention` that none of so many levels has."""
    levels = [image_shape[0] // 2**level for level in range(n_levels)]
    for height in heights:
        if height not in levels:
            raise UsageError(
                f"no level is {height} high; they are {', '.join(map(str, levels))}",
                field="model.attention",
            )


def check_epsilon(field: str, value: float) -> None:
    """Raises UsageError for what no norm adds to variances."""
    if not 0.0 < value < 1.0:
        raise UsageError(f"{value} is not inside (0, 1)", field=field)


def check_common(group: str, dropout: float, gamma_range: Sequence[float | int]) -> None:
    """Raises UsageError for values of a group's fields that no network can use."""
    if not 0.0 <= dropout < 1.0:
        raise UsageError(f"{dropout} is not in [0, 1)", field=f"{group}.dropout")
    if len(gamma_range) != 2 or gamma_range[0] >= gamma_range[1]:
        raise UsageError(
            f"{gamma_range} must be two increasing numbers", field=f"{group}.gamma_range"
        )
