"""Whole pictures against tiles: PSNR, errors across the borders of tiles, and time.

python benchmarks/pictures.py
python benchmarks/pictures.py --pictures=china.jpg --crop=768x512 --bpp=0.15

Encodes built-in photographs as one chain and as tiles that are coded apart, with the shipped weights or
--model, decodes both with the flow decoder, and prints for each rate

    bpp          of the file
    PSNR         in dB, and by how much the whole picture is above the tiles
    borders      mean difference of the error of neighbouring pixels on both sides of a border of tiles, over
                 that of all other neighbours: 1 is where nothing can be seen
    enc, dec     seconds of processors for one call in each direction, after one that compiled the network; on
                 machines that do something else, too, they say more than the clock

and last how the exact pixels of an odd part of the first picture come back.
"""

import time
from typing import Any

import numpy as np
from absl import flags
from jaxtyping import UInt8

from diffc_jax import cli
from diffc_jax.codec.container import parse
from diffc_jax.codec.image_decoder import decode_stream
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.loading import load_codec
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.codec.targets import Target
from diffc_jax.data.photos import photograph, photograph_names
from diffc_jax.metrics.psnr import mse, psnr_mean

_MODEL = flags.DEFINE_string(
    "model", None, "Folder of a finished run, or its params.safetensors; without it those shipped."
)
_PICTURES = flags.DEFINE_list("pictures", None, "Names of built-in photographs; all without it.")
_CROP = flags.DEFINE_string("crop", "768x512", "Largest width and height, from the middle.")
_BPP = flags.DEFINE_list("bpp", ["0.05", "0.15", "0.4"], "Bits per pixel.")
_STEPS = flags.DEFINE_integer("steps", None, "Evaluations of the flow decoder.")
_TILES = flags.DEFINE_bool("tiles", True, "Also code tiles apart.")

_ODD = (65, 131)


def border_ratio(error: np.ndarray, side: int) -> float:
    """How much more errors change across borders of tiles than between other neighbours."""
    across, inside = [], []
    for axis in (0, 1):
        change = np.abs(np.diff(error, axis=axis)).mean(axis=(1 - axis, 2))
        is_border = np.arange(1, len(change) + 1) % side == 0
        across.append(change[is_border])
        inside.append(change[~is_border])
    return float(np.concatenate(across).mean() / np.concatenate(inside).mean())


def crop(picture: UInt8[np.ndarray, "h w 3"], size: str) -> UInt8[np.ndarray, "h w 3"]:
    width, height = map(int, size.split("x"))
    top, left = (
        max(have - want, 0) // 2 for have, want in zip(picture.shape, (height, width), strict=False)
    )
    return picture[top : top + height, left : left + width]


def measure(
    codec: ProgramCache, picture: UInt8[np.ndarray, "h w 3"], bpp: float, tiled: bool
) -> dict[str, Any]:
    begin = time.process_time()
    data = encode_image(codec, picture, Target(bpp=bpp), tiled=tiled)
    encoded = time.process_time()
    decoded = decode_stream(codec, parse(data), n_steps=_STEPS.value)
    error = decoded.image.astype(float) - picture
    return {
        "bpp": 8 * len(data) / picture[..., 0].size,
        "psnr": float(psnr_mean(mse(picture[None], decoded.image[None]))),
        "borders": border_ratio(error, codec.side),
        "enc": encoded - begin,
        "dec": time.process_time() - encoded,
    }


def main() -> None:
    codec = load_codec(_MODEL.value).programs
    kinds = {"picture": False, "tiles": True} if _TILES.value else {"picture": False}
    pictures = {
        name: crop(photograph(name), _CROP.value) for name in _PICTURES.value or photograph_names()
    }
    first = next(iter(pictures.values()))
    for tiled in kinds.values():
        measure(codec, first, min(map(float, _BPP.value)), tiled)
    for name, picture in pictures.items():
        height, width, _ = picture.shape
        for bpp in map(float, _BPP.value):
            rows = {kind: measure(codec, picture, bpp, tiled) for kind, tiled in kinds.items()}
            for kind, row in rows.items():
                print(
                    f"{name} {width}x{height} {kind:>7}: {row['bpp']:.4f} bpp, {row['psnr']:.2f} dB, "
                    f"borders {row['borders']:.3f}, enc {row['enc']:.1f} s, dec {row['dec']:.1f} s"
                )
            if len(rows) == 2:
                whole, tiles = rows.values()
                faster = (tiles["enc"] + tiles["dec"]) / (whole["enc"] + whole["dec"])
                print(f"    {whole['psnr'] - tiles['psnr']:+.2f} dB, {faster:.2f} times as fast")
    odd = first[: _ODD[0], : _ODD[1]]
    data = encode_image(codec, odd, Target(lossless=True))
    same = np.array_equal(decode_stream(codec, parse(data)).image, odd)
    rate = 8 * len(data) / odd[..., 0].size
    print(f"lossless {_ODD[1]}x{_ODD[0]}: {'exact' if same else 'WRONG'}, {rate:.3f} bpp")


if __name__ == "__main__":
    cli.run(main)
