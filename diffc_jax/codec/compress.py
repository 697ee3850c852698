"""Images to `.diffc` files."""

import pathlib
import time
from collections.abc import Sequence

from absl import logging

from diffc_jax.codec.file_paths import pair_files
from diffc_jax.codec.image_encoder import Target, encode_image
from diffc_jax.codec.image_files import read_picture
from diffc_jax.codec.loading import load_codec
from diffc_jax.errors import DiffcError, InputError
from diffc_jax.runtime.files import atomic_write
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.progress import Progress, ShareProgress


def compress(
    model: pathlib.Path,
    inputs: Sequence[str],
    output: str,
    target: Target,
    *,
    memory: int,
    seed: int,
    batch_size: int,
    dry_run: bool = False,
) -> None:
    """Encodes files one after the other; each is whole or absent.

    Args:
        model: params.safetensors or the folder of a run.
        inputs: files or patterns.
        output: a .diffc file, or a folder for several.
        target: how far to encode.
        memory: of the trellis.
        seed: of the shared randomness.
        batch_size: tiles that go through the denoiser at once.
        dry_run: check everything, say what would be done, and stop.

    Raises:
        UsageError: a value that cannot be used.
        InputError: a file that cannot be read or written, or exact pixels without their coder installed.
    """
    pairs = pair_files(inputs, output, ".diffc")
    if target.lossless:
        require("constriction")  # which comes last in the work
    codec = load_codec(model, batch_size)
    for source, made in pairs:
        height, width, channels = read_picture(source).shape
        if dry_run:
            kind = "grey" if channels == 1 else "RGB"
            print(f"{source} ({width}x{height}, {kind}) -> {made}")
    if dry_run:
        return
    progress = Progress("compress", len(pairs), "files")
    for source, made in pairs:
        begin = time.monotonic()
        image = read_picture(source)
        try:
            # Opened first, so that a place that cannot be written is found before the work.
            with atomic_write(made) as temporary:
                try:
                    data = encode_image(
                        codec,
                        image,
                        target,
                        memory=memory,
                        seed=seed,
                        on_progress=ShareProgress(str(source)).reach,
                    )
                except DiffcError as error:
                    raise type(error)(f"{source}: {error}") from error
                temporary.write_bytes(data)
        except OSError as error:
            raise InputError(f"{made}: cannot be written ({error.strerror})") from error
        n_pixels = image.shape[0] * image.shape[1]
        logging.info(
            "%s: %d bytes, %.3f bits per pixel, %.1f s",
            made,
            len(data),
            8 * len(data) / n_pixels,
            time.monotonic() - begin,
        )
        progress.advance()
