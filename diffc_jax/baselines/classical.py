"""Classical codecs at thumbnail size: real encoders, real files, every byte counted.

`CODECS` is the registry. A codec that does not come with Pillow joins it with its own functions.
Metadata (ICC, EXIF, encoder comments) is never written: a 64x64 file is too small for it.
"""

import dataclasses
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import PIL
from jaxtyping import Float64, Shaped, UInt8
from PIL import Image, features

from diffc_jax.baselines import containers
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.metrics import psnr
from diffc_jax.progress import Progress
from diffc_jax.results import RatePoint, standard_error

PER_IMAGE_FIELDS = (
    *("method", "model", "level", "index", "bpp", "bpp_headerless", "mse", "psnr"),
    *("dataset", "split"),
)

Quality = int | float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Codec:
    """One encoder setting that turns a quality into a curve.

    Attributes:
        method: what `RatePoint.method` says.
        model: variant of the method in `RatePoint.model`, such as the chroma subsampling of JPEG.
        encode: (uint8 image (h, w, 3), quality) -> whole file.
        decode: whole file -> uint8 image (h, w, 3).
        payload: file -> bytes that are not container or constant header.
        qualities: default ladder, in order of rate.
        quality_range: least and greatest quality that the encoder takes.
        quality_unit: what the quality means.
        whole_qualities: whether the encoder takes whole numbers only.
        available: whether the installed libraries can do it.
        requirement: what to install where they cannot.
    """

    method: str
    model: str | None = None
    encode: Callable[[UInt8[np.ndarray, "h w 3"], Quality], bytes]
    decode: Callable[[bytes], UInt8[np.ndarray, "h w 3"]]
    payload: Callable[[bytes], int]
    qualities: tuple[Quality, ...]
    quality_range: tuple[Quality, Quality]
    quality_unit: str
    whole_qualities: bool
    available: Callable[[], bool | None]
    requirement: str


def _encode(
    image: UInt8[np.ndarray, "h w 3"],
    quality: Quality,
    *,
    container: str,
    settings: Callable[[Quality], dict[str, Any]],
) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, container, **settings(quality))
    return stream.getvalue()


