"""Where the time of the codec goes: encoding and decoding 64x64 images on this machine.

python benchmarks/codec_speed.py
python benchmarks/codec_speed.py --model=weights/imagenet64_h100.safetensors

Encodes and decodes one image at --bpp, then 16 and 64 at once, and prints medians of the seconds, and of the
first call, which compiles. Those of one image are divided into

    network   calls of the denoiser
    search    encoder: the trellis search with its rotation
    sample    paths to samples
    flow      decoder: from the last latent to pixels, all of it calls of the denoiser
    else      updates of latents, bookkeeping, the container; of the encoder the choice of steps

with the share of a run that is neither network nor flow; of several images these overlap. Without --model
the network has random weights, which take the same time, but the images of such a model mean nothing. On two
cores: `taskset -c 0,1 python benchmarks/codec_speed.py`.
"""

import collections
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags
from shared import BASE_UNET, photographs, random_codec

from diffc_jax import cli
from diffc_jax.codec.codec import Codec
from diffc_jax.codec.container import parse
from diffc_jax.codec.header import DEFAULT_MEMORY
from diffc_jax.codec.loading import load_codec
from diffc_jax.codec.programs import ProgramCache

_MODEL = flags.DEFINE_string(
    "model", "", "Folder of a finished run, or its params.safetensors; random weights if empty."
)
_BPP = flags.DEFINE_float("bpp", 1.0, "Bits per pixel.")
_MEMORY = flags.DEFINE_integer("memory", DEFAULT_MEMORY, "Bits of the trellis' register.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed runs of each kind.", lower_bound=1)

_SIDE = 64
_BATCH = 16
_IMAGES = (1, 16, 64)


class Clock:
    """Seconds spent in each of several parts."""

    def __init__(self) -> None:
        self.seconds: collections.Counter[str] = collections.Counter()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, finished when it returns and counted as this part."""

        def call(*arguments: Any) -> Any:
            jax.block_until_ready(arguments)
            begin = time.perf_counter()
            result = jax.block_until_ready(function(*arguments))
            self.seconds[part] += time.perf_counter() - begin
            return result

        return call


def add_clock(codec: ProgramCache, clock: Clock) -> None:
    """Counts what the codec does with the memory and the decoder of this benchmark."""
    chain = codec.chain(_MEMORY.value)
    chain.predict = clock.timed("network", chain.predict)
    codebook = chain.codebook
    codebook.search = clock.timed("search", codebook.search)
    codebook.decode = clock.timed("sample", codebook.decode)
    reconstruct = clock.timed("flow", codec.reconstructor("flow", None))
    codec.reconstructor = lambda decoder, n_steps: reconstruct


def report(codec: Codec, clock: Clock, images: list[np.ndarray]) -> None:
    data: list[bytes] = []

    def encode() -> None:
        data[:] = codec.encode_many(images, bpp=_BPP.value, memory=_MEMORY.value)

    for name, job in (("encode", encode), ("decode", lambda: codec.decode_many(data))):
        rounds = []
        for _ in range(_ROUNDS.value + 1):
            clock.seconds.clear()
            begin = time.perf_counter()
            job()
            total = time.perf_counter() - begin
            rounds.append({**clock.seconds, "total": total})
        first, *rest = rounds
        total = statistics.median(one["total"] for one in rest)
        parts = f" ({in_parts(rest)})" if len(images) == 1 else ""
        print(
            f"{name} {len(images):>2}: {total:.3f} s{parts}, {total / len(images):.3f} s an image; "
            f"{len(images) / total:.1f} images/s; first call {first['total']:.1f} s"
        )
    streams = [parse(one) for one in data]
    n_bytes = statistics.mean(stream.n_bytes for stream in streams)
    print(
        f"           {8 * n_bytes / _SIDE**2:.3f} bits per pixel, "
        f"{statistics.mean(len(stream.items) for stream in streams):.1f} steps an image"
    )


def in_parts(rounds: list[dict[str, float]]) -> str:
    """Medians of the parts of runs, and the share outside the network."""
    parts = {part: statistics.median(one[part] for one in rounds) for part in rounds[0]}
    total = parts.pop("total")
    parts["else"] = total - sum(parts.values())
    # The share of each run, so that how busy the machine was in it counts on both sides.
    outside = statistics.median(
        1 - (one["network"] + one.get("flow", 0)) / one["total"] for one in rounds
    )
    row = ", ".join(f"{part} {seconds:.3f}" for part, seconds in parts.items())
    return f"{row}; {outside:.0%} outside the network"


def main() -> None:
    if _MODEL.value:
        codec = load_codec(_MODEL.value, _BATCH)
    else:
        codec = Codec(random_codec(BASE_UNET, _SIDE, _BATCH))
    clock = Clock()
    add_clock(codec.programs, clock)
    images = list(photographs("eval", _SIDE, max(_IMAGES)))
    print(f"{_MODEL.value or 'random weights'}, memory {_MEMORY.value}, {jax.devices()[0]}")
    for count in _IMAGES:
        report(codec, clock, images[:count])


if __name__ == "__main__":
    cli.run(main)
