"""`.diffc` streams, whole or in part, to images."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from diffc_jax.codec.chain import TileKeys
from diffc_jax.codec.decoder import LatentDecoder, Latents, Reconstructor
from diffc_jax.codec.picture_decoder import PICTURE_BYTES, decode_picture
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.residual import exact_pixels
from diffc_jax.codec.stream import CHECK_TOLERANCE, Header, Residual, Step, Stream
from diffc_jax.codec.tiles import assemble, tile_keys
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.optional import require


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes:
        image: with one channel if the stream is of a grey image.
        n_bytes: of the stream that were used.
        lossless: these are the pixels that were encoded; a checksum says so.
        warnings: what is wrong or doubtful, one sentence each.
    """

    image: UInt8[np.ndarray, "h w c"]
    n_bytes: int
    lossless: bool
    warnings: list[str]


def prefix_at(stream: Stream, bpp: int | float, name: str = "at") -> Stream:
    """The longest prefix of at most so many bits per pixel, all bytes counted.

    Raises:
        UsageError: it does not have a step of each tile and a check; the message begins with `name`, the
            argument or flag, and says from where on it does.
    """
    n_pixels = stream.header.n_pixels
    prefix = stream.prefix(bpp * n_pixels)
    if prefix is None:
        raise UsageError(
            f"{bpp} bits per pixel are too few; this stream begins at "
            f"{8 * stream.least.n_bytes / n_pixels:.3f}",
            field=name,
        )
    return prefix


def check_damage(stream: Stream, salvage: bool, name: str) -> None:
    """Refuses a damaged stream, unless what comes before the damage is wanted.

    Raises:
        InputError: the stream is damaged and not to be salvaged; `name` is the argument or flag that says so.
    """
    if stream.damaged and not salvage:
        raise InputError(f"{stream.problem}; {name} decodes what comes before it")


