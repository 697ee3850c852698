"""`.diffc` files to PNG files."""

import pathlib
import time
from collections.abc import Sequence

from absl import logging

from diffc_jax.codec import container
from diffc_jax.codec.file_paths import pair_files
from diffc_jax.codec.image_decoder import decode_stream, prefix_at
from diffc_jax.codec.loading import load_codec
from diffc_jax.diffusion.decoders import parse_decoder
from diffc_jax.errors import DiffcError, InputError
from diffc_jax.runtime.images import save_png
from diffc_jax.runtime.progress import Progress


def decompress(
    model: pathlib.Path,
    inputs: Sequence[str],
    output: str,
    *,
    decoder: str,
    n_steps: int,
    at_bpp: float | None,
    batch_size: int,
    dry_run: bool = False,
) -> None:
    """Decodes files one after the other; each picture is whole or absent.

    What is wrong with a stream that decodes nevertheless is logged as a warning.

    Args:
        model: params.safetensors or the folder of a run.
        inputs: files or patterns.
        output: a .png file, or a folder for several.
        decoder: its name, one of `diffusion.decoders`.
        n_steps: denoiser evaluations of the decoder.
        at_bpp: bits per pixel of the prefix that is decoded; None for all.
        batch_size: tiles that go through the denoiser at once.
        dry_run: describe the streams and stop; needs no model.

    Raises:
        UsageError: a value that cannot be used.
        InputError: a file that cannot be read or written, or needs another model.
    """
    parse_decoder(decoder, "--decoder")
    pairs = pair_files(inputs, output, ".png")
    streams = {}
    for source, made in pairs:
        try:
            streams[source] = container.parse(source.read_bytes())
            if at_bpp is not None:
                streams[source] = prefix_at(streams[source], at_bpp)
        except OSError as error:
            raise InputError(f"{source}: cannot be read ({error.strerror})") from error
        except DiffcError as error:
            raise type(error)(f"{source}: {error}") from error
        if dry_run:
            print(f"{source} ({describe(streams[source])}) -> {made}")
    if dry_run:
        return
    codec = load_codec(model, batch_size)
    progress = Progress("decompress", len(pairs), "files")
    for source, made in pairs:
        begin = time.monotonic()
        try:
            decoded = decode_stream(codec, streams[source], decoder, n_steps)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
        for warning in decoded.warnings:
            logging.warning("%s: %s", source, warning)
        image = decoded.image
        try:
            save_png(image[:, :, 0] if image.shape[2] == 1 else image, made)
        except OSError as error:
            raise InputError(f"{made}: cannot be written ({error.strerror})") from error
        logging.info(
            "%s: %s, %s, %.1f s",
            made,
            describe(streams[source]),
            "exact pixels" if decoded.lossless else decoder,
            time.monotonic() - begin,
        )
        progress.advance()


def describe(stream: container.Stream) -> str:
    """One line: size, rate, packets and tiles, and what is wrong."""
    header = stream.header
    bpp = 8 * stream.ends[-1] / (header.width * header.height)
    text = (
        f"{header.width}x{header.height}{', grey' if header.grey else ''}, {stream.ends[-1]} bytes, "
        f"{bpp:.3f} bits per pixel, {len(stream.ends)} packets, {header.n_tiles} tiles of {header.tile}, "
        f"model {header.fingerprint.hex()}"
    )
    return f"{text}; {stream.problem}" if stream.problem else text
