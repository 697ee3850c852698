"""Images to `.diffc` streams, up to a rate, a quality, a noise level or the exact pixels."""

import dataclasses
import hashlib
import math
import operator
from collections.abc import Callable
from typing import SupportsIndex

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from diffc_jax.codec.container import CodedStep, StreamWriter, write_stream
from diffc_jax.codec.encoder import Choice, all_sizes, choose
from diffc_jax.codec.header import DEFAULT_MEMORY
from diffc_jax.codec.image_decoder import in_channels
from diffc_jax.codec.picture_targets import encode_picture
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.residual import residual_of
from diffc_jax.codec.side_by_side import alone
from diffc_jax.codec.step_sizes import StepSizes, packet_end, planned_steps
from diffc_jax.codec.stream import (
    LARGEST_SEED,
    Header,
    snr_from_float,
    snr_to_float,
)
from diffc_jax.codec.targets import (
    Target,
    check_exact_size,
    check_target,
    mean_error_at,
    round_up,
    unit_error,
    unreachable_psnr,
)
from diffc_jax.codec.tile_encoder import Job, TileEncoder
from diffc_jax.codec.tiles import assemble, cut, tile_keys
from diffc_jax.diffusion import process
from diffc_jax.errors import UsageError
from diffc_jax.metrics.psnr import mse

# Ratio of DiffC-F's squared error to that of x_hat before the last step, which the encoder knows: where the
# image is looked at first. A decoder that draws from the posterior has at most 2.
_FLOW_OVER_MEAN = 1.5
# A size is met if what is left is this much or less.
_LEFT_BITS, _LEFT_SHARE = 16, 0.01
# No step takes less than about this, and the smallest that can be announced this share of a planned one.
_LEAST_STEP, _LEAST_STEP_SHARE = 40, 0.2


