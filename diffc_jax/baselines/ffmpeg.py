"""Single pictures through the encoders and decoders of FFmpeg (PyAV)."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Shaped

from diffc_jax.runtime.optional import require


def encode_picture(
    encoder: str,
    size: tuple[int, int],
    pixel_format: str,
    planes: Sequence[Shaped[np.ndarray, "h w"]],
    options: Mapping[str, str],
) -> bytes:
    """What an encoder makes of one picture.

    Args:
        encoder: FFmpeg's name of it.
        size: width and height.
        pixel_format: FFmpeg's name of it.
        planes: samples, in the order and type of the pixel format.
        options: of the encoder.
    """
    av = require("av")
    context = av.VideoCodecContext.create(encoder, "w")
    (context.width, context.height), context.pix_fmt = size, pixel_format
    context.time_base, context.framerate = Fraction(1), Fraction(1)
    context.options = dict(options)
    frame = av.VideoFrame(*size, pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((len(values), plane.line_size // values.itemsize), values.dtype)
        rows[:, : values.shape[1]] = values
        plane.update(rows.tobytes())
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def decode_picture(decoder: str, data: bytes) -> Any:
    """The `av.VideoFrame` of a file of one picture."""
    av = require("av")
    context = av.VideoCodecContext.create(decoder, "r")
    context.thread_count = 1
    (frame,) = context.decode(av.Packet(data)) + context.decode(None)
    return frame


def has(encoder: str) -> bool:
    """Whether the installed PyAV has an encoder.

    Raises:
        InputError: there is no PyAV.
    """
    return encoder in require("av").codecs_available


def version() -> str:
    """Versions of PyAV, whose wheels bring FFmpeg and its encoders, and of FFmpeg's codecs."""
    av = require("av")
    libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
    return f"PyAV {av.__version__} (libavcodec {libavcodec})"
