"""HiFiC's encoder E: images to latents."""

import flax.linen as nn
from jaxtyping import Array, Float

from diffc_jax.baselines.hific.architecture import HificArchitecture
from diffc_jax.baselines.hific.layers import NormedConv


class Encoder(nn.Module):
    """One layer at full size, one for each halving, and a linear one to the latent's channels.

    Attributes:
        architecture: widths.
    """

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
