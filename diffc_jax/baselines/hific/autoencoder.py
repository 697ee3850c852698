"""Encoder, entropy models and generator as one module."""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from diffc_jax.baselines.hific import entropy_models
from diffc_jax.baselines.hific.architecture import HificArchitecture
from diffc_jax.baselines.hific.encoder import Encoder
from diffc_jax.baselines.hific.entropy_models import FactorizedPrior
from diffc_jax.baselines.hific.generator import Generator
from diffc_jax.baselines.hific.hyperprior import HyperAnalysis, HyperSynthesis

Images = Float[Array, "b h w 3"]


@flax.struct.dataclass
class Symbols:
    """What a file holds: whole numbers for each value of the latent and of the hyper-latent.

    Attributes:
        latent: (b, h, w, c), distances from the means that the hyper-latent gives.
        hyper: (b, h', w', c'), distances from the medians of the factorised prior.
    """

    latent: Int[Array, "b h w c"]
    hyper: Int[Array, "b h_ w_ c_"]


@flax.struct.dataclass
class Forward:
    """What training needs of a batch.

    Attributes:
        reconstructions: of the images, not clipped.
        latents: quantised, which is what generator and discriminator see.
        bits: of each image with noise instead of rounding, differentiable.
        quantised_bits: of each image with rounding, for which the target is meant.
    """

    reconstructions: Images
    latents: Float[Array, "b h_ w_ c"]
    bits: Float[Array, " b"]
    quantised_bits: Float[Array, " b"]


class Autoencoder(nn.Module):
    """HiFiC without its discriminator; images have values in [0, 1].

    Attributes:
        architecture: widths.
    """

    architecture: HificArchitecture

    def setup(self) -> None:
        """Makes the parts."""
        latent, hyper = self.architecture.latent_channels, self.architecture.hyper_channels
        self.encoder = Encoder(self.architecture)
        self.generator = Generator(self.architecture)
        self.hyper_analysis = HyperAnalysis(hyper)
        self.hyper_mean = HyperSynthesis(hyper, latent)
        self.hyper_scale = HyperSynthesis(hyper, latent)
        self.prior = FactorizedPrior(hyper)

    def __call__(self, images: Images, key: Key[Array, ""]) -> Forward:
        """Bits and reconstructions, as in training.

        Bits are those of noisy latents; the generator gets latents that are rounded, with the gradient of
        the identity. The hyper-latent that gives means and scales to both is noisy.
        """
        latent_key, hyper_key = jax.random.split(key)
        latents = self.encoder(images)
        hyper_latents = self.hyper_analysis(latents)
        noisy_hyper = entropy_models.add_noise(hyper_latents, hyper_key)
        means, scales = self._parameters(noisy_hyper, _grid(latents))
        distances = latents - means
        rounded = entropy_models.straight_through_round(distances)
        noisy = entropy_models.add_noise(distances, latent_key)
        medians = self._medians()
        rounded_hyper = jnp.round(hyper_latents - medians) + medians
        return Forward(
            reconstructions=self.generator(rounded + means),
            latents=rounded + means,
            bits=_bits(self.prior(noisy_hyper), entropy_models.gaussian_mass(noisy, scales)),
            quantised_bits=jax.lax.stop_gradient(
                _bits(self.prior(rounded_hyper), entropy_models.gaussian_mass(rounded, scales))
            ),
        )

    def quantise(self, images: Images) -> tuple[Symbols, Float[Array, " b"]]:
        """Symbols of images, and an estimate of the bits that they cost."""
        latents = self.encoder(images)
        medians = self._medians()
        hyper = jnp.round(self.hyper_analysis(latents) - medians)
        hyper_latents = hyper + medians
        means, scales = self._parameters(hyper_latents, _grid(latents))
        distances = jnp.round(latents - means)
        bits = _bits(self.prior(hyper_latents), entropy_models.gaussian_mass(distances, scales))
        return Symbols(latent=distances.astype(jnp.int32), hyper=hyper.astype(jnp.int32)), bits

    def reconstruct(self, symbols: Symbols) -> Images:
        """Images, clipped to [0, 1]."""
        hyper_latents = symbols.hyper + self._medians()
        means = self.hyper_mean(hyper_latents, _grid(symbols.latent))
        return jnp.clip(self.generator(symbols.latent + means), 0.0, 1.0)

    def scale_indices(
        self, hyper: Int[Array, "b h w c"], latent_size: tuple[int, int]
    ) -> UInt8[Array, "b h_ w_ c_"]:
        """Which of `entropy_models.table_scales` each value of a latent is coded with."""
        scales = self.hyper_scale(hyper + self._medians(), latent_size)
        return entropy_models.scale_indices(scales)

    def hyper_masses(self, largest: int) -> Float[Array, "c n"]:
        """Mass of hyper symbols from -largest to largest, for each channel."""
        symbols = jnp.arange(-largest, largest + 1)
        return self.prior.masses(symbols[None] + self.prior.medians()[:, None])

    def _parameters(
        self, hyper_latents: Float[Array, "b h w c"], latent_size: tuple[int, int]
    ) -> tuple[Float[Array, "b h_ w_ c_"], Float[Array, "b h_ w_ c_"]]:
        mean = self.hyper_mean(hyper_latents, latent_size)
        return mean, self.hyper_scale(hyper_latents, latent_size)

    def _medians(self) -> Float[Array, "1 1 1 c"]:
        return self.prior.medians()[None, None, None]


def _grid(latents: Float[Array, "b h w c"] | Int[Array, "b h w c"]) -> tuple[int, int]:
    return latents.shape[1], latents.shape[2]


def _bits(
    hyper_masses: Float[Array, "b h_ w_ c_"], masses: Float[Array, "b h w c"]
) -> Float[Array, " b"]:
    return entropy_models.bits(hyper_masses) + entropy_models.bits(masses)
