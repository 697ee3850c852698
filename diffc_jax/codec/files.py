"""What compress.py and decompress.py do: image files to `.diffc` files and back."""

import contextlib
import functools
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging
from jaxtyping import UInt8

from diffc_jax.codec.container import parse
from diffc_jax.codec.image_decoder import (
    check_damage,
    check_decodable,
    decode_group,
    decoded_together,
    decoding_bytes,
    prefix_at,
)
from diffc_jax.codec.image_encoder import encoding
from diffc_jax.codec.loading import EARLIER_WEIGHTS, find_weights, load_codec
from diffc_jax.codec.paths import pair_files
from diffc_jax.codec.picture_decoder import PICTURE_BYTES
from diffc_jax.codec.picture_targets import picture_header
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.side_by_side import run_all
from diffc_jax.codec.stream import Header, Stream
from diffc_jax.codec.targets import Target, check_target
from diffc_jax.codec.tile_encoder import Job
from diffc_jax.config.sources import MOST_PIXELS, check_pixels
from diffc_jax.data.files import is_image_name
from diffc_jax.diffusion.decoders import parse_decoder
from diffc_jax.errors import DiffcError, InputError, UsageError
from diffc_jax.runtime.disk import check_writable, only_writing
from diffc_jax.runtime.files import atomic_write
from diffc_jax.runtime.image_files import as_array, decode_image_file
from diffc_jax.runtime.images import save_png
from diffc_jax.runtime.optional import require
from diffc_jax.runtime.progress import Progress, ShareProgress

_GREY_MODES = ("1", "L")
# 0.5 s for 64x64 pixels at 1 bpp in either direction (docs/codec_efficiency.md, "Time"). It grows about as
# the square root of the rate: docs/pictures.md has 0.13 to 0.18 s at 0.15 bpp, and 0.25 to 0.3 s at 0.5. The
# decoder's own steps take some time at any rate.
_SECONDS_A_PIXEL = 0.5 / 64**2
_LEAST_BPP = 0.05


def compress(
    model: str | os.PathLike[str] | None,
    inputs: Sequence[str],
    output: str,
    target: Target,
    *,
    memory: int,
    seed: int | None,
    batch_size: int,
    max_pixels: int = MOST_PIXELS,
    dry_run: bool = False,
) -> None:
    """Encodes files; each is whole or absent. `batch_size` of those of a tile or less are encoded at once.

    A file that cannot be read stops all before any work. One of several that cannot meet the target is left
    out.

    `model` and `batch_size` are as for `load_codec`, `inputs` and `output` as for `pair_files`, the others as
    for `encode_image` and `read_image`; `dry_run` checks what can be known without encoding, says what would
    be done and about what it would cost, and stops.

    Raises:
        UsageError: a value that cannot be used, or files were left out.
        InputError: a file that cannot be read or written, or exact pixels without their coder installed.
    """
    pairs = pair_files(inputs, output, ".diffc", is_image_name)
    if target.lossless:
        require("constriction")  # which comes last in the work
    programs = _load_programs(model, batch_size)
    programs.chain(memory)  # refuses a memory without tables
    with _LeftOut(len(pairs)) as left_out:
        for source, made in pairs:
            height, width, channels = read_image(
                source, exact=target.lossless, max_pixels=max_pixels
            ).shape
            check_writable(made)
            if dry_run:
                kind = "grey" if channels == 1 else "RGB"
                fields = (width, height, programs.side, memory, seed or 0, programs.fingerprint[:2])
                with left_out.if_refused(source):
                    header = Header(*fields, grey=channels == 1)
                    check_target(target, picture_header(header) if header.n_tiles > 1 else header)
                    cost = _cost(header, PICTURE_BYTES * math.prod(header.coded_shape), target.bpp)
                    print(f"{source} ({width}x{height}, {kind}; {cost}) -> {made}")
        if dry_run:
            return
        progress = Progress("compress", len(pairs), "files")

        def start(source: pathlib.Path) -> Job[_Encoded]:
            image = read_image(source, exact=target.lossless, max_pixels=max_pixels)
            height, width, _ = image.shape
            # Others are encoded beside one another, and their shares and seconds would say nothing.
            alone = len(pairs) == 1 or max(height, width) > programs.side
            job = encoding(
                programs,
                image,
                target,
                memory=memory,
                seed=seed,
                on_progress=ShareProgress(str(source)).reach if alone else lambda fraction: None,
            )
            return _described(job, target, programs.gamma_range[0], height * width, alone)

        jobs = (((source, made), start(source)) for source, made in pairs)
        for (source, made), result in run_all(jobs, min(batch_size, len(pairs))):
            progress.advance()
            with left_out.if_refused(source):
                encoded = result()
            if source in left_out:
                continue
            with only_writing(made), atomic_write(made) as temporary:
                temporary.write_bytes(encoded.data)
            logging.info("%s: %s", made, encoded.description)


