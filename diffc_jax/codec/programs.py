"""A denoiser with the compiled programs of its codec, which encoding and decoding have in common."""

import jax.numpy as jnp

from diffc_jax.codec.chain import Chain
from diffc_jax.codec.decoder import Reconstructor
from diffc_jax.codec.tiles import Place
from diffc_jax.errors import UsageError
from diffc_jax.models import Denoiser, Variables


class ProgramCache:
    """A denoiser with the programs that are compiled for it: each when it is first needed, then kept.

    Attributes:
        denoiser: eps_hat(variables, z, gamma).
        variables: of the denoiser.
        side: of the tiles, in pixels.
        gamma_range: least and largest gamma that it was trained for.
        fingerprint: four bytes that name the denoiser and its variables.
        batch_size: tiles that go through the denoiser at once.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        variables: Variables,
        image_shape: tuple[int, int, int],
        gamma_range: tuple[float, float],
        fingerprint: bytes,
        batch_size: int = 16,
        place: Place = jnp.asarray,
    ):
        """See the attributes.

        Args:
            denoiser: see above.
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
        self.denoiser = denoiser
        self._place = place
        self._chains: dict[int, Chain] = {}
        self._reconstructors: dict[tuple[str, int], Reconstructor] = {}

    def chain(self, memory: int) -> Chain:
        """The chain with a trellis of this memory."""
        if memory not in self._chains:
            shape = self.side, self.side, 3
            self._chains[memory] = Chain(
                self.denoiser, shape, self.gamma_range, memory, self._place
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
                self.denoiser, self.gamma_range, *key, self._place
            )
        return self._reconstructors[key]
