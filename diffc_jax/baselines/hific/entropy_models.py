"""Probabilities of quantised values: a learned density for hyper-latents, Gaussians for latents.

Both give the mass of the unit interval around a value, so the same formula serves values with uniform noise
(a differentiable stand-in for rounding, Balle et al. 2017) and rounded ones. Bits are -log2 of the mass.
"""

import functools
import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float, Int, Key, UInt8

# Scales of the Gaussians that bytes are written with, spaced logarithmically; also bounds for training.
NUM_SCALES = 64
SMALLEST_SCALE, LARGEST_SCALE = 0.11, 256.0
# Differential entropy of a Gaussian of the largest scale, bits.
LARGEST_SCALE_BITS = 0.5 * math.log2(2 * math.pi * math.e * LARGEST_SCALE**2)

_LEAST_MASS = 1e-9
_LOG_RANGE = math.log(LARGEST_SCALE / SMALLEST_SCALE)
_FILTERS = (1, 3, 3, 3, 1)
_INITIAL_SPREAD = 10.0
# Medians of hyper-latents are looked for in -4096 to 4096.
_MEDIAN_RANGE = 4096.0
_BISECTIONS = 64


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def lower_bound(x: Float[Array, "*n"], bound: float) -> Float[Array, "*n"]:
    """The larger of `x` and `bound`, with a gradient that still lifts values below the bound."""
    return jnp.maximum(x, bound)


def _lower_bound_forward(x: Array, bound: float) -> tuple[Array, Bool[Array, "*n"]]:
    return jnp.maximum(x, bound), x >= bound


def _lower_bound_backward(_: float, inside: Array, gradient: Array) -> tuple[Array]:
    # A descent step moves against the gradient: a negative one lifts x.
    return (jnp.where(inside | (gradient < 0), gradient, 0.0),)


lower_bound.defvjp(_lower_bound_forward, _lower_bound_backward)


def bits(masses: Float[Array, "b *n"]) -> Float[Array, " b"]:
    """Bits of the values of each image, given their masses; a value never costs more than 30."""
    costs = -jnp.log2(lower_bound(masses, _LEAST_MASS))
    return costs.reshape(len(masses), -1).sum(axis=1)


def add_noise(x: Float[Array, "*n"], key: Key[Array, ""]) -> Float[Array, "*n"]:
    """`x` with uniform noise of the width of a quantisation step."""
    return x + jax.random.uniform(key, x.shape, x.dtype, -0.5, 0.5)


def straight_through_round(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The nearest whole number, with the gradient of the identity."""
    return x + jax.lax.stop_gradient(jnp.round(x) - x)


def gaussian_mass(distances: Float[Array, "*n"], scales: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Mass that a Gaussian has within half a unit of values.

    Args:
        distances: of the values from the mean.
        scales: standard deviations; they count as `SMALLEST_SCALE` where they are below it.
    """
    scales = lower_bound(scales, SMALLEST_SCALE)
    # In the lower tail differences keep their precision.
    distances = jnp.abs(distances)
    return ndtr((0.5 - distances) / scales) - ndtr((-0.5 - distances) / scales)


def table_scales() -> Float[np.ndarray, " 64"]:
    """The scales that bytes are written with."""
    return np.geomspace(SMALLEST_SCALE, LARGEST_SCALE, NUM_SCALES)


def scale_indices(scales: Float[Array, "*n"]) -> UInt8[Array, "*n"]:
    """Indices of the nearest of `table_scales`, in ratio."""
    octaves = jnp.log(jnp.clip(scales, SMALLEST_SCALE, LARGEST_SCALE) / SMALLEST_SCALE)
    return jnp.round(octaves * ((NUM_SCALES - 1) / _LOG_RANGE)).astype(jnp.uint8)


class FactorizedPrior(nn.Module):
    """A density for each channel, whose cumulative function is a small monotone network.

    The logit of the cumulative function is a stack of four matrices with positive entries and three
    nonlinearities x + tanh(a) tanh(x), three units wide (Balle et al. 2018, appendix 6.1).

    Attributes:
        channels: number of densities.
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
