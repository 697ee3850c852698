"""Whole pictures to streams, up to a rate, a quality, a noise level or the exact pixels."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from diffc_jax.codec.announced_sizes import PICTURE_STEPS
from diffc_jax.codec.container import CodedStep, StreamWriter, write_stream
from diffc_jax.codec.image_decoder import in_channels
from diffc_jax.codec.picture_chain import PictureChain
from diffc_jax.codec.picture_decoder import reconstruct, tile_of
from diffc_jax.codec.picture_encoder import PictureEncoder, PictureStep
from diffc_jax.codec.picture_sizes import planned_bits
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.residual import residual_of
from diffc_jax.codec.stream import Header, snr_from_float, snr_to_float
from diffc_jax.codec.targets import (
    Target,
    check_exact_size,
    check_target,
    mean_error_at,
    round_up,
    unit_error,
    unreachable_psnr,
)
from diffc_jax.codec.windows import most_octaves
from diffc_jax.diffusion import process
from diffc_jax.errors import UsageError
from diffc_jax.metrics.psnr import mse

# Windows overlap by an eighth of their side or more.
_STRIDE_SHARE = 8
# If less than this share of a planned step would be left of a budget, the step takes all of it.
_LAST_SHARE = 0.5
# The flow decoder's squared error is this share of that of x_hat before the last step, or more: of any step,
# where many pixels are black or white, and of steps after one that was looked at, times what it was there.
_WORST_RATIO, _WORST_CHANGE = 0.2, 0.6
# The last step to a PSNR is found among those of up to 2 octaves less, by so many trials.
_LARGEST_CUT, _TRIALS = 2 * PICTURE_STEPS.per_octave, 3
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
    header = picture_header(header)
    height, width = header.coded_shape
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
        return _encode_to_size(header, encoder, end_snr, target.bpp, work)
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


def picture_header(header: Header) -> Header:
    """The header of a picture, from that of its tiles."""
    side = header.tile
    stride = max(side - side // _STRIDE_SHARE, 1)
    octaves = most_octaves(*header.coded_shape, side)
    return dataclasses.replace(header, stride=stride, octaves=octaves)


def _write(writer: StreamWriter, messages: list[CodedStep]) -> None:
    for message in messages:
        writer.append(message)


def _planned(encoder: PictureEncoder, end_snr: int) -> Iterator[list[CodedStep]]:
    """Planned steps, and as the last one that which leads nearest to a signal-to-noise ratio."""
    while (numbers := _announced(encoder, end_snr)) is not None:
        encoder.predict()
        yield encoder.take(encoder.choose(numbers))


def _announced(encoder: PictureEncoder, end_snr: int) -> tuple[int, ...] | None:
    """Announces the step that ends nearest to `end_snr`; None if none leads nearer."""
    left, planned = end_snr - encoder.chain.snr, encoder.sizes.offer().delta
    return PICTURE_STEPS.towards(left, planned, is_first=encoder.sizes.n_steps == 0)


def _encode_to_size(
    header: Header, encoder: PictureEncoder, end_snr: int, bpp: float, work: "_Work"
) -> bytes:
    """Planned steps as long as they fit, and a last one that fills what is left; none beyond `end_snr`."""
    budget = 8 * math.floor(bpp * header.n_pixels / 8)
    writer = StreamWriter(header)
    work.fraction = lambda: _fraction_of_size(header, encoder, budget, work.windows)

    def left_after(step: PictureStep) -> int:
        return budget - writer.bits_after(step.bits)

    while True:
        least = max(_LEAST_MESSAGE * encoder.sizes.n_messages, _LEFT_SHARE * budget)
        if encoder.sizes.n_steps and budget - writer.bits_after(least) < 0:
            break
        if (numbers := _announced(encoder, end_snr)) is None:
            break
        encoder.predict()
        step: PictureStep | None = encoder.choose(numbers)
        assert step is not None
        if left_after(step) < _LAST_SHARE * step.bits:
            most = max(end_snr - encoder.chain.snr, step.delta)

            def fits(one: PictureStep, most: int = most) -> bool:
                return left_after(one) >= 0 and one.delta <= most

            if (step := _largest(encoder, fits)) is None:
                break
        _write(writer, encoder.take(step))
    if not writer.all_started:
        needed = writer.bits_after(encoder.choose((0,)).bits)
        raise UsageError(
            f"{bpp} is too little; this image needs about {round_up(needed / header.n_pixels)}",
            field="bpp",
        )
    return writer.to_bytes()


def _largest(encoder: PictureEncoder, fits: Callable[[PictureStep], bool]) -> PictureStep | None:
    """The largest step of one number that fits; None if none does."""
    best, low, high = None, 0, PICTURE_STEPS.largest + 1
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
        return unit_error(float(mse(image[np.newaxis], cropped[np.newaxis])[0]))

    # The noise that is left at the end is all the error there may be.
    expected = max(goal, 1 / snr_to_float(end_snr))
    work.fraction = lambda: min(math.sqrt(expected / max(mean_error(), 1e-12)), 1.0)
    worst, n_looked_at = _WORST_RATIO, 0
    for messages in _planned(encoder, end_snr):
        steps.append(messages)
        if worst * mean_error() > goal:
            continue
        error, n_looked_at = error_now(), len(steps)
        if error <= goal:
            break
        worst = _WORST_CHANGE * error / mean_error()
    else:
        if n_looked_at == len(steps) or error_now() > goal:
            raise unreachable_psnr(psnr)
    # The last step that was taken is good enough; it may be smaller than planned.
    announced = steps[-1][0].sizes
    high = PICTURE_STEPS.as_planned + sum(n - PICTURE_STEPS.as_planned for n in announced)
    low = max(high - _LARGEST_CUT, 0)
    for _ in range(_TRIALS):
        number = (low + high) // 2
        if number >= high:
            break
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
    writer, chain = StreamWriter(header), encoder.chain
    messages: list[CodedStep] = []

    def check_size(n_bytes: int) -> None:
        check_exact_size(n_bytes, pixels.nbytes, header, "the pixels")

    for some in _planned(encoder, end_snr):
        _write(writer, some)
        messages += some
        check_size(writer.bits_after() // 8)
    places, ratio = [tile_of(header, t) for t in range(header.n_tiles)], snr_to_float(chain.snr)
    residuals = [residual_of(pixels[place], chain.z[place], ratio) for place in places]
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
