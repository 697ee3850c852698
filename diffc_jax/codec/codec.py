"""What encoding and decoding images have in common: a denoiser, ready to be used."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt32

from diffc_jax.codec.batching import Place
from diffc_jax.codec.chain import Chain
from diffc_jax.codec.decoder import Reconstructor
from diffc_jax.diffusion import process
from diffc_jax.errors import UsageError
from diffc_jax.models import Denoiser, Variables


class Codec:
    """A denoiser with the programs that are compiled for it, when they are first needed.

    Attributes:
        variables: of the denoiser.
        side: of the tiles, in pixels.
        gamma_range: least and largest gamma that it was trained for.
        fingerprint: four bytes that name the denoiser and its variables.
        batch_size: tiles that go through the denoiser at once.
    """

    def __init__(
        self,
        eps_hat: Denoiser,
        variables: Variables,
        image_shape: tuple[int, int, int],
        gamma_range: tuple[float, float],
        fingerprint: bytes,
        batch_size: int = 16,
        place: Place = jnp.asarray,
    ):
        """See the attributes.

        Args:
            eps_hat: the denoiser.
            variables: see above.
            image_shape: (side, side, 3).
            gamma_range: see above.
            fingerprint: see above.
            batch_size: see above.
            place: puts batches of images on the devices.

        Raises:
            UsageError: the denoiser is not one of square RGB images.
        """
        side, _, channels = image_shape
        if image_shape != (side, side, 3):
            raise UsageError(
                f"the codec needs a denoiser of square RGB images, not of {side}x{image_shape[1]} "
                f"with {channels} channels"
            )
        self.variables = variables
        self.side = side
        self.gamma_range = gamma_range
        self.fingerprint = fingerprint
        self.batch_size = batch_size
        self._eps_hat = eps_hat
        self._place = place
        self._chains: dict[int, Chain] = {}
        self._reconstructors: dict[tuple[str, int], Reconstructor] = {}

    def chain(self, memory: int) -> Chain:
        """The chain with a trellis of this memory."""
        if memory not in self._chains:
            shape = self.side, self.side, 3
            self._chains[memory] = Chain(
                self._eps_hat, shape, self.gamma_range, memory, self._place
            )
        return self._chains[memory]

    def reconstructor(self, decoder: str, n_steps: int) -> Reconstructor:
        """A decoder from latents to pixels.

        Raises:
            UsageError: unknown decoder.
        """
        key = decoder, n_steps
        if key not in self._reconstructors:
            self._reconstructors[key] = Reconstructor(
                self._eps_hat, self.gamma_range, *key, self._place
            )
        return self._reconstructors[key]


def tile_streams(seed: int, n_tiles: int) -> UInt32[np.ndarray, "n 2"]:
    """Streams of shared randomness of the tiles of a file."""
    return np.stack([np.full(n_tiles, seed), np.arange(n_tiles)], axis=1).astype(np.uint32)


def pixel_estimate(
    z: Float[np.ndarray, "h w c"], snr: float | np.floating
) -> Float[np.ndarray, "h w c"]:
    """Latents over alpha in units of pixel values, not rounded."""
    x = z.astype(np.float64) * np.sqrt((1 + snr) / snr)
    return (x + 1) * (process.LEVELS / 2) - 0.5
