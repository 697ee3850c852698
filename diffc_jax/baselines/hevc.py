"""HEVC intra pictures (x265), the closest codec to BPG, which no Python package encodes.

BPG is an HEVC intra picture, too, behind a shorter header: compare it with the rate without header.

A file is the raw byte stream of one picture, Annex B of ITU-T H.265: parameter sets and a slice. It
names its colours, so that any HEVC player shows it: 4:4:4, 10 bits, BT.709 matrix, full range, sRGB
transfer. Ten bits keep the colour conversion below the rounding of 8-bit RGB; at equal PSNR they cost
4 % less at high rates than eight bits do.
"""

import re
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8, UInt16

from diffc_jax.errors import InputError
from diffc_jax.runtime.optional import require

_PIXEL_FORMAT, _PEAK, _MIDDLE = "yuv444p10le", 1023, 512
_KR, _KB = 0.2126, 0.0722  # BT.709 weights of red and blue in luma
_LEAST_SIDE = 16
_FIRST_NON_SLICE = 32  # NAL unit types below this one are slices
_SETTINGS = ":".join(
    (
        # One fixed quantiser, and a search that minimises squared error instead of visible error.
        "ipratio=1:aq-mode=0:psy-rd=0:psy-rdoq=0",
        # One picture, on one thread: images run in parallel.
        "keyint=1:frame-threads=1:pools=none:wpp=0:log-level=none",
        # No bytes about the encoder or the frame rate, and three that describe the colours.
        "info=0:vui-timing-info=0",
        "range=full:colormatrix=bt709:colorprim=bt709:transfer=iec61966-2-1",
    )
)


def available() -> bool:
    """Whether the installed PyAV has the encoder.

    Raises:
        InputError: there is no PyAV.
    """
    return "libx265" in require("av").codecs_available


def encode(image: UInt8[np.ndarray, "h w 3"], qp: int | float) -> bytes:
    """One picture at quantisation parameter `qp`, 0 (best) to 51.

    Raises:
        InputError: a side shorter than 16 pixels.
    """
    height, width, _ = image.shape
    if min(height, width) < _LEAST_SIDE:
        raise InputError(
            f"hevc: x265 takes no image of {width}x{height}; its sides are {_LEAST_SIDE} or more"
        )
    av = require("av")
    encoder = av.VideoCodecContext.create("libx265", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, _PIXEL_FORMAT
    encoder.time_base, encoder.framerate = Fraction(1), Fraction(1)
    encoder.options = {"preset": "slow", "x265-params": f"qp={int(qp)}:{_SETTINGS}"}
    frame = av.VideoFrame(width, height, _PIXEL_FORMAT)
    for plane, values in zip(frame.planes, _to_ycbcr(image), strict=True):
        rows = np.zeros((height, plane.line_size // 2), np.uint16)
        rows[:, :width] = values
        plane.update(rows.tobytes())
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of a file that `encode` wrote."""
    av = require("av")
    decoder = av.VideoCodecContext.create("hevc", "r")
    decoder.thread_count = 1
    (frame,) = decoder.decode(av.Packet(data)) + decoder.decode(None)
    planes = [
        np.frombuffer(bytes(plane), np.uint16).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    ]
    return _to_rgb(np.stack(planes))


def payload(data: bytes) -> int:
    """Bytes of the slices' NAL units, with their 2-byte NAL headers and slice headers.

    Left out: start codes, parameter sets (VPS, SPS, PPS), SEI messages.

    Raises:
        ValueError: not an Annex B byte stream.
    """
    return sum(len(unit) for unit in _nal_units(data) if unit[0] >> 1 & 0x3F < _FIRST_NON_SLICE)


def _nal_units(data: bytes) -> Iterator[bytes]:
    # A start code cannot occur inside a NAL unit, nor can a unit end in a zero byte.
    lead, *units = re.split(rb"\x00\x00\x01", data)
    if lead.strip(b"\x00") or not units or not all(unit.strip(b"\x00") for unit in units):
        raise ValueError("not an HEVC byte stream")
    yield from (unit.rstrip(b"\x00") for unit in units)


def _to_ycbcr(image: UInt8[np.ndarray, "h w 3"]) -> UInt16[np.ndarray, "3 h w"]:
    red, green, blue = np.moveaxis(image / 255, -1, 0)
    luma = _KR * red + (1 - _KR - _KB) * green + _KB * blue
    differences = (blue - luma) / (2 - 2 * _KB), (red - luma) / (2 - 2 * _KR)
    planes = [_PEAK * luma, *(_MIDDLE + _PEAK * difference for difference in differences)]
    return np.rint(planes).clip(0, _PEAK).astype(np.uint16)


def _to_rgb(planes: UInt16[np.ndarray, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    luma = planes[0] / _PEAK
    blue_difference, red_difference = (planes[1:].astype(np.float64) - _MIDDLE) / _PEAK
    blue = luma + (2 - 2 * _KB) * blue_difference
    red = luma + (2 - 2 * _KR) * red_difference
    green = (luma - _KR * red - _KB * blue) / (1 - _KR - _KB)
    return np.rint(255 * np.stack([red, green, blue], axis=-1)).clip(0, 255).astype(np.uint8)
