"""HiFiC's discriminator D: is a patch, given the latent, from a photograph or from the generator?"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffc_jax.baselines.hific.architecture import HificArchitecture
from diffc_jax.baselines.hific.layers import SpectralConv, leaky_relu

_LATENT_CHANNELS = 12
_STRIDES = (2, 2, 2, 1)


class Discriminator(nn.Module):
    """PatchGAN with one decision for each 8x8 pixels, conditioned on the latent; spectral norm throughout.

    Attributes:
        architecture: widths.
    """

    architecture: HificArchitecture

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w 3"],
        latents: Float[Array, "b h_ w_ c"],
        *,
        update_stats: bool,
    ) -> Float[Array, "b h//8 w//8"]:
        """Logits, positive for photographs.

        Args:
            images: with values in [0, 1].
            latents: their quantised latents.
            update_stats: whether the power iterations of the spectral norms move on.
        """
        given = leaky_relu(
            SpectralConv(_LATENT_CHANNELS, kernel=3)(latents, update_stats=update_stats)
        )
        given = jax.image.resize(given, (*images.shape[:3], _LATENT_CHANNELS), "nearest")
        x = jnp.concatenate([images, given], axis=-1)
        channels = self.architecture.discriminator_channels
        for doublings, stride in enumerate(_STRIDES):
            layer = SpectralConv(channels << doublings, stride=stride)
            x = leaky_relu(layer(x, update_stats=update_stats))
        return SpectralConv(1)(x, update_stats=update_stats)[..., 0]
