"""`.diffc` streams, whole or in part, to images."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8, UInt32

from diffc_jax.codec.decoder import LatentDecoder, Reconstructor
from diffc_jax.codec.picture_decoder import PICTURE_BYTES, decode_picture
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.residual import exact_pixels
from diffc_jax.codec.stream import CHECK_TOLERANCE, Header, Residual, Step, Stream
from diffc_jax.codec.targets import round_up
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
            f"{round_up(8 * stream.least.n_bytes / n_pixels)}",
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
    check_decodable(programs, stream, n_steps)
    header = stream.header
    warnings = [stream.problem] if stream.problem else []
    if header.stride is not None:
        pixels, more, lossless = decode_picture(programs, stream, decoder, n_steps, on_progress)
        image = in_channels(pixels, header)
        return Decoded(image, stream.n_bytes, lossless, warnings + more)
    tiles, reconstruct = tiles_of(stream), programs.reconstructor(decoder, n_steps)
    image = np.empty((header.height, header.width, 1 if header.grey else 3), np.uint8)
    n_lossy = drifted = 0
    for rows in _bands(header, programs.batch_size):
        some = tiles[rows[0] * header.columns : (rows[-1] + 1) * header.columns]
        band = _decode_tiles(programs, header, some, reconstruct)
        top, end = rows[0] * header.tile, min((rows[-1] + 1) * header.tile, header.height)
        image[top:end] = in_channels(assemble(band.pixels, header.width, end - top), header)
        on_progress(end / header.height)
        n_lossy += int(np.count_nonzero(~band.exact))
        drifted += int(np.count_nonzero(band.drifted))
        warnings += filter(None, band.warnings)
    if drifted:
        warnings.append(_drift_warning(drifted, header.n_tiles))
    return Decoded(image, stream.n_bytes, not n_lossy, warnings)


def check_decodable(programs: ProgramCache, stream: Stream, n_steps: int | None = None) -> None:
    """Refuses what `decode_stream` cannot decode.

    Raises:
        InputError, UsageError: see there.
    """
    if n_steps is not None:
        if not isinstance(n_steps, int | np.integer):
            raise UsageError(f"{n_steps!r} is not a whole number", field="n_steps")
        if n_steps < 1:
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
    if stream.residuals():
        # Asked before the work, and not taken for damage then.
        require("constriction")


def decoded_together(streams: Sequence[Stream], most: int) -> Iterator[Sequence[Stream]]:
    """Neighbouring streams in groups for `decode_group`: up to `most` of a single tile, others alone."""

    def kind(header: Header) -> tuple[object, ...]:
        return header.version, header.fingerprint, header.memory, header.check_bits, header.tile

    first = 0
    for end in range(1, len(streams) + 1):
        if end < len(streams) and end - first < most:
            header, own = streams[first].header, streams[end].header
            are_tiles = all(one.n_tiles == 1 and one.stride is None for one in (header, own))
            if are_tiles and kind(header) == kind(own):
                continue
        yield streams[first:end]
        first = end


def decode_group(
    programs: ProgramCache,
    streams: Sequence[Stream],
    decoder: str = "flow",
    n_steps: int | None = None,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> list[Decoded]:
    """What `decode_stream` makes of each of a group of `decoded_together`; all are `check_decodable`."""
    if len(streams) == 1:
        return [decode_stream(programs, streams[0], decoder, n_steps, on_progress)]
    tiles = [tile for stream in streams for tile in tiles_of(stream)]
    found = _decode_tiles(
        programs, streams[0].header, tiles, programs.reconstructor(decoder, n_steps)
    )
    decoded = []
    for stream, pixels, exact, drifted, warning in zip(streams, *found, strict=True):
        header = stream.header
        image = in_channels(pixels[: header.height, : header.width], header)
        warnings = [stream.problem, warning, _drift_warning(1, 1) if drifted else None]
        decoded.append(Decoded(image, stream.n_bytes, bool(exact), list(filter(None, warnings))))
    return decoded


def _drift_warning(n_drifted: int, n_tiles: int) -> str:
    return (
        f"the latents of {n_drifted} of {n_tiles} tiles are not the sender's: this machine "
        "computes the model differently, or data are damaged; the image may be wrong"
    )


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


class Tile(NamedTuple):
    """What a stream says of a tile.

    Attributes:
        number: in its image.
        key: of the randomness that both sides share.
        steps: of the chain.
        residual: what makes its pixels exact, if they are to be.
    """

    number: int
    key: UInt32[np.ndarray, "2"]
    steps: Sequence[Step]
    residual: Residual | None


def tiles_of(stream: Stream) -> list[Tile]:
    """The tiles of a stream that is not of a picture."""
    header, residuals = stream.header, stream.residuals()
    keys = tile_keys(header.seed, header.n_tiles)
    return [
        Tile(number, key, steps, residuals.get(number))
        for number, (key, steps) in enumerate(zip(keys, stream.steps(), strict=True))
    ]


class _DecodedTiles(NamedTuple):
    """Pixels of tiles, whether they are exact, whether latents went another way, and what is wrong."""

    pixels: UInt8[np.ndarray, "n tile tile 3"]
    exact: Bool[np.ndarray, " n"]
    drifted: Bool[np.ndarray, " n"]
    warnings: list[str | None]


def _decode_tiles(
    programs: ProgramCache, header: Header, tiles: Sequence[Tile], reconstruct: Reconstructor
) -> _DecodedTiles:
    """Tiles of streams with this header, but for sizes and seeds."""
    chain = programs.chain(header.memory, header.version)
    keys = np.stack([tile.key for tile in tiles])
    walk = LatentDecoder(chain, programs.variables, keys, programs.batch_size, header.check_bits)
    walk.advance({i: tile.steps for i, tile in enumerate(tiles)})
    latents = walk.latents()
    found = _DecodedTiles(
        np.zeros(latents.z.shape, np.uint8),
        np.zeros(len(tiles), bool),
        np.zeros(len(tiles), bool),
        [None] * len(tiles),
    )
    for i, tile in enumerate(tiles):
        if tile.residual is None:
            continue
        try:
            found.pixels[i] = exact_pixels(tile.residual, latents.z[i], latents.snr[i])
            found.exact[i] = True
        except InputError as error:
            found.warnings[i] = f"tile {tile.number} is not exact: {error}"
    lossy = np.flatnonzero(~found.exact)
    if len(lossy):
        found.pixels[lossy] = reconstruct(
            programs.variables,
            latents.z[lossy],
            latents.snr[lossy],
            keys[lossy],
            programs.batch_size,
        )
    found.drifted[lossy] = latents.drift[lossy] > CHECK_TOLERANCE
    return found