class _Encoded(NamedTuple):
    """A file, and what to log of it."""

    data: bytes
    description: str


def _described(
    job: Job[bytes], target: Target, least_gamma: float, n_pixels: int, with_seconds: bool
) -> Job[_Encoded]:
    begin = time.monotonic()
    data = yield from job
    text = f"{len(data)} bytes, {8 * len(data) / n_pixels:.3f} bits per pixel"
    seconds = f", {time.monotonic() - begin:.1f} s" if with_seconds else ""
    return _Encoded(data, text + seconds + _early_end(data, target, least_gamma))


def _early_end(data: bytes, target: Target, least_gamma: float) -> str:
    """Says that a stream ends before its target, with the least noise of the model."""
    end = f"the least noise of this model, gamma {least_gamma:.2f}, comes"
    if target.packets is not None and (n := len(parse(data).cuts)) < target.packets:
        return f"; {end} after {n} packets"
    if target.gamma is not None and target.gamma < least_gamma:
        return f"; {end} before gamma {target.gamma:g}"
    return ""


def decompress(
    model: str | os.PathLike[str] | None,
    inputs: Sequence[str],
    output: str,
    *,
    decoder: str,
    n_steps: int | None,
    at_bpp: float | None,
    batch_size: int,
    salvage: bool = False,
    max_pixels: int = MOST_PIXELS,
    dry_run: bool = False,
) -> None:
    """Decodes files; each image is whole or absent. `batch_size` of those of a tile are decoded at once.

    A stream that cannot be parsed stops all before any work. One of several that has no packets within
    `at_bpp`, needs another model, or is damaged (unless `salvage` says to decode what comes before), is left
    out. What is wrong with a stream that decodes nevertheless is logged as a warning.

    `model` and `batch_size` are as for `load_codec`, but without a model a file that weights of an earlier
    release made is decoded with those. `inputs` and `output` are as for `pair_files`, `decoder` and
    `n_steps` as for `decode_stream`, `at_bpp` as for `prefix_at` (None for all). Streams of more than
    `max_pixels` stop all; `dry_run` describes the streams and about what decoding would cost, and stops,
    without a model.

    Raises:
        UsageError: a value that cannot be used, or files were left out for it.
        InputError: a file that cannot be read or written, or files were left out.
    """
    parse_decoder(decoder, "--decoder")
    pairs = pair_files(inputs, output, ".png", lambda name: name.lower().endswith(".diffc"))
    streams = {}
    with _LeftOut(len(pairs)) as left_out:
        for source, made in pairs:
            check_writable(made)
            if (
                not output.lower().endswith(".png")
                and made.exists()
                and made.parent.samefile(source.parent)
            ):
                raise InputError(
                    f"--output {output}: {made} is beside {source}, perhaps what it was made of, and would be"
                    " replaced; name another folder"
                )
            try:
                stream = parse(source.read_bytes())
            except OSError as error:
                raise InputError(f"{source}: cannot be read ({error.strerror})") from error
            except DiffcError as error:
                raise type(error)(f"{source}: {error}") from error
            header = stream.header
            check_pixels(str(source), header.width, header.height, max_pixels)
            with left_out.if_refused(source):
                streams[source] = stream if at_bpp is None else prefix_at(stream, at_bpp)
                check_damage(streams[source], salvage, "--salvage")
                if dry_run:
                    bpp = 8 * streams[source].n_bytes / header.n_pixels
                    cost = _cost(header, decoding_bytes(streams[source], batch_size), bpp)
                    print(f"{source} ({describe(streams[source])}; {cost}) -> {made}")
        if dry_run or not streams:
            return
        choose_programs = _load_for_decoding(model, batch_size)
        progress = Progress("decompress", len(streams), "files")
        for source in streams:
            with left_out.if_refused(source):
                check_decodable(choose_programs(streams[source].header), streams[source], n_steps)
        names = [pair for pair in pairs if pair[0] not in left_out]
        for group in decoded_together([streams[source] for source, _ in names], batch_size):
            some, names = names[: len(group)], names[len(group) :]
            begin, share = time.monotonic(), ShareProgress(str(some[0][0]))
            programs = choose_programs(group[0].header)
            decoded = decode_group(programs, group, decoder, n_steps, share.reach)
            # Of several they would say nothing of each.
            seconds = f", {time.monotonic() - begin:.1f} s" if len(group) == 1 else ""
            progress.advance(len(group))
            for (source, made), one in zip(some, decoded, strict=True):
                for warning in one.warnings:
                    logging.warning("%s: %s", source, warning)
                image = one.image
                with only_writing(made):
                    save_png(image[:, :, 0] if image.shape[2] == 1 else image, made)
                how = "exact pixels" if one.lossless else decoder
                logging.info("%s: %s, %s%s", made, describe(streams[source]), how, seconds)


