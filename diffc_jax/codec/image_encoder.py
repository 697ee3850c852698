"""Images to `.diffc` streams, up to a rate, a quality, a noise level or the exact pixels."""

import bisect
import dataclasses
import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from diffc_jax.codec import container, noise_levels
from diffc_jax.codec.container import Header, Residual, StreamWriter
from diffc_jax.codec.encoder import LongPacket, TileEncoder, planned_steps
from diffc_jax.codec.image_decoder import decode_stream, pixel_estimate
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.residual import encode_residual
from diffc_jax.codec.tiles import cut, tile_keys
from diffc_jax.diffusion import process
from diffc_jax.errors import UsageError
from diffc_jax.metrics.psnr import mse, psnr_mean

DEFAULT_MEMORY = 12
_PEAK = process.LEVELS - 1
# DiffC-F has at most twice the squared error of the posterior mean, whose error the encoder knows; and a bit.
_FLOW_OVER_MEAN = 2.1
# Bytes of packets beside the pixels of a tile; they matter for small tiles only.
_OVERHEAD = 1024


@dataclasses.dataclass(frozen=True)
class Target:
    """How far to encode; exactly one of these.

    Attributes:
        bpp: size of the stream in bits per pixel, headers and all, that it may not exceed.
        psnr: PSNR in dB that the image of the flow decoder must have.
        packets: number of packets.
        gamma: noise level (negative log signal-to-noise ratio) to arrive at.
        lossless: exact pixels.

    Raises:
        UsageError: none or several of them, or a value that cannot be.
    """

    bpp: float | None = None
    psnr: float | None = None
    packets: int | None = None
    gamma: float | None = None
    lossless: bool = False

    def __post_init__(self) -> None:
        named = {"bpp": self.bpp, "psnr": self.psnr, "packets": self.packets, "gamma": self.gamma}
        given = {name: value for name, value in named.items() if value is not None}
        if len(given) + self.lossless != 1:
            raise UsageError(f"choose one of {', '.join(named)} and lossless")
        for name, value in given.items():
            if not math.isfinite(value):
                raise UsageError(f"{value} is not a finite number", field=name)
            if name != "gamma" and value <= 0:
                raise UsageError(f"{value} is not positive", field=name)


def check_target(target: Target, header: Header) -> None:
    """Checks what can be known of a target without encoding.

    Raises:
        UsageError: no stream of an image with this header can meet it.
    """
    n_pixels, least = header.width * header.height, header.smallest_stream
    if target.packets is not None and target.packets < header.n_tiles:
        raise UsageError(
            f"{target.packets} are too few; each of the {header.n_tiles} tiles of this image has one",
            field="packets",
        )
    if target.bpp is not None and math.floor(target.bpp * n_pixels / 8) < least:
        raise UsageError(
            f"{target.bpp} is too little; this image needs at least {8 * least / n_pixels:.3f}",
            field="bpp",
        )


