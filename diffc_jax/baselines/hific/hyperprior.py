"""The networks of the mean-scale hyper-prior (Minnen et al. 2018): what latents are expected to be."""

import flax.linen as nn
from jaxtyping import Array, Float

from diffc_jax.baselines.hific.layers import Doubling

_KERNEL = 5


class HyperAnalysis(nn.Module):
    """Latents to hyper-latents, on a grid a quarter as fine.

    Attributes:
        channels: of the hyper-latent.
    """

    channels: int

    @nn.compact
    def __call__(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b h_ w_ c_"]:
        """Hyper-latents, not quantised."""
        x = nn.relu(nn.Conv(self.channels, (3, 3))(latents))
        x = nn.relu(nn.Conv(self.channels, (_KERNEL, _KERNEL), strides=(2, 2))(x))
        return nn.Conv(self.channels, (_KERNEL, _KERNEL), strides=(2, 2))(x)


class HyperSynthesis(nn.Module):
    """Quantised hyper-latents to one parameter (mean or scale) of each value of a latent.

    Attributes:
        channels: inside.
        latent_channels: of the latent.
    """

    channels: int
    latent_channels: int

    @nn.compact
    def __call__(
        self, hyper_latents: Float[Array, "b h w c"], latent_size: tuple[int, int]
    ) -> Float[Array, "b h_ w_ c_"]:
        """Parameters for a latent of `latent_size`, (h, w), at most four times that of the hyper-latent."""
        x = hyper_latents
        for _ in range(2):
            x = nn.relu(Doubling(self.channels, _KERNEL)(x))
        height, width = latent_size
        return nn.Conv(self.latent_channels, (3, 3))(x)[:, :height, :width]