def decode_stream(
    programs: ProgramCache,
    stream: Stream,
    decoder: str = "flow",
    n_steps: int | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Decoded:
    """Decodes a stream. Memory is that of some copies of the image, and of a band of tiles or some windows.

    Args:
        programs: of the denoiser that it was made with.
        stream: as parsed.
        decoder: flow, ancestral, mean or kappa=K; where the pixels are exact there is nothing to choose.
        n_steps: denoiser evaluations of all but mean; None for as many as a sweep takes there.
        on_progress: called now and then with the fraction of the work that is done, 0 to 1.

    Raises:
        InputError: the stream was made with another denoiser, or by none; or it has exact pixels and their
            coder is not installed.
        UsageError: unknown decoder, or less than one evaluation.
    """
    if n_steps is not None and n_steps < 1:
        raise UsageError(f"{n_steps} must be at least 1", field="n_steps")
    header = stream.header
    if not programs.fingerprint.startswith(header.fingerprint):
        raise InputError(
            f"was made with another model (fingerprint {header.fingerprint.hex()}, this one has "
            f"{programs.fingerprint.hex()})"
        )
    if header.tile != programs.side:
        raise InputError(f"has tiles of {header.tile} pixels, the model is of {programs.side}")
    path_bits = max(one.path_bits for _, one in stream.items if isinstance(one, Step))
    n_values = 3 * programs.side**2
    if path_bits > n_values:
        raise InputError(f"has steps of {path_bits} path bits, but tiles of {n_values} values")
    residuals = stream.residuals()
    if residuals:
        # Asked before the work, and not taken for damage below.
        require("constriction")
    warnings = [stream.problem] if stream.problem else []
    if header.stride is not None:
        pixels, more, lossless = decode_picture(programs, stream, decoder, n_steps, on_progress)
        image = in_channels(pixels, header)
        return Decoded(image, stream.n_bytes, lossless, warnings + more)
    steps, reconstruct = stream.steps(), programs.reconstructor(decoder, n_steps)
    image = np.empty((header.height, header.width, 1 if header.grey else 3), np.uint8)
    n_lossy = drifted = 0
    for rows in _bands(header, programs.batch_size):
        band = _decode_band(programs, header, rows, steps, residuals, reconstruct)
        top, end = rows[0] * header.tile, min((rows[-1] + 1) * header.tile, header.height)
        image[top:end] = in_channels(assemble(band.tiles, header.width, end - top), header)
        on_progress(end / header.height)
        n_lossy, drifted = n_lossy + band.n_lossy, drifted + band.n_drifted
        warnings += band.warnings
    if drifted:
        warnings.append(
            f"the latents of {drifted} of {header.n_tiles} tiles are not the sender's: this machine "
            "computes the model differently, or data are damaged; the image may be wrong"
        )
    return Decoded(image, stream.n_bytes, not n_lossy, warnings)


def in_channels(pixels: UInt8[np.ndarray, "h w 3"], header: Header) -> UInt8[np.ndarray, "h w c"]:
    """RGB pixels with the channels of the image: grey is the rounded mean of the three."""
    if not header.grey:
        return pixels
    return np.rint(pixels.mean(axis=2, keepdims=True)).astype(np.uint8)


# Values of the tiles that are decoded at the same time, unless a batch or a row of tiles has more: latents
# of 64 MB, and a few times as much beside them.
_BAND_VALUES = 1 << 24


def _bands(header: Header, batch_size: int) -> list[range]:
    """Rows of tiles in groups of about one size, so that the batches of all of them are full."""
    n_tiles = max(_BAND_VALUES // (3 * header.tile**2), 4 * batch_size)
    n_bands = -(-header.rows // max(n_tiles // header.columns, 1))
    ends = [header.rows * number // n_bands for number in range(n_bands + 1)]
    return [range(first, end) for first, end in itertools.pairwise(ends)]


def decoding_bytes(stream: Stream, batch_size: int) -> int:
    """About the memory that decoding a stream takes beside that of the model, in bytes."""
    header = stream.header
    if header.stride is not None:
        height, width = header.coded_shape
        return PICTURE_BYTES * height * width + stream.n_bytes + _STEP_BYTES * len(stream.items)
    most_rows = max(map(len, _bands(header, batch_size)))
    n_values = most_rows * header.columns * 3 * header.tile**2
    image = header.width * header.height * (1 if header.grey else 3)
    return image + _BYTES_A_VALUE * n_values + stream.n_bytes + _STEP_BYTES * len(stream.items)


# Of a band: latents, copies of them and pixels. Of a parsed step: Python's objects.
_BYTES_A_VALUE, _STEP_BYTES = 16, 600


class _Band(NamedTuple):
    """Pixels of some rows of tiles, and how many of these are not exact, or went another way."""

    tiles: UInt8[np.ndarray, "n tile tile 3"]
    n_lossy: int
    n_drifted: int
    warnings: list[str]


def _decode_band(
    programs: ProgramCache,
    header: Header,
    rows: range,
    steps: Sequence[Sequence[Step]],
    residuals: Mapping[int, Residual],
    reconstruct: Reconstructor,
) -> _Band:
    numbers = range(rows[0] * header.columns, (rows[-1] + 1) * header.columns)
    keys = tile_keys(header.seed, header.n_tiles)[numbers[0] : numbers[-1] + 1]
    latents = _decode_latents(programs, header, [steps[tile] for tile in numbers], keys)
    tiles = np.zeros(latents.z.shape, np.uint8)
    warnings, lossy = [], []
    for place, tile in enumerate(numbers):
        if tile not in residuals:
            lossy.append(place)
            continue
        try:
            tiles[place] = exact_pixels(residuals[tile], latents.z[place], latents.snr[place])
        except InputError as error:
            warnings.append(f"tile {tile} is not exact: {error}")
            lossy.append(place)
    if lossy:
        tiles[lossy] = reconstruct(
            programs.variables,
            latents.z[lossy],
            latents.snr[lossy],
            keys[lossy, 1].astype(int),
            programs.batch_size,
        )
    drifted = np.count_nonzero(latents.drift[lossy] > CHECK_TOLERANCE)
    return _Band(tiles, len(lossy), int(drifted), warnings)


def _decode_latents(
    programs: ProgramCache, header: Header, steps: Sequence[Sequence[Step]], keys: TileKeys
) -> Latents:
    chain = programs.chain(header.memory, header.version)
    walk = LatentDecoder(chain, programs.variables, keys, programs.batch_size, header.check_bits)
    walk.advance(dict(enumerate(steps)))
    return walk.latents()
