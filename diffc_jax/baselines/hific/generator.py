"""HiFiC's generator G: quantised latents to images."""

import flax.linen as nn
from jaxtyping import Array, Float

from diffc_jax.baselines.hific.architecture import HificArchitecture
from diffc_jax.baselines.hific.layers import ChannelNorm, Doubling, NormedConv


class Generator(nn.Module):
    """Residual blocks on the latent's grid with a skip over all of them, then a layer for each doubling.

    Attributes:
        architecture: widths.
    """

    architecture: HificArchitecture

    @nn.compact
    def __call__(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b h_ w_ 3"]:
        """Images with values around [0, 1]; nothing keeps them inside."""
        base, doublings = self.architecture.base_channels, self.architecture.downsamplings
        channels = base << doublings
        head = NormedConv(channels, relu=False)(ChannelNorm()(latents))
        x = head
        for _ in range(self.architecture.residual_blocks):
            x += NormedConv(channels, relu=False)(NormedConv(channels)(x))
        x += head
        for doubling in reversed(range(doublings)):
            x = nn.relu(ChannelNorm()(Doubling(base << doubling, kernel=3)(x)))
        # Starts near grey: errors of images out of range would teach the encoder to send nothing.
        return nn.Conv(
            3,
            (7, 7),
            kernel_init=nn.initializers.variance_scaling(0.05, "fan_in", "truncated_normal"),
            bias_init=nn.initializers.constant(0.5),
        )(x)
