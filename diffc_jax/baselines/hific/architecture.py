"""The widths of HiFiC's networks, and what their latents can carry."""

import dataclasses

from diffc_jax.errors import UsageError

# Channels of the paper: images after the first layer, latents, hyper-latents, discriminator.
_BASE, _LATENT, _HYPER, _DISCRIMINATOR = 60, 220, 320, 64


@dataclasses.dataclass(frozen=True)
class HificArchitecture:
    """Widths and depths; the defaults are the paper's.

    Attributes:
        downsamplings: halvings of the sides between image and latent, 3 or 4.
        base_channels: after the encoder's first layer; doubled by every halving.
        latent_channels: of the latent.
        hyper_channels: of the hyper-latent and inside the hyper-prior.
        residual_blocks: of the generator.
        discriminator_channels: after the discriminator's first layer.
    """

    downsamplings: int = 4
    base_channels: int = _BASE
    latent_channels: int = _LATENT
    hyper_channels: int = _HYPER
    residual_blocks: int = 9
    discriminator_channels: int = _DISCRIMINATOR

    def __post_init__(self) -> None:
        if self.downsamplings not in (3, 4):
            raise UsageError(f"{self.downsamplings}; choose 3 or 4", field="downsamplings")
        for field in dataclasses.fields(self)[1:]:
            if getattr(self, field.name) < 1:
                raise UsageError(
                    f"{getattr(self, field.name)} must be at least 1", field=field.name
                )
        if self.base_channels < 2:
            # ChannelNorm divides by one less than the number of channels.
            raise UsageError(f"{self.base_channels} must be at least 2", field="base_channels")

    @classmethod
    def scaled(
        cls,
        width: float,
        downsamplings: int = 4,
        latent_channels: int = 0,
        residual_blocks: int = 9,
    ) -> "HificArchitecture":
        """The paper's networks with `width` times as many channels everywhere.

        Args:
            width: of the networks.
            downsamplings: see the attributes.
            latent_channels: of the latent; 0 for the paper's times `width`.
            residual_blocks: see the attributes.

        Raises:
            UsageError: `width` is not positive, or another argument is out of range.
        """
        if not width > 0:
            raise UsageError(f"{width} must be positive", field="width")

        def channels(number: int) -> int:
            return max(2, round(width * number))

        return cls(
            downsamplings=downsamplings,
            base_channels=channels(_BASE),
            latent_channels=latent_channels or channels(_LATENT),
            hyper_channels=channels(_HYPER),
            residual_blocks=residual_blocks,
            discriminator_channels=channels(_DISCRIMINATOR),
        )

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Shape of the latent of an image.

        Args:
            size: of the image, (h, w) in pixels.

        Raises:
            UsageError: the sides cannot be halved `downsamplings` times.
        """
        factor = 1 << self.downsamplings
        if min(size) < 1 or any(side % factor for side in size):
            raise UsageError(
                f"{size[0]}x{size[1]}; sides must be multiples of {factor}", field="image size"
            )
        return (size[0] // factor, size[1] // factor, self.latent_channels)

    def hyper_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Shape of the hyper-latent of an image; arguments and errors as in `latent_shape`."""
        height, width, _ = self.latent_shape(size)
        return (-(-height // 4), -(-width // 4), self.hyper_channels)

    def highest_bpp(self, size: tuple[int, int]) -> float:
        """Bits per pixel of a latent whose values all have the largest scale: no target lies above.

        Arguments and errors as in `latent_shape`. A good model needs far fewer bits for each value: at 0.14
        bits per pixel the paper's spends 0.16.
        """
        # Beside the networks, which checking another model's config should not load.
        from diffc_jax.baselines.hific.entropy_models import LARGEST_SCALE_BITS

        height, width, channels = self.latent_shape(size)
        return height * width * channels * LARGEST_SCALE_BITS / (size[0] * size[1])