class _LeftOut:
    """The files, of `n_files`, that are refused without stopping the others; of one file nothing is left.

    Leaving the block says in one line for each of them why, and raises an error if nothing else is wrong.
    """

    def __init__(self, n_files: int):
        self._n_files = n_files
        self._errors: dict[pathlib.Path, DiffcError] = {}

    def __contains__(self, source: pathlib.Path) -> bool:
        return source in self._errors

    @contextlib.contextmanager
    def if_refused(self, source: pathlib.Path) -> Iterator[None]:
        """Leaves `source` out if the block raises a DiffcError."""
        try:
            yield
        except DiffcError as error:
            named = type(error)(f"{source}: {error}")
            if self._n_files == 1:
                raise named from error
            self._errors[source] = named

    def __enter__(self) -> "_LeftOut":
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        for error in self._errors.values():
            logging.error("%s", error)
        if self._errors and error_type is None:
            kinds = {type(error) for error in self._errors.values()}
            kind = UsageError if kinds == {UsageError} else InputError
            raise kind(f"{len(self._errors)} of {self._n_files} files are left out, as said above")


def _load_programs(model: str | os.PathLike[str] | None, batch_size: int) -> ProgramCache:
    try:
        weights = find_weights(model)
    except InputError as error:
        raise InputError(f"--model {error}") from error
    return load_codec(weights, batch_size).programs


def _load_for_decoding(
    model: str | os.PathLike[str] | None, batch_size: int
) -> Callable[[Header], ProgramCache]:
    """The programs for a file: of `model`; without one, of those weights of the repository that made it."""
    programs = _load_programs(model, batch_size)

    @functools.cache
    def load_earlier() -> list[ProgramCache]:
        return [load_codec(path, batch_size).programs for path in EARLIER_WEIGHTS if path.exists()]

    def choose(header: Header) -> ProgramCache:
        if model is not None or programs.fingerprint.startswith(header.fingerprint):
            return programs
        made_it = (one for one in load_earlier() if one.fingerprint.startswith(header.fingerprint))
        return next(made_it, programs)

    return choose


def _cost(header: Header, n_bytes: int, bpp: float | None) -> str:
    """Memory beside that of the model, and time, of coding an image in one direction.

    A rate that is not known before is taken for 1 bpp.
    """
    rate = 1.0 if bpp is None else max(bpp, _LEAST_BPP)
    seconds = header.n_tiles * header.tile**2 * _SECONDS_A_PIXEL * math.sqrt(rate)
    time_taken = f"{math.ceil(seconds)} s"
    if seconds > 90:
        time_taken = (
            f"{math.ceil(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
        )
    said_rate = " at 1 bit per pixel" if bpp is None else ""
    return (
        f"about {max(n_bytes / 1e9, 0.1):.1f} GB, and {time_taken}{said_rate} with the shipped model on"
        " 2 CPU cores"
    )


def describe(stream: Stream) -> str:
    """One line: size, rate, packets and tiles, and what is wrong."""
    header = stream.header
    parts = f"{header.n_tiles} tile{'s' * (header.n_tiles != 1)} of {header.tile}"
    if header.stride is not None:
        parts = f"one chain in windows of {header.tile} every {header.stride}"
    bpp = 8 * stream.n_bytes / header.n_pixels
    text = (
        f"{header.width}x{header.height}{', grey' if header.grey else ''}, {stream.n_bytes} bytes, "
        f"{bpp:.3f} bits per pixel, {len(stream.cuts)} packets, {parts}, "
        f"model {header.fingerprint.hex()}, version {header.version}"
    )
    return f"{text}; {stream.problem}" if stream.problem else text


def read_image(
    path: str | os.PathLike[str], *, exact: bool = False, max_pixels: int = MOST_PIXELS
) -> UInt8[np.ndarray, "h w c"]:
    """Reads an RGB or grey image, upright as its EXIF orientation says, with the colours of sRGB.

    Palettes become RGB and black-and-white images grey. Colours with another ICC profile are converted, which
    is logged. Of JPEGs that hold several pictures (MPO) the first is read. Nothing else is converted.

    Args:
        path: a file in one of `runtime.image_files.FORMATS`.
        exact: refuse colours that would have to be converted.
        max_pixels: refuse to decode more pixels, width times height. Pillow decodes no more than 179 million.

    Returns:
        One channel for grey images, otherwise three.

    Raises:
        InputError: not a readable image, an animation, one that 8-bit RGB and grey cannot hold, or one of
            more than `max_pixels`.
    """
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    decoded = decode_image_file(
        data,
        str(path),
        upright=True,
        check_size=lambda width, height: check_pixels(str(path), width, height, max_pixels),
    )
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
        return as_array(rgb.getchannel("G"))[..., None]
    return as_array(rgb)


@functools.cache
def _log_conversion(path: str, profile: str) -> None:
    """Once, though compress.py reads every file twice."""
    logging.info("%s: colours converted from %s to sRGB", path, profile)