def _decode(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def _jpeg(subsampling: str) -> Codec:
    return Codec(
        method="jpeg",
        model=subsampling,
        encode=functools.partial(
            _encode,
            container="JPEG",
            settings=lambda quality: {
                "quality": int(quality),
                "subsampling": subsampling,
                "optimize": True,
            },
        ),
        decode=_decode,
        payload=containers.jpeg_payload,
        qualities=(1, 3, 5, 7, 10, 15, 20, 30, 40, 50, 60, 70, 80, 87, 92, 95),
        quality_range=(1, 100),
        quality_unit="libjpeg quality",
        whole_qualities=True,
        available=functools.partial(features.check, "jpg"),
        requirement="Pillow built with JPEG",
    )


def _webp_settings(quality: Quality) -> dict[str, Any]:
    return {"quality": quality, "method": 6}


def _avif_settings(quality: Quality) -> dict[str, Any]:
    # The default tuning is perceptual and costs PSNR. One thread: images run in parallel.
    return {
        "quality": int(quality),
        "subsampling": "4:4:4",
        "codec": "aom",
        "speed": 4,
        "max_threads": 1,
        "advanced": {"tune": "psnr"},
    }


def _encode_jpeg2000(image: UInt8[np.ndarray, "h w 3"], quality: Quality) -> bytes:
    data = _encode(
        image,
        quality,
        container="JPEG2000",
        settings=lambda decibels: {
            "quality_mode": "dB",
            "quality_layers": [decibels],
            "irreversible": True,
            "mct": 1,
            "no_jp2": True,
        },
    )
    return containers.without_jpeg2000_comments(data)


CODECS: Mapping[str, Codec] = {
    "jpeg_420": _jpeg("4:2:0"),
    "jpeg_444": _jpeg("4:4:4"),
    "webp": Codec(
        method="webp",
        encode=functools.partial(_encode, container="WEBP", settings=_webp_settings),
        decode=_decode,
        payload=containers.webp_payload,
        qualities=(0, 1, 3, 6, 10, 20, 35, 50, 65, 75, 80, 85, 90, 95, 100),
        quality_range=(0, 100),
        quality_unit="libwebp quality, lossy, 4:2:0",
        whole_qualities=False,
        available=functools.partial(features.check, "webp"),
        requirement="Pillow built with WebP",
    ),
    "jpeg2000": Codec(
        method="jpeg2000",
        encode=_encode_jpeg2000,
        decode=_decode,
        payload=containers.jpeg2000_payload,
        qualities=(15, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 41, 44),
        quality_range=(1, 100),
        quality_unit="target PSNR in dB, 9-7 irreversible, raw codestream",
        whole_qualities=False,
        available=functools.partial(features.check, "jpg_2000"),
        requirement="Pillow built with OpenJPEG",
    ),
    "avif": Codec(
        method="avif",
        encode=functools.partial(_encode, container="AVIF", settings=_avif_settings),
        decode=_decode,
        payload=containers.avif_payload,
        qualities=(0, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90),
        quality_range=(0, 100),
        quality_unit="libavif quality, aom at speed 4 tuned for PSNR, 4:4:4",
        whole_qualities=True,
        available=functools.partial(features.check, "avif"),
        requirement="Pillow 11.3 or newer built with AVIF",
    ),
}


def select_codecs(names: Sequence[str]) -> dict[str, Codec]:
    """Codecs of these names, in their order; a method's name stands for all of its variants.

    Raises:
        UsageError: empty, or an unknown name.
        InputError: the installed libraries lack an encoder.
    """
    known = dict.fromkeys([*CODECS, *(codec.method for codec in CODECS.values())])
    selected: dict[str, Codec] = {}
    for name in names:
        if name not in known:
            raise UsageError(f"codecs: unknown {name!r}, not one of {', '.join(known)}")
        selected |= {k: v for k, v in CODECS.items() if name in (k, v.method)}
    if not selected:
        raise UsageError(f"codecs: empty; name at least one of {', '.join(CODECS)}")
    for name, codec in selected.items():
        if not codec.available():
            raise InputError(
                f"{name}: the installed Pillow {PIL.__version__} cannot write it; "
                f"install {codec.requirement}, or leave {name!r} out of codecs"
            )
    return selected


def evaluate_codecs(
    images: Shaped[np.ndarray, "..."],
    *,
    dataset: str,
    split: str | None,
    codecs: Sequence[str] = tuple(CODECS),
    qualities: Mapping[str, Sequence[Quality]] | None = None,
    max_workers: int | None = None,
) -> tuple[list[RatePoint], list[dict[str, Any]]]:
    """Encodes and decodes every image at every quality.

    Args:
        images: uint8 RGB, (n, h, w, 3).
        dataset: name and variant of the data, copied into the results.
        split: its split, copied likewise.
        codecs: names from `CODECS`, or methods.
        qualities: ladders that replace the default ones, by name from `CODECS`.
        max_workers: threads; None is the choice of `ThreadPoolExecutor`.

    Returns:
        One rate point per codec and quality (bits of whole files in `bpp`), and one row of
        `PER_IMAGE_FIELDS` per codec, quality and image.

    Raises:
        UsageError: unknown codec, or a quality that its encoder does not take.
        InputError: images of another type or shape, or an encoder that is not installed.
    """
    _check_images(images)
    selected = select_codecs(codecs)
    ladders = _ladders(selected, qualities or {})
    points: list[RatePoint] = []
    rows: list[dict[str, Any]] = []
    files = len(images) * sum(len(ladder) for ladder in ladders.values())
    progress = Progress("codecs", files, "files")
    with ThreadPoolExecutor(max_workers) as pool:
        for name, codec in selected.items():
            for quality in ladders[name]:
                task = functools.partial(_measure, codec=codec, quality=quality)
                measured = []
                for measurement in pool.map(task, images):
                    measured.append(measurement)
                    progress.advance()
                point, point_rows = _summarise(
                    np.array(measured, np.float64),
                    codec=codec,
                    quality=quality,
                    pixels=images.shape[1] * images.shape[2],
                    dataset=dataset,
                    split=split,
                )
                points.append(point)
                rows += point_rows
    return points, rows


def _check_images(images: Shaped[np.ndarray, "..."]) -> None:
    if images.dtype != np.uint8:
        raise InputError(f"images: dtype is {images.dtype}; codecs take uint8 RGB")
    if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
        raise InputError(
            f"images: shape is {images.shape}; codecs take RGB as (n, height, width, 3)"
        )


def _ladders(
    selected: Mapping[str, Codec], qualities: Mapping[str, Sequence[Quality]]
) -> dict[str, Sequence[Quality]]:
    for name, ladder in qualities.items():
        if name not in CODECS:
            raise UsageError(f"qualities: unknown codec {name!r}, not one of {', '.join(CODECS)}")
        codec = CODECS[name]
        low, high = codec.quality_range
        if not ladder:
            raise UsageError(f"qualities.{name}: empty; the default is {codec.qualities}")
        for quality in ladder:
            whole = not codec.whole_qualities or float(quality).is_integer()
            if not (low <= quality <= high and whole):
                kind = "whole numbers" if codec.whole_qualities else "numbers"
                raise UsageError(
                    f"qualities.{name}: {quality} is not valid; "
                    f"use {kind} from {low:g} to {high:g} ({codec.quality_unit})"
                )
    return {name: qualities.get(name, codec.qualities) for name, codec in selected.items()}


def _measure(
    image: UInt8[np.ndarray, "h w 3"], *, codec: Codec, quality: Quality
) -> tuple[int, int, float]:
    """Bytes of the file, bytes of its payload, mean squared error."""
    data = codec.encode(image, quality)
    error = psnr.mse(image[None], codec.decode(data)[None])
    return len(data), codec.payload(data), float(error[0])


def _summarise(
    measured: Float64[np.ndarray, "n 3"],
    *,
    codec: Codec,
    quality: Quality,
    pixels: int,
    dataset: str,
    split: str | None,
) -> tuple[RatePoint, list[dict[str, Any]]]:
    file_bytes, payload_bytes, errors = measured.T
    bpp, bpp_headerless = 8 * file_bytes / pixels, 8 * payload_bytes / pixels
    decibels = psnr.psnr_from_mse(errors)
    point = RatePoint(
        method=codec.method,
        model=codec.model,
        rate_kind="file",
        level=float(quality),
        bpp=float(bpp.mean()),
        bpp_headerless=float(bpp_headerless.mean()),
        psnr=psnr.psnr(errors),
        psnr_mean=psnr.psnr_mean(errors),
        mse=float(errors.mean()),
        n_images=len(measured),
        dataset=dataset,
        split=split,
        bpp_stderr=standard_error(bpp),
        psnr_mean_stderr=standard_error(decibels),
    )
    shared = {"method": codec.method, "model": codec.model, "level": float(quality)}
    rows = [
        {
            **shared,
            "index": index,
            "bpp": float(bpp[index]),
            "bpp_headerless": float(bpp_headerless[index]),
            "mse": float(errors[index]),
            "psnr": float(decibels[index]),
            "dataset": dataset,
            "split": split,
        }
        for index in range(len(measured))
    ]
    return point, rows
