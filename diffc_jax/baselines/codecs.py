"""The classical codecs that rates are compared with, each a real encoder that writes real files.

`CODECS` is the registry. Metadata (ICC, EXIF, encoder comments) is never written: a 64x64 file is too
small for it. Ladders go from the least rate that an encoder reaches at 64x64, which its headers
decide, to 5 bits per pixel or, where it stops short of them, to its best quality.

Settings aim at PSNR. Those of JPEG XL and HEVC were chosen on training crops of the built-in
photographs, none of which is in the evaluation split.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import features

from diffc_jax.baselines import containers, dithered_pcm, hevc
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
        encode: (uint8 image (h, w, 3), quality) -> whole file.
        takes_index: whether `encode` takes the index of the image third, which picks randomness that
            encoder and decoder share.
        decode: whole file -> uint8 image (h, w, 3).
        payload: file -> bytes that are not container or constant header.
        qualities: default ladder, in order of rate.
        quality_range: least and greatest quality that the encoder takes.
        quality_unit: what the quality means.
        whole_qualities: whether the encoder takes whole numbers only.
        available: whether the installed libraries can do it; raises InputError where one is missing.
        requirement: what to install where they cannot.
    """

    method: str
    model: str | None = None
    encode: Callable[..., bytes]
    takes_index: bool = False
    decode: Callable[[bytes], UInt8[np.ndarray, "h w 3"]] = decode_image
    payload: Callable[[bytes], int]
    qualities: tuple[Quality, ...]
    quality_range: tuple[Quality, Quality]
    quality_unit: str
    whole_qualities: bool = False
    available: Callable[[], bool | None] = lambda: True
    requirement: str = ""


def _jpeg(subsampling: str) -> Codec:
    def encode(image: UInt8[np.ndarray, "h w 3"], quality: Quality) -> bytes:
        return encode_image(
            image, "JPEG", quality=int(quality), subsampling=subsampling, optimize=True
        )

    return Codec(
        method="jpeg",
        model=subsampling,
        encode=encode,
        payload=containers.jpeg_payload,
        qualities=(1, 8, 20, 40, 62, 80, 92, 98),
        quality_range=(1, 100),
        quality_unit="libjpeg quality",
        whole_qualities=True,
        available=functools.partial(features.check, "jpg"),
        requirement="Pillow built with JPEG",
    )


def _encode_webp(image: UInt8[np.ndarray, "h w 3"], quality: Quality) -> bytes:
    return encode_image(image, "WEBP", quality=quality, method=6)


def _encode_avif(image: UInt8[np.ndarray, "h w 3"], quality: Quality) -> bytes:
    # The default tuning is perceptual and costs PSNR. One thread: images run in parallel.
    return encode_image(
        image,
        "AVIF",
        quality=int(quality),
        subsampling="4:4:4",
        codec="aom",
        speed=4,
        max_threads=1,
        advanced={"tune": "psnr"},
    )


def _encode_jpegxl(image: UInt8[np.ndarray, "h w 3"], distance: Quality) -> bytes:
    return encode_jpegxl(image, distance=distance, effort=7)


def _encode_jpeg2000(image: UInt8[np.ndarray, "h w 3"], decibels: Quality) -> bytes:
    data = encode_image(
        image,
        "JPEG2000",
        quality_mode="dB",
        quality_layers=[decibels],
        irreversible=True,
        mct=1,
        no_jp2=True,
    )
    return containers.without_jpeg2000_comments(data)


CODECS: Mapping[str, Codec] = {
    "jpeg_420": _jpeg("4:2:0"),
    "jpeg_444": _jpeg("4:4:4"),
    "webp": Codec(
        method="webp",
        encode=_encode_webp,
        payload=containers.webp_payload,
        qualities=(0, 3, 10, 20, 35, 50, 70, 82, 92, 100),
        quality_range=(0, 100),
        quality_unit="libwebp quality, lossy, 4:2:0",
        available=functools.partial(features.check, "webp"),
        requirement="Pillow built with WebP",
    ),
    "jpeg2000": Codec(
        method="jpeg2000",
        encode=_encode_jpeg2000,
        payload=containers.jpeg2000_payload,
        qualities=(12, 20, 24, 28, 32, 36, 40, 43, 47),
        quality_range=(1, 100),
        quality_unit="target PSNR in dB, 9-7 irreversible, raw codestream",
        available=functools.partial(features.check, "jpg_2000"),
        requirement="Pillow built with OpenJPEG",
    ),
    "avif": Codec(
        method="avif",
        encode=_encode_avif,
        payload=containers.avif_payload,
        qualities=(0, 8, 20, 35, 50, 62, 72, 80, 88, 93),
        quality_range=(0, 100),
        quality_unit="libavif quality, aom at speed 4 tuned for PSNR, 4:4:4",
        whole_qualities=True,
        available=functools.partial(features.check, "avif"),
        requirement="Pillow 11.3 or newer built with AVIF",
    ),
    "jpegxl": Codec(
        method="jpegxl",
        encode=_encode_jpegxl,
        decode=decode_jpegxl,
        payload=containers.jpegxl_payload,
        qualities=(25, 12, 7, 4.5, 3, 2, 1.3, 0.8, 0.45, 0.25),
        quality_range=(0.01, 25),
        quality_unit="libjxl distance, lower is better, effort 7, bare codestream",
        available=lambda: require("imagecodecs").JPEGXL.available,
        requirement="imagecodecs built with JPEG XL",
    ),
    "hevc": Codec(
        method="hevc",
        encode=hevc.encode,
        decode=hevc.decode,
        payload=hevc.payload,
        qualities=(51, 46, 42, 38, 34, 30, 26, 22, 18, 14, 10),
        quality_range=(0, 51),
        quality_unit="x265 QP, lower is better, 4:4:4, 10 bits, intra",
        whole_qualities=True,
        available=hevc.available,
        requirement="PyAV built with libx265",
    ),
    "dithered_pcm": Codec(
        method="dithered_pcm",
        encode=dithered_pcm.encode,
        takes_index=True,
        decode=dithered_pcm.decode,
        payload=dithered_pcm.payload,
        qualities=(2, 3, 4, 6, 16),
        quality_range=(2, 256),
        quality_unit="levels of a sample",
        whole_qualities=True,
    ),
}


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
