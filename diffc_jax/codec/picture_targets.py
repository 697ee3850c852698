"""Whole pictures to streams, up to a rate, a quality, a noise level or the exact pixels."""

import dataclasses
import math
import zlib
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from diffc_jax.codec.container import CodedStep, StreamWriter, write_stream
from diffc_jax.codec.image_decoder import in_channels
from diffc_jax.codec.picture_chain import PictureChain
from diffc_jax.codec.picture_decoder import reconstruct, tile_of
from diffc_jax.codec.picture_encoder import LARGEST_SIZE, PictureEncoder, PictureStep
from diffc_jax.codec.picture_sizes import SIZE_AS_PLANNED, SIZES_PER_OCTAVE, planned_bits
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.residual import encode_residual, pixel_estimate
from diffc_jax.codec.stream import Header, Residual, snr_from_float, snr_to_float
from diffc_jax.codec.targets import Target, check_exact_size, check_target, mean_error_at
from diffc_jax.codec.windows import most_octaves
from diffc_jax.diffusion import process
from diffc_jax.errors import UsageError
from diffc_jax.metrics.psnr import mse

# Windows overlap by an eighth of their side or more.
_STRIDE_SHARE = 8
# If less than this share of a planned step would be left of a budget, the step takes all of it.
_LAST_SHARE = 0.5
# The flow decoder's squared error is this share of that of x_hat before the last step, or more.
_WORST_RATIO = 0.6
# The last step to a PSNR is found among those of up to 2 octaves less, by so many trials.
_LARGEST_CUT, _TRIALS = 2 * SIZES_PER_OCTAVE, 3
# A message takes so many bits or more, and a step is worth its time if this share of a budget is left.
_LEAST_MESSAGE, _LEFT_SHARE = 10.0, 0.01


