"""Images to files and back, with a trained HiFiC or hyper-prior."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8

from diffc_jax.baselines.hific.autoencoder import Symbols
from diffc_jax.baselines.hific.byte_coding import HYPER_LARGEST, LatentCoder
from diffc_jax.baselines.hific.model import Hific, Params
from diffc_jax.errors import InputError, UsageError


class HificCodec:
    """Files of one trained model.

    Args:
        model: the networks.
        params: of the autoencoder.

    Raises:
        ValueError: parameters that are not finite.
    """

    def __init__(self, model: Hific, params: Params):
        self._model = model
        self._params = params
        self._coder = LatentCoder(model.hyper_masses(params, HYPER_LARGEST))

    def encode(
        self, images: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[list[bytes], Float[np.ndarray, " b"]]:
        """Files of images, and the bits that the entropy models estimate for each.

        Raises:
            UsageError: sides that are not multiples of the model's factor.
        """
        size = (images.shape[1], images.shape[2])
        latent_size = self._model.architecture.latent_shape(size)[:2]
        symbols, bits = self._model.quantise(self._params, jnp.asarray(images, jnp.float32) / 255.0)
        files = [
            self._coder.encode(
                size, hyper, latent, self._model.scale_indices(self._params, hyper, latent_size)
            )
            for hyper, latent in zip(
                np.asarray(symbols.hyper), np.asarray(symbols.latent), strict=True
            )
        ]
        return files, np.asarray(bits)

    def decode(self, files: Sequence[bytes]) -> UInt8[np.ndarray, "b h w 3"]:
        """Images of one size from their files.

        Raises:
            InputError: a damaged file, one of another model, or of another size than the first; the message
                names its place in the sequence.
        """
        read = []
        for place, data in enumerate(files):
            try:
                read.append(self._read(data))
            except InputError as error:
                raise InputError(f"file {place}: {error}") from None
        sizes = sorted({size for size, _, _ in read})
        if len(sizes) > 1:
            raise InputError(f"files: hold images of different sizes, {sizes[0]} and {sizes[1]}")
        hyper, latent = (jnp.asarray(np.stack([parts[i] for parts in read])) for i in (1, 2))
        images = self._model.reconstruct(self._params, Symbols(hyper=hyper, latent=latent))
        return np.asarray(jnp.round(255.0 * images).astype(jnp.uint8))

    def _read(
        self, data: bytes
    ) -> tuple[tuple[int, int], Int[np.ndarray, "h w c"], Int[np.ndarray, "h_ w_ c_"]]:
        """Size, hyper symbols and latent symbols."""
        reader = self._coder.open(data)
        architecture = self._model.architecture
        try:
            latent_size = architecture.latent_shape(reader.size)[:2]
        except UsageError as error:
            raise InputError(f"is damaged ({error})") from None
        hyper = reader.hyper(architecture.hyper_shape(reader.size))
        indices = self._model.scale_indices(self._params, hyper, latent_size)
        return reader.size, hyper.astype(np.int32), reader.latent(indices).astype(np.int32)
