"""The classical codecs that rates are compared with, each a real encoder that writes real files.

`CODECS` is the registry. Metadata (ICC, EXIF, encoder comments) is never written: a 64x64 file is too
small for it. Ladders go from the least rate that an encoder reaches at 64x64, which its headers
decide, to 5 bits per pixel or, where it stops short of them, to its best quality.

Settings are those with the highest PSNR at equal rate of whole files, of all that
benchmarks/codec_settings.py tries on training crops of the built-in photographs.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import features

from diffc_jax.baselines import containers, dithered_pcm, ffmpeg, hevc, webp
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.images import decode_image, decode_jpegxl, encode_image, encode_jpegxl
from diffc_jax.runtime.optional import require

Quality = int | float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codec:
    """One encoder setting that turns a quality into a curve.

    Attributes:
        method: what `RatePoint.method` says.
        model: variant of the method in `RatePoint.model`, such as the chroma subsampling of JPEG.
        encoder: (uint8 image (h, w, 3), quality, **settings) -> whole file.
        settings: what the encoder is told besides the quality.
        takes_index: whether `encoder` takes the index of the image third, which picks randomness that
            encoder and decoder share.
        decode: whole file -> uint8 image (h, w, 3).
        payload: file -> bytes that are not container or constant header.
        qualities: default ladder, in order of rate.
        quality_range: least and greatest quality that the encoder takes.
        quality_unit: what the quality means.
        whole_qualities: whether the encoder takes whole numbers only.
        available: whether the installed libraries can do it; raises InputError where one is missing.
        requirement: what to install where they cannot.
        version: the libraries that encode and decode, with their versions.
    """

    method: str
    model: str | None = None
    encoder: Callable[..., bytes]
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    takes_index: bool = False
    decode: Callable[[bytes], UInt8[np.ndarray, "h w 3"]] = decode_image
    payload: Callable[[bytes], int]
    qualities: tuple[Quality, ...]
    quality_range: tuple[Quality, Quality]
    quality_unit: str
    whole_qualities: bool = False
    available: Callable[[], bool | None] = lambda: True
    requirement: str = ""
    version: Callable[[], str]

    def encode(self, image: UInt8[np.ndarray, "h w 3"], quality: Quality, index: int = 0) -> bytes:
        """The whole file of image number `index`."""
        where = (index,) if self.takes_index else ()
        return self.encoder(image, quality, *where, **self.settings)


# One table for all channels, which libjpeg scales by the quality. Its steps rise gently with frequency, for
# least squared error. The usual two tables are made for the eye, and a second one costs 69 bytes.
_JPEG_TABLE = tuple(round(12 + 8 * (row + column) / 14) for row, column in np.ndindex(8, 8))


def _encode_jpeg(image: UInt8[np.ndarray, "h w 3"], quality: Quality, **settings: Any) -> bytes:
    return encode_image(image, "JPEG", quality=int(quality), **settings)


def _encode_grey_jpeg(
    image: UInt8[np.ndarray, "h w 3"], quality: Quality, **settings: Any
) -> bytes:
    return encode_image(image[:, :, 0], "JPEG", quality=int(quality), **settings)


def _jpeg(subsampling: str) -> Codec:
    return Codec(
        method="jpeg",
        model=subsampling,
        encoder=_encode_jpeg,
        settings={"subsampling": subsampling, "optimize": True, "qtables": (_JPEG_TABLE,)},
        payload=containers.jpeg_payload,
        qualities=(1, 8, 20, 40, 62, 80, 92, 98),
        quality_range=(1, 100),
        quality_unit="libjpeg quality",
        whole_qualities=True,
        available=functools.partial(features.check, "jpg"),
        requirement="Pillow built with JPEG",
        version=lambda: f"libjpeg-turbo {features.version('libjpeg_turbo')}",
    )


def _encode_avif(
    image: UInt8[np.ndarray, "h w 3"],
    quality: Quality,
    *,
    subsampling: str,
    speed: int,
    **advanced: str | int,
) -> bytes:
    # One thread: images run in parallel.
    return encode_image(
        image,
        "AVIF",
        quality=int(quality),
        subsampling=subsampling,
        codec="aom",
        speed=speed,
        max_threads=1,
        advanced={name: str(value) for name, value in advanced.items()},
    )


def _avif_version() -> str:
    codecs = importlib.import_module("PIL._avif").codec_versions()
    return f"libavif {features.version('avif')} ({codecs})"


def _encode_jpeg2000(
    image: UInt8[np.ndarray, "h w 3"], decibels: Quality, **settings: Any
) -> bytes:
    data = encode_image(
        image,
        "JPEG2000",
        quality_mode="dB",
        quality_layers=[decibels],
        no_jp2=True,
        **settings,
    )
    return containers.without_jpeg2000_comments(data)


CODECS: Mapping[str, Codec] = {
    "jpeg_420": _jpeg("4:2:0"),
    "jpeg_444": _jpeg("4:4:4"),
    "webp": Codec(
        method="webp",
        encoder=webp.encode,
        settings={"preset": "icon"},
        payload=containers.webp_payload,
        qualities=(0, 3, 10, 20, 35, 50, 70, 82, 92, 100),
        quality_range=(0, 100),
        quality_unit="libwebp quality, lossy, 4:2:0",
        available=webp.available,
        requirement="PyAV built with libwebp",
        version=ffmpeg.version,
    ),
    "jpeg2000": Codec(
        method="jpeg2000",
        encoder=_encode_jpeg2000,
        settings={"num_resolutions": 4, "irreversible": True, "mct": 1},
        payload=containers.jpeg2000_payload,
        qualities=(12, 20, 24, 28, 32, 36, 40, 43, 47),
        quality_range=(1, 100),
        quality_unit="target PSNR in dB, 9-7 irreversible, raw codestream",
        available=functools.partial(features.check, "jpg_2000"),
        requirement="Pillow built with OpenJPEG",
        version=lambda: f"OpenJPEG {features.version('jpg_2000')}",
    ),
    "avif": Codec(
        method="avif",
        encoder=_encode_avif,
        settings={"subsampling": "4:4:4", "speed": 0, "tune": "psnr"},
        payload=containers.avif_payload,
        qualities=(0, 8, 20, 35, 50, 62, 72, 80, 88, 93),
        quality_range=(0, 100),
        quality_unit="libavif quality, aom, 4:4:4",
        whole_qualities=True,
        available=functools.partial(features.check, "avif"),
        requirement="Pillow 11.3 or newer built with AVIF",
        version=_avif_version,
    ),
    "jpegxl": Codec(
        method="jpegxl",
        encoder=lambda image, distance, **settings: encode_jpegxl(
            image, distance=distance, **settings
        ),
        settings={"effort": 7},
        decode=decode_jpegxl,
        payload=containers.jpegxl_payload,
        qualities=(25, 12, 7, 4.5, 3, 2, 1.3, 0.8, 0.45, 0.25),
        quality_range=(0.01, 25),
        quality_unit="libjxl distance, lower is better, bare codestream",
        available=lambda: require("imagecodecs").JPEGXL.available,
        requirement="imagecodecs built with JPEG XL",
        version=lambda: require("imagecodecs").jpegxl_version(),
    ),
    "hevc": Codec(
        method="hevc",
        encoder=hevc.encode,
        settings={"preset": "slow", "matrix": "ycgco", "aq_mode": 0, "psy_rd": 0, "psy_rdoq": 0},
        decode=hevc.decode,
        payload=hevc.payload,
        qualities=(51, 46, 42, 38, 34, 30, 26, 22, 18, 14, 10),
        quality_range=(0, 51),
        quality_unit="x265 QP, lower is better, 4:4:4, 10 bits, intra",
        whole_qualities=True,
        available=hevc.available,
        requirement="PyAV built with libx265",
        version=hevc.version,
    ),
    "dithered_pcm": Codec(
        method="dithered_pcm",
        encoder=dithered_pcm.encode,
        takes_index=True,
        decode=dithered_pcm.decode,
        payload=dithered_pcm.payload,
        qualities=(2, 3, 4, 6, 16),
        quality_range=(2, 256),
        quality_unit="levels of a sample",
        whole_qualities=True,
        version=lambda: f"JAX {jax.__version__}",
    ),
}


def for_grey(codec: Codec) -> Codec:
    """The codec for images with three equal channels: JPEG and AVIF write one of them."""
    if codec.method == "jpeg":
        return dataclasses.replace(codec, encoder=_encode_grey_jpeg)
    if codec.method == "avif":
        return dataclasses.replace(codec, settings={**codec.settings, "subsampling": "4:0:0"})
    return codec


def select_codecs(names: Sequence[str]) -> dict[str, Codec]:
    """Codecs of these names, in their order; a method's name stands for all of its variants.

    Raises:
        UsageError: an unknown name.
        InputError: a library is not installed or lacks an encoder.
    """
    known = dict.fromkeys([*CODECS, *(codec.method for codec in CODECS.values())])
    selected: dict[str, Codec] = {}
    for name in names:
        if name not in known:
            raise UsageError(f"unknown {name!r}, not one of {', '.join(known)}", field="codecs")
        selected |= {k: v for k, v in CODECS.items() if name in (k, v.method)}
    for name, codec in selected.items():
        without = f"or leave {name!r} out of codecs"
        try:
            available = codec.available()
        except InputError as error:
            raise InputError(f"{name}: {error}, {without}") from error
        if not available:
            raise InputError(
                f"{name}: the installed libraries cannot write it; install {codec.requirement}, {without}"
            )
    return selected


def encoder_versions(names: Sequence[str]) -> dict[str, str]:
    """Versions of the libraries of these codecs.

    Raises:
        UsageError: an unknown name.
        InputError: a library is not installed or lacks an encoder.
    """
    return {name: codec.version() for name, codec in select_codecs(names).items()}
