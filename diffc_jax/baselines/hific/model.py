"""`Hific`: the networks as pure, compiled functions of their variables."""

import dataclasses
import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree, UInt8

from diffc_jax.baselines.hific.architecture import HificArchitecture
from diffc_jax.baselines.hific.autoencoder import Autoencoder, Forward, Images, Symbols
from diffc_jax.baselines.hific.discriminator import Discriminator

Params = PyTree


@dataclasses.dataclass(frozen=True)
class Hific:
    """HiFiC's networks; images are (b, h, w, 3) with values in [0, 1], any batch, any size that halves.

    Two networks, each with parameters of its own: the autoencoder, which holds everything that a file
    depends on, and the discriminator. A plain hyper-prior is the autoencoder alone.

    Attributes:
        architecture: widths.
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
        """Bits and reconstructions for training; not compiled, so that a training step can be as a whole.

        Args:
            params: of the autoencoder.
            images: a batch.
            key: of the noise in place of rounding.
        """
        return cast(Forward, Autoencoder(self.architecture).apply({"params": params}, images, key))

    def discriminate(
        self,
        params: Params,
        spectral: PyTree,
        images: Images,
        latents: Float[Array, "b h_ w_ c"],
    ) -> tuple[Float[Array, "b h//8 w//8"], PyTree]:
        """Logits, positive for photographs, and the spectral norms moved on; not compiled.

        Args:
            params: of the discriminator.
            spectral: state of its spectral norms.
            images: photographs or reconstructions.
            latents: their quantised latents.
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

        Args:
            params: of the autoencoder.
            hyper: symbols of the hyper-latent.
            latent_size: (h_, w_) of the latent.
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
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        doubles = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
        return function(doubles, *arguments)
