"""What a network need not learn: the Gaussian part of the data, and that pixels have 256 values.

`WienerView` holds the exact posterior of a Gaussian fitted to the data (see `gaussian`), one
independent component for each DCT coefficient of each rotated colour. `grid_posterior` turns a
Gaussian posterior of each pixel into the posterior given that the pixel is on the grid of 8-bit values;
it decides eps for gamma below -11, where noise is smaller than the distance of two values.
"""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffc_jax.diffusion import process
from diffc_jax.models.base import Variables
from diffc_jax.models.gaussian import from_components, inverse_dct2, to_components

_SPACING = 2.0 / process.LEVELS
# Squared spacings. Above, the grid moves the mean by less than 4e-4 spacings; below, the posterior is
# a single value.
_VARIANCE_RANGE = (1e-4, 0.5)


@flax.struct.dataclass
class WienerView:
    """Noisy images seen by the Gaussian; all arrays are in the basis of `gaussian.to_components`."""

    rotation: Float[Array, "c c"]  # principal colours
    scaled: Float[Array, "b h w c"]  # components of z divided by their standard deviation
    noise: Float[Array, "b h w c"]  # posterior mean of the components of eps
    error: Float[Array, "b h w c"]  # posterior variance of the components of eps, in (0, 1)

    @property
    def mean_error(self) -> Float[Array, "b 1 1 1"]:
        """Posterior variance of eps, averaged over the image."""
        return jnp.mean(self.error, axis=(1, 2, 3), keepdims=True)

    def features(self) -> Float[Array, "b h w d"]:
        """Two images in rotated colours, all of about unit variance: whitened z, and the Wiener eps."""
        scale = jax.lax.rsqrt(1.0 - self.mean_error + 1e-6)
        both = jnp.concatenate([self.scaled, self.noise * scale], axis=-1)
        return inverse_dct2(both)

    def corrected_eps(self, correction: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Posterior mean of eps plus a correction of its components, in posterior standard deviations."""
        return from_components(self.noise + jnp.sqrt(self.error) * correction, self.rotation)


def wiener_view(
    fixed: Variables, z: Float[Array, "b h w c"], gamma: Float[Array, " b"]
) -> WienerView:
    """The posterior of the Gaussian with statistics `fixed` (`gaussian.Statistics`) given z."""
    gamma = process.per_image(gamma, z)
    alpha, sigma = process.alpha(gamma), process.sigma(gamma)
    components = to_components(z - alpha * fixed["mean"].reshape(1, 1, 1, -1), fixed["rotation"])
    signal = alpha**2 * fixed["variances"][None]
    total = signal + sigma**2
    return WienerView(
        rotation=fixed["rotation"],
        scaled=components * jax.lax.rsqrt(total),
        noise=components * sigma / total,
        error=signal / total,
    )


def grid_posterior(
    eps: Float[Array, "b h w c"],
    variance: Float[Array, "b h w c"],
    z: Float[Array, "b h w c"],
    gamma: Float[Array, " b"],
) -> Float[Array, "b h w c"]:
    """E[eps | z] where each pixel is N(eps, variance) restricted to the 8-bit grid.

    The grid goes on beyond 0 and 255; where the posterior reaches that far, it is hardly restricted. The
    result is equal to `eps` where sigma is much larger than 1/128. `eps` and `variance`, which is positive,
    are those of eps given z without the restriction.
    """
    spacings_per_eps = jnp.exp(0.5 * process.per_image(gamma, z)) / _SPACING
    x = process.x_from_eps(z, eps, gamma)
    value = (x + 1.0) / _SPACING - 0.5
    offset = value - jax.lax.stop_gradient(jnp.round(value))
    spread = jnp.clip(variance * spacings_per_eps**2, *_VARIANCE_RANGE)
    # Weights of the neighbours k = +-1, +-2, +-3 relative to the nearest value,
    # exp((2 offset k - k^2) / (2 spread)), as products of the first two: none exceeds one.
    above = jnp.exp((2.0 * offset - 1.0) / (2.0 * spread))
    below = jnp.exp((-2.0 * offset - 1.0) / (2.0 * spread))
    total, moment = jnp.ones_like(offset), jnp.zeros_like(offset)
    for k in (1, 2, 3):
        common = (above * below) ** (k * (k - 1) // 2)
        up, down = common * above**k, common * below**k
        total, moment = total + up + down, moment + k * (up - down)
    return eps - (moment / total - offset) / spacings_per_eps
