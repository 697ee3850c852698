"""A denoiser with the compiled programs of its codec, which encoding and decoding have in common."""

import dataclasses
import math

import jax.numpy as jnp

from diffc_jax.codec.batches import Place
from diffc_jax.codec.chain import Chain
from diffc_jax.codec.codebooks import OpenCodebook, make_codebook
from diffc_jax.codec.decoder import Reconstructor
from diffc_jax.errors import UsageError
from diffc_jax.models import Denoiser, Variables


@dataclasses.dataclass(eq=False)
class ProgramCache:
    """A denoiser with the programs that are compiled for it: each when it is first needed, then kept.

    Attributes:
        denoiser: eps_hat(variables, z, gamma).
        variables: of the denoiser.
        image_shape: (side, side, 3) of the tiles, in pixels.
        gamma_range: least and largest gamma that it was trained for.
        fingerprint: four bytes that name the denoiser and its variables.
        batch_size: tiles that go through the denoiser at once.
        place: puts batches of images on the devices.

    Raises:
        UsageError: the denoiser is not one of square RGB images.
    """

    denoiser: Denoiser
    variables: Variables
    image_shape: tuple[int, int, int]
    gamma_range: tuple[float, float]
    fingerprint: bytes
    batch_size: int = 16
    place: Place = jnp.asarray

    def __post_init__(self) -> None:
        height, width, channels = self.image_shape
        if height != width or channels != 3:
            raise UsageError(
                f"the codec needs a denoiser of square RGB images, not of {height}x{width} "
                f"with {channels} channels"
            )
        self._chains: dict[tuple[int, int], Chain] = {}
        self._codebooks: dict[tuple[int, int], OpenCodebook] = {}
        self._reconstructors: dict[tuple[str, int | None], Reconstructor] = {}

    @property
    def side(self) -> int:
        """Side of the tiles, in pixels."""
        return self.image_shape[0]

    def chain(self, memory: int, version: int = 2) -> Chain:
        """The chain with a trellis of this memory, as a version of the format has it."""
        key = memory, version
        if key not in self._chains:
            codebook = make_codebook(version, math.prod(self.image_shape), memory)
            self._chains[key] = Chain(
                self.denoiser, self.image_shape, self.gamma_range, memory, codebook, self.place
            )
        return self._chains[key]

    def codebook(self, memory: int, size: int) -> OpenCodebook:
        """That of the messages of pictures, of so many dimensions."""
        key = memory, size
        if key not in self._codebooks:
            self._codebooks[key] = OpenCodebook(size, memory)
        return self._codebooks[key]

    def reconstructor(self, decoder: str, n_steps: int | None) -> Reconstructor:
        """A decoder from latents to pixels.

        Raises:
            UsageError: unknown decoder.
        """
        key = decoder, n_steps
        if key not in self._reconstructors:
            self._reconstructors[key] = Reconstructor(
                self.denoiser, self.gamma_range, *key, self.place
            )
        return self._reconstructors[key]