def encode_picture(
    programs: ProgramCache,
    image: UInt8[np.ndarray, "h w c"],
    header: Header,
    target: Target,
    on_progress: Callable[[float], None],
) -> bytes:
    """Encodes an image that is larger than one tile as a whole; the rest is as for `encode_image`.

    The header is that of tiles.
    """
    side = header.tile
    height, width = header.coded_shape
    stride = max(side - side // _STRIDE_SHARE, 1)
    header = dataclasses.replace(header, stride=stride, octaves=most_octaves(height, width, side))
    check_target(target, header)
    pixels = np.repeat(image, 3 // image.shape[2], axis=2)
    missing = (0, height - header.height), (0, width - header.width), (0, 0)
    x = np.asarray(process.pixels_to_unit(jnp.asarray(np.pad(pixels, missing, mode="symmetric"))))
    work = _Work(on_progress)
    chain = PictureChain(programs, header, work.advance)
    encoder = PictureEncoder(header, x, chain)
    last_gamma = programs.gamma_range[0]
    if target.gamma is not None:
        last_gamma = max(last_gamma, target.gamma)
    end_snr = snr_from_float(math.exp(-last_gamma))
    if target.bpp is not None:
        return _encode_to_size(header, encoder, target.bpp, work)
    # Windows grow about as the fifth root of the signal-to-noise ratio of photographs.
    work.fraction = lambda: min(chain.snr / max(end_snr, 1), 1.0) ** 0.2
    if target.psnr is not None:
        return _encode_to_psnr(image, header, encoder, end_snr, target.psnr, work)
    if target.lossless:
        return _encode_exactly(pixels, header, encoder, end_snr)
    writer = StreamWriter(header)
    for messages in _planned(encoder, end_snr):
        _write(writer, messages)
        if writer.n_packets == target.packets:
            break
    return writer.to_bytes()


def _write(writer: StreamWriter, messages: list[CodedStep]) -> None:
    for message in messages:
        writer.append(message)


def _planned(encoder: PictureEncoder, end_snr: int) -> Iterator[list[CodedStep]]:
    """Planned steps, and as the last one that which leads nearest to a signal-to-noise ratio."""
    while True:
        left, planned = end_snr - encoder.chain.snr, encoder.sizes.offer().delta
        numbers: tuple[int, ...] = ()
        if left < planned:
            number = -1
            if left > 0:
                number = SIZE_AS_PLANNED + round(SIZES_PER_OCTAVE * math.log2(left / planned))
            # There is at least one step, so the first is taken however far it leads.
            if number < 0 and encoder.sizes.n_steps:
                return
            numbers = (max(number, 0),)
        encoder.predict()
        yield encoder.take(encoder.choose(numbers))


def _encode_to_size(header: Header, encoder: PictureEncoder, bpp: float, work: "_Work") -> bytes:
    """Planned steps as long as they fit, and a last one that fills what is left."""
    budget = 8 * math.floor(bpp * header.n_pixels / 8)
    writer = StreamWriter(header)
    work.fraction = lambda: _fraction_of_size(header, encoder, budget, work.windows)

    def left_after(step: PictureStep) -> int:
        return budget - writer.bits_after(step.bits)

    while True:
        least = max(_LEAST_MESSAGE * encoder.sizes.n_messages, _LEFT_SHARE * budget)
        if encoder.sizes.n_steps and budget - writer.bits_after(least) < 0:
            break
        encoder.predict()
        step: PictureStep | None = encoder.choose()
        assert step is not None
        if left_after(step) < _LAST_SHARE * step.bits:
            step = _largest(encoder, lambda one: left_after(one) >= 0)
            if step is None:
                break
        _write(writer, encoder.take(step))
    if not writer.all_started:
        needed = writer.bits_after(encoder.choose((0,)).bits)
        raise UsageError(
            f"{bpp} is too little; this image needs about {needed / header.n_pixels:.3f}",
            field="bpp",
        )
    return writer.to_bytes()


def _largest(encoder: PictureEncoder, fits: Callable[[PictureStep], bool]) -> PictureStep | None:
    """The largest step of one number that fits; None if none does."""
    best, low, high = None, 0, LARGEST_SIZE + 1
    while low < high:
        number = (low + high) // 2
        step = encoder.fitting((number,))
        if step is not None and fits(step):
            best, low = step, number + 1
        else:
            high = number
    return best


def _encode_to_psnr(
    image: UInt8[np.ndarray, "h w c"],
    header: Header,
    encoder: PictureEncoder,
    end_snr: int,
    psnr: float,
    work: "_Work",
) -> bytes:
    """Steps until the image is good enough, of which the last one is as small as it may be."""
    chain, goal = encoder.chain, mean_error_at(psnr)
    steps: list[list[CodedStep]] = []

    def mean_error() -> float:
        return encoder.squared_error / encoder.x_size

    def error_now() -> float:
        """That of the flow decoder, in units of x."""
        pixels = reconstruct(chain.denoiser, chain.z, chain.snr, "flow", None, header.seed)
        cropped = in_channels(pixels[: header.height, : header.width], header)
        return float(mse(image[np.newaxis], cropped[np.newaxis])[0]) / (process.LEVELS / 2) ** 2

    # The noise that is left at the end is all the error there may be.
    expected = max(goal, 1 / snr_to_float(end_snr))
    work.fraction = lambda: min(math.sqrt(expected / max(mean_error(), 1e-12)), 1.0)
    # Of the error of the flow decoder to that of x_hat before the last step: at most 1, or so.
    ratio = 1.0
    for messages in _planned(encoder, end_snr):
        steps.append(messages)
        if _WORST_RATIO * ratio * mean_error() > goal:
            continue
        error = error_now()
        if error <= goal:
            break
        ratio = error / mean_error()
    else:
        raise UsageError(
            f"{psnr} dB is not reached by the least noise of this model; use lossless", field="psnr"
        )
    low, high = SIZE_AS_PLANNED - _LARGEST_CUT, SIZE_AS_PLANNED
    for _ in range(_TRIALS):
        number = (low + high) // 2
        encoder.undo()
        steps[-1], kept = encoder.take(encoder.choose((number,))), steps[-1]
        if error_now() <= goal:
            high = number
        else:
            low, steps[-1] = number, kept
    return write_stream(header, [message for step in steps for message in step])


def _encode_exactly(
    pixels: UInt8[np.ndarray, "h w 3"], header: Header, encoder: PictureEncoder, end_snr: int
) -> bytes:
    """All steps, then the residuals that make tiles exact."""
    writer = StreamWriter(header)
    messages: list[CodedStep] = []

    def check_size(n_bytes: int) -> None:
        check_exact_size(n_bytes, pixels.nbytes, header.n_tiles, "the pixels")

    for some in _planned(encoder, end_snr):
        _write(writer, some)
        messages += some
        check_size(writer.bits_after() // 8)
    residuals, ratio = [], snr_to_float(encoder.chain.snr)
    for tile in range(header.n_tiles):
        place = tile_of(header, tile)
        payload, _ = encode_residual(pixels[place], pixel_estimate(encoder.chain.z[place], ratio))
        residuals.append(Residual(payload, zlib.crc32(pixels[place].tobytes())))
    data = write_stream(dataclasses.replace(header, n_steps=len(messages)), messages, residuals)
    check_size(len(data))
    return data


def _fraction_of_size(header: Header, encoder: PictureEncoder, budget: int, windows: int) -> float:
    """The share of windows that were looked at, if steps are as planned and see the picture in full size."""
    size, window = 3 * math.prod(header.coded_shape), 3 * header.tile**2
    bits, left = encoder.sizes.bits, 0
    while bits < budget and left < 1000:
        bits += planned_bits(bits, size, window)
        left += 1
    each = encoder.chain.denoiser.n_windows(*header.coded_shape, snr_from_float(1.0))
    return windows / (windows + left * each)


class _Work:
    """Tells the fraction of the work that is done, by an estimate.

    Attributes:
        fraction: finds it.
        windows: that the denoiser looked at.
    """

    def __init__(self, on_progress: Callable[[float], None]):
        self._on_progress = on_progress
        self.fraction: Callable[[], float] = lambda: 0.0
        self.windows = 0
        self._told = 0.0

    def advance(self, count: int) -> None:
        """Called after each batch of windows."""
        self.windows += count
        self._told = max(self._told, self.fraction())
        self._on_progress(self._told)
