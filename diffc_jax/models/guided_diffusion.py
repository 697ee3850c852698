"""The U-Net of "Diffusion Models Beat GANs on Image Synthesis" (Dhariwal & Nichol 2021), without classes.

That of improved-diffusion whose resampling is done by residual blocks, with one head for every 64 channels;
it is told the indices of a linear schedule of 1000 steps. Pixels and noise levels are those of
`discrete_time`.
"""

from collections.abc import Sequence

from diffc_jax.models.base import Model
from diffc_jax.models.discrete_time import discrete_time_model, index_at, index_gammas
from diffc_jax.models.improved_diffusion import ImprovedDiffusionUNet, check_sizes
from diffc_jax.models.layers import Depth, Width, activation_dtype, check_multiple, check_positive

_GAMMAS = index_gammas("linear", steps=1000, start=1e-4, end=0.02)


def guided_diffusion_model(
    image_shape: tuple[int, int, int] = (256, 256, 3),
    width: Width = 256,
    multipliers: Sequence[Width] = (1, 1, 2, 2, 4, 4),
    blocks: Depth = 2,
    attention: Sequence[int] = (32, 16, 8),
    head_channels: Width = 64,
    heads_last: bool = False,
    dtype: str = "float32",
) -> Model:
    """The U-Net with a linear schedule of 1000 steps and learned variances, which are not used.

    The defaults are the unconditional 256x256 networks, 552.8 M parameters. The network has seen noise from
    gamma = -9.21 to 10.12; less noise than that is treated as the least it knows.

    Args:
        image_shape: height, width and channels.
        width: channels at the first level; a multiple of 32, the groups of the norms.
        multipliers: of `width` for each level; every level has half the resolution of the one before.
        blocks: residual blocks of each level on the way down; the way up has one more.
        attention: heights of the levels whose residual blocks are followed by attention.
        head_channels: of each head of the attention.
        heads_last: of the channels of queries, keys and values (`use_new_attention_order`).
        dtype: of the activations, "float32" or "bfloat16"; parameters are float32.

    Raises:
        UsageError: a field that cannot be used, named.
    """
    check_sizes(image_shape, width, multipliers, blocks, attention)
    check_positive("model", head_channels=head_channels)
    check_multiple("model.width", width, head_channels, "the channels of a head")
    network = ImprovedDiffusionUNet(
        outputs=2 * image_shape[-1],
        width=width,
        multipliers=tuple(multipliers),
        blocks=blocks,
        attention=tuple(attention),
        heads=0,
        dtype=activation_dtype(dtype),
        head_channels=head_channels,
        heads_last=heads_last,
        resampling_blocks=True,
    )
    return discrete_time_model(
        "guided_diffusion", network, image_shape, lambda gamma: index_at(gamma, _GAMMAS)
    )
