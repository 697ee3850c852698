"""Images to `.diffc` bytes and back, with one denoiser: what programs and users call."""

import warnings
from typing import SupportsIndex

import numpy as np
from jaxtyping import Array, Shaped, UInt8

from diffc_jax.codec.container import parse
from diffc_jax.codec.header import DEFAULT_MEMORY
from diffc_jax.codec.image_decoder import check_damage, decode_stream, prefix_at
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.targets import Target
from diffc_jax.config.sources import MOST_PIXELS, check_pixels
from diffc_jax.errors import InputError, UsageError


class Codec:
    """Compresses images of any size with one denoiser; made by `load_codec`.

    The first image takes longer than the others, because programs are compiled for it.

    Attributes:
        programs: the denoiser and what was compiled for it.
    """

    def __init__(self, programs: ProgramCache):
        self.programs = programs

    def encode(
        self,
        image: Shaped[np.ndarray | Array, "..."],
        *,
        bpp: int | float | None = None,
        psnr: int | float | None = None,
        packets: int | None = None,
        gamma: int | float | None = None,
        lossless: bool = False,
        memory: int = DEFAULT_MEMORY,
        seed: SupportsIndex | None = None,
    ) -> bytes:
        """Encodes an image, up to exactly one of `bpp`, `psnr`, `packets`, `gamma` and `lossless`.

        Args:
            image: uint8 pixels, (height, width, 3) of RGB, or grey (height, width) or (height, width, 1).
            bpp: largest size of the result in bits per pixel, all bytes counted.
            psnr: least PSNR in dB of the image that the flow decoder makes of it.
            packets: number of packets.
            gamma: negative log signal-to-noise ratio of the latents to arrive at.
            lossless: the exact pixels.
            memory: bits of the trellis' register: fewer are faster, more save bits.
            seed: of the randomness that both sides share, 0 to 65535; None for one that depends on the image.
                The result says which.

        Returns:
            A `.diffc` stream (docs/format.md), of which any beginning decodes up to its last packet.

        Raises:
            UsageError: no target or several, one that cannot be met, an image of another kind, or `memory`
                or `seed` out of range.
            InputError: the size of the image is out of range, or `lossless` needs a package that is not
                installed.
        """
        pixels = np.asarray(image)
        if pixels.ndim == 2:
            pixels = pixels[..., np.newaxis]
        if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype != np.uint8:
            raise UsageError(
                f"has shape {np.shape(image)} and type {pixels.dtype}; it must be uint8 of "
                "(height, width, 3), or (height, width) if it is grey",
                field="image",
            )
        target = Target(bpp, psnr, packets, gamma, lossless)
        return encode_image(self.programs, pixels, target, memory=memory, seed=seed)

    def decode(
        self,
        data: bytes,
        decoder: str = "flow",
        *,
        bpp: int | float | None = None,
        n_steps: int | None = None,
        salvage: bool = False,
        max_pixels: int = MOST_PIXELS,
    ) -> UInt8[np.ndarray, "h w c"]:
        """Decodes a stream, or a beginning of it.

        What is wrong with a stream that decodes nevertheless is issued as a `UserWarning`.

        Args:
            data: what `encode` returned, or a beginning of it.
            decoder: "flow" (DiffC-F), "ancestral" (DiffC-A), "mean" (the posterior mean) or "kappa=K" (the
                flow with the score scaled by K). Exact pixels need none.
            bpp: decode only the packets within so many bits per pixel; None for all.
            n_steps: denoiser evaluations of all decoders but the mean, at least 1; None for as many as a
                sweep takes at the noise level.
            salvage: decode a damaged stream up to the damage.
            max_pixels: refuse streams of more pixels, width times height; 541 bytes can announce 67 million.

        Returns:
            Pixels; one channel if the image was grey, otherwise three.

        Raises:
            UsageError: unknown decoder, less than one step, or `bpp` is less than the first packet of each
                tile takes.
            InputError: no stream, a damaged one, one of another model, or one of more than `max_pixels`.
        """
        try:
            stream = parse(data)
        except InputError as error:
            raise InputError(f"data: {error}") from error
        check_pixels("data", stream.header.width, stream.header.height, max_pixels)
        try:
            if bpp is not None:
                stream = prefix_at(stream, bpp, "bpp")
            check_damage(stream, salvage, "salvage=True")
            decoded = decode_stream(self.programs, stream, decoder, n_steps)
        except InputError as error:
            raise InputError(f"data: {error}") from error
        for warning in decoded.warnings:
            warnings.warn(warning, stacklevel=2)
        return decoded.image
