"""Images to `.diffc` bytes and back, with one denoiser: what programs and users call."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Array, Shaped, UInt8

from diffc_jax.codec.container import parse
from diffc_jax.codec.header import DEFAULT_MEMORY
from diffc_jax.codec.image_decoder import (
    check_damage,
    check_decodable,
    decode_group,
    decoded_together,
    prefix_at,
)
from diffc_jax.codec.image_encoder import encode_image, encoding
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.side_by_side import run_all
from diffc_jax.codec.stream import Stream
from diffc_jax.codec.targets import Target
from diffc_jax.codec.tile_encoder import Job
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
            gamma: negative log signal-to-noise ratio of the latents to arrive at, as nearly as steps lead.
                These have a least length: the first one of an image of 64x64 ends at about 6.
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
        target = Target(bpp, psnr, packets, gamma, lossless)
        pixels = _pixels(image, "image")
        return encode_image(self.programs, pixels, target, memory=memory, seed=seed)

    def encode_many(
        self,
        images: Iterable[Shaped[np.ndarray | Array, "..."]],
        *,
        memory: int = DEFAULT_MEMORY,
        seed: SupportsIndex | None = None,
        **target: Any,
    ) -> list[bytes]:
        """Encodes images of any sizes; those of a tile or less side by side, which takes less time.

        Args:
            images: each as for `encode`.
            memory: as for `encode`.
            seed: as for `encode`.
            target: `bpp`, `psnr`, `packets`, `gamma` or `lossless`, as for `encode`.

        Returns:
            Their streams.

        Raises:
            UsageError, InputError: as of `encode`; the message says which image it is about.
        """
        goal = Target(**target)
        shape = np.shape(images) if isinstance(images, np.ndarray | Array) else ()
        if len(shape) == 3 and shape[2] in (1, 3):
            raise UsageError(f"is one image of shape {shape}; encode takes one", field="images")

        def start(number: int, image: Shaped[np.ndarray | Array, "..."]) -> Job[bytes]:
            pixels = _pixels(image, f"images[{number}]")
            return encoding(self.programs, pixels, goal, memory=memory, seed=seed)

        streams: dict[int, bytes] = {}
        images = list(images)
        jobs = ((number, start(number, image)) for number, image in enumerate(images))
        for number, result in run_all(jobs, min(self.programs.batch_size, len(images))):
            with _about("images", number):
                streams[number] = result()
        return [streams[number] for number in range(len(streams))]

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
        options = _Options(decoder, bpp, n_steps, salvage, max_pixels)
        return self._decode([self._parse(data, options)], options)[0]

    def decode_many(
        self,
        data: Iterable[bytes],
        decoder: str = "flow",
        *,
        bpp: int | float | None = None,
        n_steps: int | None = None,
        salvage: bool = False,
        max_pixels: int = MOST_PIXELS,
    ) -> list[UInt8[np.ndarray, "h w c"]]:
        """Decodes streams, those of a tile or less side by side, which takes less time.

        Arguments, results and errors are those of `decode`, for each; messages say which one they are about.
        """
        options = _Options(decoder, bpp, n_steps, salvage, max_pixels)
        streams = [self._parse(one, options, number) for number, one in enumerate(data)]
        return self._decode(streams, options, are_many=True)

    def _parse(self, data: Any, options: "_Options", number: int | None = None) -> Stream:
        name = "data" if number is None else f"data[{number}]"
        if not isinstance(data, bytes | bytearray | memoryview):
            several = "; decode takes one stream, decode_many a list" if number == 0 else ""
            raise UsageError(f"is {type(data).__name__}, not bytes{several}", field=name)
        with _about("data", number):
            stream = parse(bytes(data))
            header = stream.header
        check_pixels(name, header.width, header.height, options.max_pixels)
        with _about("data", number):
            if options.bpp is not None:
                stream = prefix_at(stream, options.bpp, "bpp")
            check_damage(stream, options.salvage, "salvage=True")
            check_decodable(self.programs, stream, options.n_steps)
        return stream

    def _decode(
        self, streams: Sequence[Stream], options: "_Options", are_many: bool = False
    ) -> list[UInt8[np.ndarray, "h w c"]]:
        images: list[UInt8[np.ndarray, "h w c"]] = []
        for group in decoded_together(streams, self.programs.batch_size):
            for one in decode_group(self.programs, group, options.decoder, options.n_steps):
                about = f"data[{len(images)}]: " if are_many else ""
                for warning in one.warnings:
                    warnings.warn(about + warning, stacklevel=3)
                images.append(one.image)
        return images


class _Options(NamedTuple):
    """Those of `Codec.decode`."""

    decoder: str
    bpp: int | float | None
    n_steps: int | None
    salvage: bool
    max_pixels: int


def _pixels(image: Shaped[np.ndarray | Array, "..."], name: str) -> UInt8[np.ndarray, "h w c"]:
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., np.newaxis]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype != np.uint8:
        raise UsageError(
            f"has shape {np.shape(image)} and type {pixels.dtype}; it must be uint8 of "
            "(height, width, 3), or (height, width) if it is grey",
            field=name,
        )
    return pixels


@contextlib.contextmanager
def _about(name: str, number: int | None) -> Iterator[None]:
    """Says in an error of the block what it is about, and of several which one."""
    try:
        yield
    except UsageError as error:
        if number is None:
            raise
        raise error.in_group(f"{name}[{number}]") from error
    except InputError as error:
        raise InputError(f"{name if number is None else f'{name}[{number}]'}: {error}") from error
