"""HEVC intra pictures (x265), the closest codec to BPG, which no Python package encodes.

BPG is an HEVC intra picture, too, behind a shorter header: compare it with the rate without header.

A file is the raw byte stream of one picture, Annex B of ITU-T H.265: parameter sets and a slice, which name
its colours: 4:4:4, 10 bits, full range, sRGB transfer, and a matrix of Annex E. Ten bits keep the colour
conversion below the rounding of 8-bit RGB; at equal PSNR they cost 4 % less at high rates than eight
bits do.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, UInt8, UInt16

from diffc_jax.baselines import ffmpeg
from diffc_jax.errors import InputError


class _Matrix(NamedTuple):
    """A conversion of colours: `matrix_coeffs` of the standard, and luma and differences of R, G and B."""

    code: int
    rows: Float64[np.ndarray, "3 3"]


def _luma_differences(red: float, blue: float) -> Float64[np.ndarray, "3 3"]:
    """Y, Cb and Cr where luma has these weights of red and blue."""
    luma = np.array([red, 1 - red - blue, blue])
    differences = (np.eye(3)[2] - luma) / (2 - 2 * blue), (np.eye(3)[0] - luma) / (2 - 2 * red)
    return np.stack([luma, *differences])


MATRICES: Mapping[str, _Matrix] = {
    "bt709": _Matrix(1, _luma_differences(0.2126, 0.0722)),
    "smpte170m": _Matrix(6, _luma_differences(0.299, 0.114)),
    "ycgco": _Matrix(8, np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0.0, -0.5]])),
}
_PIXEL_FORMAT, _PEAK, _MIDDLE = "yuv444p10le", 1023, 512
_LEAST_SIDE = 16
_FIRST_NON_SLICE = 32  # NAL unit types below this one are slices
_SETTINGS = {
    # One picture with one fixed quantiser, on one thread: images run in parallel.
    "ipratio": 1,
    "keyint": 1,
    "frame-threads": 1,
    "pools": "none",
    "wpp": 0,
    # No bytes about the encoder or the frame rate, and three that describe the colours.
    "log-level": "none",
    "info": 0,
    "vui-timing-info": 0,
    "range": "full",
    "colorprim": "bt709",
    "transfer": "iec61966-2-1",
}

available = functools.partial(ffmpeg.has, "libx265")


def encode(
    image: UInt8[np.ndarray, "h w 3"],
    qp: int | float,
    *,
    preset: str,
    matrix: str,
    **parameters: str | int,
) -> bytes:
    """One picture.

    Args:
        image: uint8 RGB.
        qp: quantisation parameter, 0 (best) to 51.
        preset: of x265.
        matrix: one of `MATRICES`.
        parameters: more of x265, underscores for hyphens.

    Raises:
        InputError: a side shorter than 16 pixels.
    """
    height, width, _ = image.shape
    if min(height, width) < _LEAST_SIDE:
        raise InputError(
            f"hevc: x265 takes no image of {width}x{height}; its sides are {_LEAST_SIDE} or more"
        )
    own = {name.replace("_", "-"): value for name, value in parameters.items()}
    settings = {"qp": int(qp), **_SETTINGS, "colormatrix": matrix, **own}
    return ffmpeg.encode_picture(
        "libx265",
        (width, height),
        _PIXEL_FORMAT,
        list(_to_planes(image, MATRICES[matrix])),
        {
            "preset": preset,
            "x265-params": ":".join(f"{name}={value}" for name, value in settings.items()),
        },
    )


def decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of a file that `encode` wrote."""
    frame = ffmpeg.decode_picture("hevc", data)
    planes = [
        np.frombuffer(bytes(plane), np.uint16).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    ]
    (matrix,) = (one for one in MATRICES.values() if one.code == frame.colorspace)
    return _to_rgb(np.stack(planes), matrix)


def version() -> str:
    """Version of x265, as it writes it to files if asked to, and of the libraries around it."""
    grey = np.full((_LEAST_SIDE, _LEAST_SIDE, 3), 128, np.uint8)
    file = encode(grey, 51, preset="ultrafast", matrix="bt709", info=1)
    found = re.search(rb"x265 \(build \d+\) - ([^:\s]+)", file)
    return f"x265 {found[1].decode() if found else 'of an unknown version'}, {ffmpeg.version()}"


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


def _to_planes(image: UInt8[np.ndarray, "h w 3"], matrix: _Matrix) -> UInt16[np.ndarray, "3 h w"]:
    planes = _PEAK * np.tensordot(matrix.rows, image / 255, axes=(1, 2))
    planes[1:] += _MIDDLE
    return np.rint(planes).clip(0, _PEAK).astype(np.uint16)


def _to_rgb(planes: UInt16[np.ndarray, "3 h w"], matrix: _Matrix) -> UInt8[np.ndarray, "h w 3"]:
    values = planes.astype(np.float64)
    values[1:] -= _MIDDLE
    pixels = np.tensordot(values / _PEAK, np.linalg.inv(matrix.rows), axes=(0, 1))
    return np.rint(255 * pixels).clip(0, 255).astype(np.uint8)