def encoding(
    programs: ProgramCache,
    image: UInt8[np.ndarray, "h w c"],
    target: Target,
    *,
    memory: int = DEFAULT_MEMORY,
    seed: SupportsIndex | None = None,
    tiled: bool = False,
    on_progress: Callable[[float], None] = lambda fraction: None,
) -> Job[bytes]:
    """Encodes one image, as work that can be done beside that on other images (`side_by_side`).

    `encoder.send_step` is the algorithm for one of the size of the denoiser's. Larger ones are coded as a
    whole (`picture_encoder`).

    Args:
        programs: of the denoiser.
        image: RGB, or grey with one channel; from 1x1 to 65535x65535.
        target: how far.
        memory: nu of the trellis, one of `MEMORIES`: more take more time, and save less and less.
        seed: of the shared randomness, 0 to 65535; None for `image_seed`.
        tiled: cut larger images into tiles that are coded apart, which is worse in every respect, but what
            files of 0.1.0 had. With a PSNR it keeps the latents of all steps: 50 kB for each step of a tile.
        on_progress: called now and then with the fraction of the work that is done, 0 to 1, by an estimate.

    Returns:
        A stream; see docs/format.md.

    Raises:
        UsageError: the target cannot be met, exact pixels would take more than storing them does, or the
            memory or the seed is out of range.
        InputError: the size of the image is out of range, or the denoiser predicts NaN or infinity.
    """
    if seed is None:
        seed = image_seed(image)
    seed = operator.index(seed)  # a number of NumPy, too
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"must be 0 to {LARGEST_SEED}, is {seed}", field="seed")
    height, width, channels = image.shape
    header = Header(
        width, height, programs.side, memory, seed, programs.fingerprint[:2], channels == 1
    )
    chain = programs.chain(memory)
    if header.n_tiles > 1 and not tiled:
        return encode_picture(programs, image, header, target, on_progress)
    tiles = cut(np.repeat(image, 3 // channels, axis=2), programs.side)
    last_gamma = programs.gamma_range[0]
    check_target(target, header)
    if target.gamma is not None:
        last_gamma = max(last_gamma, target.gamma)
    progress = _Progress(target, header, on_progress)
    encoder = TileEncoder(
        chain,
        programs.variables,
        np.asarray(process.pixels_to_unit(jnp.asarray(tiles))),
        tile_keys(seed, len(tiles)),
        snr_from_float(math.exp(-last_gamma)),
        programs.batch_size,
        progress.tell,
    )
    if target.bpp is not None:
        return (yield from _encode_to_size(header, encoder, target.bpp))
    if target.psnr is not None:
        return (yield from _encode_to_psnr(programs, image, header, encoder, target.psnr, progress))
    if target.lossless:
        return (yield from _encode_exactly(header, encoder, tiles))
    writer = StreamWriter(header)
    while (step := (yield from encoder.next_step(writer.next_tile))) is not None:
        writer.append(step)
        if writer.n_packets == target.packets:
            break
    return writer.to_bytes()


encode_image = alone(encoding)


def image_seed(image: UInt8[np.ndarray, "h w c"]) -> int:
    """The default seed, 0 to 255: the first byte of the SHA-256 of the image's sides and pixels.

    Samples are exact over the randomness that both sides share, so that it must not be the same for all
    images of a set.
    """
    sides = np.array(image.shape, "<u4").tobytes()
    return hashlib.sha256(sides + np.ascontiguousarray(image).tobytes()).digest()[0]


def _encode_to_size(header: Header, encoder: TileEncoder, bpp: float) -> Job[bytes]:
    """Planned steps as long as they fit, and then such that fill what is left."""
    budget = 8 * math.floor(bpp * header.n_pixels / 8)
    enough = max(_LEFT_BITS, _LEFT_SHARE * budget)
    writer = StreamWriter(header)

    def left_after(choice: Choice) -> int:
        return budget - writer.bits_after(choice.bits)

    def leaves_room(choice: Choice) -> bool:
        """Whether another step fits after this one."""
        return left_after(choice) >= _LEAST_STEP + _LEAST_STEP_SHARE * choice.path_bits

    while (step := (yield from encoder.next_step(tile := writer.next_tile))) is not None:
        if not leaves_room(encoder.choices[tile][-1]):
            encoder.undo(tile)
            fitting: list[Choice] = []

            def fill(
                sizes: StepSizes, squared_error: float, fitting: list[Choice] = fitting
            ) -> Choice:
                choices = [choose(sizes, squared_error, numbers) for numbers in all_sizes()]
                left = [left_after(choice) for choice in choices]
                in_order = sorted((bits, i) for i, bits in enumerate(left) if bits >= 0)
                fitting[:] = [choices[i] for _, i in in_order]
                if in_order and in_order[0][0] > enough:
                    # Short steps can be measured out better than long ones.
                    fitting[0] = next(filter(leaves_room, fitting), fitting[0])
                return fitting[0] if fitting else choices[0]

            yield [encoder.wanted(tile, fill)]
            if not fitting:
                break
            step = yield from encoder.next_step(tile)
            assert step is not None
        writer.append(step)
        if budget - writer.bits_after() <= enough:
            break
    if not writer.all_started:
        least = writer.bits_after() + header.n_tiles * _LEAST_STEP
        raise UsageError(
            f"{bpp} is too little; this image needs about {round_up(least / header.n_pixels)}",
            field="bpp",
        )
    return writer.to_bytes()


def _encode_to_psnr(
    programs: ProgramCache,
    image: UInt8[np.ndarray, "h w c"],
    header: Header,
    encoder: TileEncoder,
    psnr: float,
    progress: "_Progress",
) -> Job[bytes]:
    """The fewest steps whose image is good enough."""
    goal = mean_error_at(psnr)
    steps: list[CodedStep] = []
    # That of x_hat before the last step of each tile, after each step.
    mean_errors: list[float] = []
    history = _LatentHistory(programs, header)
    writer = StreamWriter(header)

    def flow_error(n_steps: int) -> float:
        """Mean squared error of the flow decoder after so many steps, in units of x."""
        error = mse(image[np.newaxis], history.reconstruct(n_steps)[np.newaxis])[0]
        progress.tell(encoder, n_new_checks=1)
        return unit_error(float(error))

    ratio, too_few = _FLOW_OVER_MEAN, header.n_tiles - 1
    while (step := (yield from encoder.next_step(tile := writer.next_tile))) is not None:
        writer.append(step)
        steps.append(step)
        history.append(tile, encoder)
        mean_errors.append(encoder.squared_error.sum() / (header.n_tiles * 3 * header.tile**2))
        if writer.all_started and ratio * mean_errors[-1] <= goal:
            error = flow_error(len(steps))
            ratio = error / mean_errors[-1]
            if error <= goal:
                break
            too_few = len(steps)
    else:
        if too_few == len(steps) or flow_error(len(steps)) > goal:
            raise unreachable_psnr(psnr)
    guess = next((n for n, error in enumerate(mean_errors, 1) if ratio * error <= goal), len(steps))
    number = search_near(guess, too_few, len(steps), lambda n: flow_error(n) <= goal)
    return write_stream(header, steps[:number])


class _LatentHistory:
    """The latents of tiles after each step of a stream, which its receiver will have, too."""

    def __init__(self, programs: ProgramCache, header: Header):
        self._programs, self._header = programs, header
        self._keys = tile_keys(header.seed, header.n_tiles)
        self._tiles: list[int] = []
        self._latents: list[Float[np.ndarray, "h w 3"]] = []
        self._snrs: list[float] = []

    def append(self, tile: int, encoder: TileEncoder) -> None:
        """Notes a step of a tile that the encoder has just taken."""
        self._tiles.append(tile)
        self._latents.append(encoder.z[tile].copy())
        self._snrs.append(snr_to_float(encoder.sizes[tile].snr))

    def reconstruct(self, n_steps: int) -> UInt8[np.ndarray, "h w c"]:
        """The image that the flow decoder makes of the first steps, which are at least one for each tile."""
        header, programs = self._header, self._programs
        newest = dict(zip(self._tiles[:n_steps], range(n_steps), strict=True))
        numbers = [newest[tile] for tile in range(header.n_tiles)]
        pixels = programs.reconstructor("flow", None)(
            programs.variables,
            np.stack([self._latents[number] for number in numbers]),
            np.array([self._snrs[number] for number in numbers]),
            self._keys,
            programs.batch_size,
        )
        return in_channels(assemble(pixels, header.width, header.height), header)


def search_near(guess: int, low: int, high: int, condition: Callable[[int], bool]) -> int:
    """The least number in (low, high] from which on a condition holds, as it does at `high`.

    Asks at `guess`, then 1, 2, 4, ... further in the direction of the answer, then halves what is left.
    """
    stride, held = 1, set()
    number = guess
    while low + 1 < high:
        number = min(max(number, low + 1), high - 1)
        holds = condition(number)
        held.add(holds)
        low, high = (low, number) if holds else (number, high)
        number = (low + high) // 2 if len(held) == 2 else number + (-stride if holds else stride)
        stride *= 2
    return high


def _encode_exactly(
    header: Header, encoder: TileEncoder, tiles: UInt8[np.ndarray, "n h w 3"]
) -> Job[bytes]:
    """All steps of each tile, then the residuals that make them exact."""
    writer = StreamWriter(header)
    steps: list[CodedStep] = []

    def check_size(n_bytes: int) -> None:
        check_exact_size(n_bytes, tiles.nbytes, header, "the pixels of all tiles")

    # A tile that has arrived stays the one whose turn it is only if all have.
    while (step := (yield from encoder.next_step(writer.next_tile))) is not None:
        check_size(writer.bits_after() // 8)
        writer.append(step)
        steps.append(step)
    residuals = [
        residual_of(pixels, encoder.z[tile], snr_to_float(encoder.sizes[tile].snr))
        for tile, pixels in enumerate(tiles)
    ]
    data = write_stream(dataclasses.replace(header, n_steps=len(steps)), steps, residuals)
    check_size(len(data))
    return data


class _Progress:
    """Tells the fraction of the work that is done, by an estimate.

    The work is the steps of the encoder, and for a PSNR also the latents that are decoded.
    """

    def __init__(self, target: Target, header: Header, on_progress: Callable[[float], None]):
        self._target = target
        self._header = header
        self._on_progress = on_progress
        self._n_checks = 0
        self._told = 0.0

    def tell(self, encoder: TileEncoder, n_new_checks: int = 0) -> None:
        """Says how much is done now, with so many more images looked at."""
        self._n_checks += n_new_checks
        fraction = self._fraction_of_steps(encoder)
        if self._target.psnr is not None:
            # Rough: a check costs a quarter of what all steps do, and the search takes so many.
            n_checks = 3 + math.log2(self._header.n_tiles)
            fraction = (fraction + self._n_checks / 4) / (1 + n_checks / 4)
        # The error of a network now and then rises for a step.
        self._told = max(self._told, min(fraction, 1.0))
        self._on_progress(self._told)

    def _fraction_of_steps(self, encoder: TileEncoder) -> float:
        target, header = self._target, self._header
        size = 3 * header.tile**2
        if target.bpp is not None:
            tile_bits = target.bpp * header.width * header.height / header.n_tiles
            done = sum(map(len, encoder.steps))
            return done / (header.n_tiles * planned_steps(tile_bits, size))
        if target.packets is not None:
            # Beyond 64 packets there is nothing that an image could hold.
            tile_bits = packet_end(min(-(-int(target.packets) // header.n_tiles), 64))
            return sum(map(len, encoder.steps)) / (header.n_tiles * planned_steps(tile_bits, size))
        if target.psnr is not None:
            # The squared error of photographs falls about as the square of the number of steps.
            goal = mean_error_at(target.psnr) / _FLOW_OVER_MEAN
            # The noise that is left at the end is all the error there may be.
            sufficient = size * max(goal, 1 / snr_to_float(encoder.end_snr))
            return float(np.mean(np.sqrt(np.minimum(sufficient / encoder.squared_error, 1.0))))
        # The number of steps grows about as the fourth root of the signal-to-noise ratio of photographs.
        end = max(encoder.end_snr, 1)
        return float(np.mean([min(one.snr / end, 1.0) ** 0.25 for one in encoder.sizes]))
