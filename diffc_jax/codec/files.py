"""What compress.py and decompress.py do: image files to `.diffc` files and back."""

import functools
import glob
import os
import pathlib
import time
from collections.abc import Sequence

import numpy as np
from absl import logging
from jaxtyping import UInt8

from diffc_jax.codec import container
from diffc_jax.codec.image_decoder import decode_stream, prefix_at
from diffc_jax.codec.image_encoder import Target, encode_image
from diffc_jax.codec.loading import find_weights, load_codec
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.diffusion.decoders import parse_decoder
from diffc_jax.errors import DiffcError, InputError, UsageError
from diffc_jax.runtime.files import atomic_write
from diffc_jax.runtime.image_files import decode_image_file
from diffc_jax.runtime.images import save_png
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.progress import Progress, ShareProgress

_GREY_MODES = ("1", "L")


def compress(
    model: str | os.PathLike[str] | None,
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

    `model` and `batch_size` are as for `load_codec`, `inputs` and `output` as for `pair_files`, the others as
    for `encode_image`; `dry_run` checks everything, says what would be done, and stops.

    Raises:
        UsageError: a value that cannot be used.
        InputError: a file that cannot be read or written, or exact pixels without their coder installed.
    """
    pairs = pair_files(inputs, output, ".diffc")
    if target.lossless:
        require("constriction")  # which comes last in the work
    programs = _load_programs(model, batch_size)
    for source, made in pairs:
        height, width, channels = read_image(source, exact=target.lossless).shape
        if dry_run:
            kind = "grey" if channels == 1 else "RGB"
            print(f"{source} ({width}x{height}, {kind}) -> {made}")
    if dry_run:
        return
    progress = Progress("compress", len(pairs), "files")
    for source, made in pairs:
        begin = time.monotonic()
        image = read_image(source, exact=target.lossless)
        try:
            # Opened first, so that a place that cannot be written is found before the work.
            with atomic_write(made) as temporary:
                try:
                    data = encode_image(
                        programs,
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


def decompress(
    model: str | os.PathLike[str] | None,
    inputs: Sequence[str],
    output: str,
    *,
    decoder: str,
    n_steps: int,
    at_bpp: float | None,
    batch_size: int,
    dry_run: bool = False,
) -> None:
    """Decodes files one after the other; each image is whole or absent.

    What is wrong with a stream that decodes nevertheless is logged as a warning.

    `model` and `batch_size` are as for `load_codec`, `inputs` and `output` as for `pair_files`, `decoder` and
    `n_steps` as for `decode_stream`, `at_bpp` as for `prefix_at` (None for all); `dry_run` describes the
    streams and stops, without a model.

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
    programs = _load_programs(model, batch_size)
    progress = Progress("decompress", len(pairs), "files")
    for source, made in pairs:
        begin = time.monotonic()
        try:
            decoded = decode_stream(programs, streams[source], decoder, n_steps)
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


def _load_programs(model: str | os.PathLike[str] | None, batch_size: int) -> ProgramCache:
    try:
        weights = find_weights(model)
    except InputError as error:
        raise InputError(f"--model {error}") from error
    return load_codec(weights, batch_size).programs


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


def read_image(path: str | os.PathLike[str], *, exact: bool = False) -> UInt8[np.ndarray, "h w c"]:
    """Reads an RGB or grey image, upright as its EXIF orientation says, with the colours of sRGB.

    Palettes become RGB and black-and-white images grey. Colours with another ICC profile are converted, which
    is logged. Of JPEGs that hold several pictures (MPO) the first is read. Nothing else is converted.

    Args:
        path: a file in one of `runtime.image_files.FORMATS`.
        exact: refuse colours that would have to be converted.

    Returns:
        One channel for grey images, otherwise three.

    Raises:
        InputError: not a readable image, an animation, or one that 8-bit RGB and grey cannot hold.
    """
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    decoded = decode_image_file(data, str(path), upright=True)
    if decoded.bits <= 8 and decoded.n_frames > 1:
        raise InputError(f"{path}: has {decoded.n_frames} frames; save the one to be encoded")
    if decoded.bits <= 8 and decoded.has_alpha:
        raise InputError(f"{path}: has transparency; put it on a background first")
    if decoded.bits > 8 or decoded.image.mode not in (*_GREY_MODES, "RGB", "P"):
        raise InputError(f"{path}: is {decoded.kind}; convert it to 8-bit RGB or grey first")
    if decoded.colours:
        raise InputError(f"{path}: is an image {decoded.colours}; convert it to sRGB first")
    if profile := decoded.profile:
        if exact:
            raise InputError(
                f"{path}: is an image in {profile.name}, so its pixels would be converted; "
                "save it in sRGB first or leave --lossless out"
            )
        _log_conversion(str(path), profile.name)
    rgb = decoded.to_rgb()
    if decoded.image.mode in _GREY_MODES:
        return np.asarray(rgb.getchannel("G"))[..., None]
    return np.asarray(rgb)


@functools.cache
def _log_conversion(path: str, profile: str) -> None:
    """Once, though compress.py reads every file twice."""
    logging.info("%s: colours converted from %s to sRGB", path, profile)


def pair_files(
    inputs: Sequence[str], output: str, suffix: str
) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Each input with its output.

    Args:
        inputs: files or patterns.
        output: a file that ends in `suffix` if there is one input file, otherwise a folder, which is made.
        suffix: of outputs, with the dot.

    Raises:
        InputError: a pattern or name without a file, or an output that would replace its input.
        UsageError: an output that does not fit, or two inputs that would make the same file.
    """
    files: list[pathlib.Path] = []
    for name in inputs:
        found = [name] if pathlib.Path(name).is_file() else sorted(glob.glob(name, recursive=True))
        found = [one for one in found if pathlib.Path(one).is_file()]
        if not found:
            raise InputError(f"--input {name}: no such file")
        files += map(pathlib.Path, found)
    if not files:
        raise UsageError("--input: name at least one file")
    target = pathlib.Path(output)
    if len(files) == 1 and not target.is_dir() and target.suffix:
        if target.suffix.lower() != suffix:
            raise UsageError(f"--output {output}: the name must end in {suffix}")
        pairs = [(files[0], target)]
    elif target.is_file() or target.suffix == suffix:
        raise UsageError(f"--output {output}: is one file for {len(files)} inputs; name a folder")
    else:
        pairs = [(file, target / f"{file.stem}{suffix}") for file in files]
    sources: dict[pathlib.Path, pathlib.Path] = {}
    for file, made in pairs:
        if made in sources:
            raise UsageError(f"--input: {sources[made]} and {file} would both become {made}")
        if made.exists() and made.samefile(file):
            raise InputError(f"--output {made}: is the input; choose another name or folder")
        sources[made] = file
    return pairs