def encode_image(
    programs: ProgramCache,
    image: UInt8[np.ndarray, "h w c"],
    target: Target,
    *,
    memory: int = DEFAULT_MEMORY,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> bytes:
    """Encodes one image; `encoder.send` is the algorithm for each of its tiles.

    Args:
        programs: of the denoiser.
        image: RGB, or grey with one channel; from 1x1 to 65535x65535.
        target: how far.
        memory: nu of the trellis, 3 to 15: each one more doubles the time of the search and saves less.
        seed: of the shared randomness, 0 to 65535.
        on_progress: called now and then with the fraction of the work that is done, 0 to 1, by an estimate.

    Returns:
        A stream; see docs/format.md.

    Raises:
        UsageError: the target cannot be met, exact pixels would take more than storing them does, or the
            memory or the seed is out of range.
        InputError: the size of the image is out of range, or the denoiser predicts NaN or infinity.
    """
    if memory not in container.MEMORIES:
        least, most = container.MEMORIES[0], container.MEMORIES[-1]
        raise UsageError(f"must be {least} to {most}, is {memory}", field="memory")
    if not 0 <= seed <= container.LARGEST_SEED:
        raise UsageError(f"must be 0 to {container.LARGEST_SEED}, is {seed}", field="seed")
    height, width, channels = image.shape
    header = Header(width, height, programs.side, memory, seed, programs.fingerprint, channels == 1)
    tiles = cut(np.repeat(image, 3 // channels, axis=2), programs.side)
    last_gamma = programs.gamma_range[0]
    if target.packets is not None:
        check_target(target, header)
    if target.gamma is not None:
        last_gamma = max(last_gamma, target.gamma)
    progress = _Progress(target, header, on_progress)
    encoder = TileEncoder(
        programs.chain(memory),
        programs.variables,
        np.asarray(process.pixels_to_unit(jnp.asarray(tiles))),
        tile_keys(seed, len(tiles)),
        noise_levels.from_float(math.exp(-last_gamma)),
        programs.batch_size,
        progress.tell,
    )
    if target.bpp is not None:
        return _encode_to_size(header, encoder, target.bpp)
    if target.psnr is not None:
        return _encode_to_psnr(programs, image, header, encoder, target.psnr, progress)
    if target.lossless:
        return _encode_exactly(header, encoder, tiles)
    return _encode_packets(header, encoder, target.packets)


def _in_order(encoder: TileEncoder, writer: StreamWriter) -> Iterator[LongPacket]:
    """Packets of the tiles whose turn it is, until one has no more; each is to be written."""
    while (tile := writer.next_tile) is not None:
        if (packet := encoder.next_packet(tile)) is None:
            return
        yield packet


def _encode_packets(header: Header, encoder: TileEncoder, number: int | None) -> bytes:
    """So many packets, or all that there are."""
    writer = StreamWriter(header)
    for packet in itertools.islice(_in_order(encoder, writer), number):
        writer.append(packet.cut())
    return writer.to_bytes()


def _first_round(header: Header, packets: Sequence[LongPacket], n_steps: int) -> StreamWriter:
    """The first packets of all tiles, with so many steps together, which are dealt out in turn."""
    writer = StreamWriter(header)
    for tile, packet in enumerate(packets):
        own_steps = (n_steps + header.n_tiles - 1 - tile) // header.n_tiles
        writer.append(packet.cut(min(packet.n_steps, own_steps)))
    return writer


def _encode_to_size(header: Header, encoder: TileEncoder, bpp: float) -> bytes:
    """As many packets as fit, and of the one after them as many steps."""
    n_pixels = header.width * header.height
    budget = math.floor(bpp * n_pixels / 8)
    packets = [packet for tile in range(header.n_tiles) if (packet := encoder.next_packet(tile))]

    def is_too_much(n_steps: int) -> bool:
        return len(_first_round(header, packets, n_steps).to_bytes()) > budget

    # From one step for each tile to all that their first packets have.
    steps = range(len(packets), len(packets) * max(packet.n_steps for packet in packets) + 1)
    if is_too_much(steps[0]):
        least = 8 * len(_first_round(header, packets, steps[0]).to_bytes()) / n_pixels
        raise UsageError(f"{bpp} is too little; this image needs at least {least:.3f}", field="bpp")
    if is_too_much(steps[-1]):
        return _first_round(header, packets, _first(steps, is_too_much) - 1).to_bytes()
    writer = _first_round(header, packets, steps[-1])
    for packet in _in_order(encoder, writer):
        n_steps = packet.n_steps
        while n_steps and not writer.append(packet.cut(n_steps), budget):
            n_steps -= 1
        if n_steps < packet.n_steps:
            break
    return writer.to_bytes()


def _encode_to_psnr(
    programs: ProgramCache,
    image: UInt8[np.ndarray, "h w c"],
    header: Header,
    encoder: TileEncoder,
    psnr: float,
    progress: "_Progress",
) -> bytes:
    """The fewest packets, and steps of the last one or of the first round, whose image is good enough."""
    n_tiles = header.n_tiles

    def possible_steps(n_packets: int) -> range:
        if n_packets == n_tiles:
            longest = max(packet.n_steps for packet in packets[:n_tiles])
            return range(n_tiles, n_tiles * longest + 1)
        return range(1, packets[n_packets - 1].n_steps + 1)

    def beginning(n_packets: int, n_steps: int) -> bytes:
        if n_packets == n_tiles:
            return _first_round(header, packets[:n_tiles], n_steps).to_bytes()
        writer = StreamWriter(header)
        for packet in packets[: n_packets - 1]:
            writer.append(packet.cut())
        writer.append(packets[n_packets - 1].cut(n_steps))
        return writer.to_bytes()

    def good_enough(n_packets: int, n_steps: int | None = None) -> bool:
        n_steps = n_steps or possible_steps(n_packets)[-1]
        decoded = decode_stream(programs, container.parse(beginning(n_packets, n_steps)))
        progress.tell(encoder, n_new_checks=1)
        return psnr_mean(mse(image[np.newaxis], decoded.image[np.newaxis])) >= psnr

    allowed = _sufficient_error(psnr)
    packets = []
    writer = StreamWriter(header)
    for packet in _in_order(encoder, writer):
        writer.append(packet.cut())
        packets.append(packet)
        mean_error = encoder.squared_error.sum() / (n_tiles * 3 * header.tile**2)
        if len(packets) >= n_tiles and mean_error <= allowed and good_enough(len(packets)):
            break
    else:
        if not good_enough(len(packets)):
            raise UsageError(
                f"{psnr} dB is not reached by the least noise of this model; use lossless",
                field="psnr",
            )
    n_packets = _first(range(n_tiles, len(packets) + 1), good_enough)
    steps = _first(possible_steps(n_packets), lambda n_steps: good_enough(n_packets, n_steps))
    return beginning(n_packets, steps)


def _sufficient_error(psnr: float) -> float:
    """Mean squared error of x_hat, in units of x, at which the flow decoder may have this PSNR."""
    # LEVELS / 2 pixel values are one unit of x.
    return (_PEAK / (process.LEVELS / 2)) ** 2 / 10 ** (psnr / 10) / _FLOW_OVER_MEAN


def _first(numbers: range, is_enough: Callable[[int], bool]) -> int:
    """The first of increasing numbers that is enough; the last one is known to be."""
    return numbers[bisect.bisect_left(numbers[:-1], True, key=is_enough)]


def _encode_exactly(
    header: Header, encoder: TileEncoder, tiles: UInt8[np.ndarray, "n h w 3"]
) -> bytes:
    """All packets of each tile, then the residual that makes it exact."""
    writer = StreamWriter(header)
    most_bytes, size = tiles.nbytes + header.n_tiles * _OVERHEAD, 0
    while (tile := writer.next_tile) is not None:
        if size > most_bytes:
            raise UsageError(
                f"takes more than the {tiles.nbytes} bytes of the pixels of all tiles; this model does not"
                " know such images, so store them as PNG",
                field="lossless",
            )
        if (packet := encoder.next_packet(tile)) is not None:
            size = writer.append(packet.cut())
            continue
        estimate = pixel_estimate(encoder.latent(tile), noise_levels.to_float(encoder.snr[tile]))
        payload, _ = encode_residual(tiles[tile], estimate)
        writer.append(Residual(payload, zlib.crc32(tiles[tile].tobytes())))
    return writer.to_bytes()


class _Progress:
    """Tells the fraction of the work that is done, by an estimate.

    The work is the steps of the encoder, and for a PSNR also the beginnings of the stream that are decoded.
    """

    def __init__(self, target: Target, header: Header, on_progress: Callable[[float], None]):
        self._target = target
        self._header = header
        self._on_progress = on_progress
        self._n_checks = 0

    def tell(self, encoder: TileEncoder, n_new_checks: int = 0) -> None:
        """Says how much is done now, with so many more beginnings of the stream decoded."""
        self._n_checks += n_new_checks
        fraction = self._fraction_of_steps(encoder)
        if self._target.psnr is not None:
            # A check costs about half as much as all steps, and bisection takes about so many.
            n_checks = 7 + math.log2(self._header.n_tiles)
            fraction = (fraction + self._n_checks / 2) / (1 + n_checks / 2)
        self._on_progress(min(fraction, 1.0))

    def _fraction_of_steps(self, encoder: TileEncoder) -> float:
        target, header = self._target, self._header
        size = 3 * header.tile**2
        if target.bpp is not None:
            tile_bits = target.bpp * header.width * header.height / header.n_tiles
            done = sum(packet.n_steps for packets in encoder.packets for packet in packets)
            return done / (header.n_tiles * planned_steps(tile_bits, size))
        if target.packets is not None:
            return sum(map(len, encoder.packets)) / target.packets
        if target.psnr is not None:
            # The squared error of photographs falls about as the square of the number of steps.
            sufficient = size * _sufficient_error(target.psnr)
            return float(np.mean(np.sqrt(np.minimum(sufficient / encoder.squared_error, 1.0))))
        # The number of steps grows about as the fourth root of the signal-to-noise ratio of photographs.
        end = max(encoder.end_snr, 1)
        return float(np.mean([min(snr / end, 1.0) ** 0.25 for snr in encoder.snr]))
