"""`Hific`: the networks as pure, compiled functions of their parameters."""

import dataclasses
import functools
from typing import Any, cast

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8

from diffc_jax.baselines.hific import entropy_coding
from diffc_jax.baselines.hific.config import HificArchitecture
from diffc_jax.baselines.hific.networks import (
    Discriminator,
    Encoder,
    FactorizedPrior,
    Generator,
    HyperAnalysis,
    HyperSynthesis,
)
from diffc_jax.runtime.devices import host_cpu

Params = PyTree
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


@dataclasses.dataclass(frozen=True)
class Hific:
    """HiFiC's networks; images are (b, h, w, 3) with values in [0, 1], in batches of any size.

    Two networks, each with parameters of its own: the autoencoder, which holds everything that a file
    depends on, and the discriminator. A plain hyper-prior is the autoencoder alone.
    """

    architecture: HificArchitecture

    def init_autoencoder(self, key: Key[Array, ""]) -> Params:
        """Fresh parameters of encoder, entropy models and generator."""
        side = 4 << self.architecture.downsamplings
        images = jnp.zeros((1, side, side, 3))
        return Autoencoder(self.architecture).init(key, images, key)["params"]

    def init_discriminator(self, key: Key[Array, ""]) -> tuple[Params, PyTree]:
        """Fresh parameters of the discriminator, and the state of its spectral norms."""
        side = 1 << self.architecture.downsamplings
        images = jnp.zeros((1, side, side, 3))
        latents = jnp.zeros((1, 1, 1, self.architecture.latent_channels))
        variables = Discriminator(self.architecture).init(key, images, latents, update_stats=False)
        return variables["params"], variables["batch_stats"]

    def forward(self, params: Params, images: Images, key: Key[Array, ""]) -> Forward:
        """Bits and reconstructions for training, `key` for the noise in place of rounding.

        Not compiled, as the whole training step is.
        """
        return cast(Forward, Autoencoder(self.architecture).apply({"params": params}, images, key))

    def discriminate(
        self,
        params: Params,
        spectral: PyTree,
        images: Images,
        latents: Float[Array, "b h_ w_ c"],
    ) -> tuple[Float[Array, "b h//8 w//8"], PyTree]:
        """Logits, positive for photographs, and the state `spectral` of the norms moved on; not compiled.

        `images` are photographs or reconstructions, `latents` their quantised latents.
        """
        logits, updated = Discriminator(self.architecture).apply(
            {"params": params, "batch_stats": spectral},
            images,
            latents,
            update_stats=True,
            mutable=["batch_stats"],
        )
        return cast(Array, logits), updated["batch_stats"]

    @functools.partial(jax.jit, static_argnums=0)
    def quantise(self, params: Params, images: Images) -> tuple[Symbols, Float[Array, " b"]]:
        """Symbols of images, and an estimate of the bits that each image costs."""
        return self._apply(params, images, method="quantise")

    @functools.partial(jax.jit, static_argnums=0)
    def reconstruct(self, params: Params, symbols: Symbols) -> Images:
        """Images from their symbols, clipped to [0, 1]."""
        return self._apply(params, symbols, method="reconstruct")

    def scale_indices(
        self,
        params: Params,
        hyper: Int[np.ndarray, "h w c"],
        latent_size: tuple[int, int],
    ) -> UInt8[np.ndarray, "h_ w_ c_"]:
        """The tables with which the latent of one image is written; see `_in_double_precision`.

        `hyper` are the symbols of its hyper-latent, `latent_size` is (h_, w_).
        """
        # One image at a time: what a batch changes in the order of summation must not change a file.
        indices = _in_double_precision(self._scale_indices, params, hyper[None], latent_size)
        return np.asarray(indices)[0]

    def hyper_masses(self, params: Params, largest: int) -> Float[np.ndarray, "c n"]:
        """Mass of the hyper symbols from -largest to largest in each channel, in double precision."""
        return np.asarray(_in_double_precision(self._hyper_masses, params, largest))

    @functools.partial(jax.jit, static_argnums=(0, 3))
    def _scale_indices(
        self, params: Params, hyper: Int[Array, "b h w c"], latent_size: tuple[int, int]
    ) -> UInt8[Array, "b h_ w_ c_"]:
        return self._apply(params, hyper, latent_size, method="scale_indices")

    @functools.partial(jax.jit, static_argnums=(0, 2))
    def _hyper_masses(self, params: Params, largest: int) -> Float[Array, "c n"]:
        return self._apply(params, largest, method="hyper_masses")

    def _apply(self, params: Params, *inputs: Any, method: str) -> Any:
        return Autoencoder(self.architecture).apply({"params": params}, *inputs, method=method)


def _in_double_precision(function: Any, params: Params, *arguments: Any) -> Any:
    """Runs a function of parameters on the CPU in float64.

    What decides how bytes are read must come out equal on every machine. In float32 processors differ by
    about 1e-6 of a value, and some scale in every few images lies that close to the boundary between two
    tables; in float64 they differ by about 1e-15.
    """
    with jax.enable_x64(True), jax.default_device(host_cpu()):
        doubles = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        return function(doubles, *arguments)


class Autoencoder(nn.Module):
    """HiFiC without its discriminator; images have values in [0, 1]."""

    architecture: HificArchitecture

    def setup(self) -> None:
        """Makes the networks."""
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
        noisy_hyper = entropy_coding.add_noise(hyper_latents, hyper_key)
        means, scales = self._parameters(noisy_hyper, _grid(latents))
        distances = latents - means
        rounded = entropy_coding.straight_through_round(distances)
        noisy = entropy_coding.add_noise(distances, latent_key)
        medians = self._medians()
        rounded_hyper = jnp.round(hyper_latents - medians) + medians
        return Forward(
            reconstructions=self.generator(rounded + means),
            latents=rounded + means,
            bits=_bits(self.prior(noisy_hyper), entropy_coding.gaussian_mass(noisy, scales)),
            quantised_bits=jax.lax.stop_gradient(
                _bits(self.prior(rounded_hyper), entropy_coding.gaussian_mass(rounded, scales))
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
        bits = _bits(self.prior(hyper_latents), entropy_coding.gaussian_mass(distances, scales))
        return Symbols(latent=distances.astype(jnp.int32), hyper=hyper.astype(jnp.int32)), bits

    def reconstruct(self, symbols: Symbols) -> Images:
        """Images, clipped to [0, 1]."""
        hyper_latents = symbols.hyper + self._medians()
        means = self.hyper_mean(hyper_latents, _grid(symbols.latent))
        return jnp.clip(self.generator(symbols.latent + means), 0.0, 1.0)

    def scale_indices(
        self, hyper: Int[Array, "b h w c"], latent_size: tuple[int, int]
    ) -> UInt8[Array, "b h_ w_ c_"]:
        """Which of `entropy_coding.table_scales` each value of a latent is coded with."""
        scales = self.hyper_scale(hyper + self._medians(), latent_size)
        return entropy_coding.scale_indices(scales)

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
    return entropy_coding.bits(hyper_masses) + entropy_coding.bits(masses)
