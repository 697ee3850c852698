"""How costs grow: seconds against the work, over a decade of it, and its exponent.

    python benchmarks/scaling.py

Each row is a cost and what it is measured against, with everything else as it is; seconds are those that
processors worked, which other programs change little. Every size runs once before
the clock starts, so that nothing compiles, and then --rounds times in turns with the others. The exponent is
the slope of a straight line through the logarithms of the medians: 1 where the cost is proportional to the
work, below where a constant part shows, and above only where something grows faster than its work.
"""

import dataclasses
import pathlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict
from shared import photograph_statistics, photographs, random_codec

from diffc_jax.codec.codec import Codec
from diffc_jax.codec.container import parse
from diffc_jax.codec.image_decoder import decode_stream
from diffc_jax.codec.image_encoder import encode_image
from diffc_jax.codec.targets import Target
from diffc_jax.commands import train
from diffc_jax.config import base_config
from diffc_jax.diffusion import process
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.evaluation.plan import make_plan
from diffc_jax.evaluation.rd_sweep import Sweep
from diffc_jax.models import build_model

_ROUNDS = flags.DEFINE_integer("rounds", 3, "Timed runs of each size.", lower_bound=1)

# A job is made for each size, and is what is timed.
Jobs = Mapping[int, Callable[[], Any]]
_GAUSSIAN = {"name": "gaussian"}


def evaluations(root: pathlib.Path) -> Jobs:
    """Evaluations of a fitted Gaussian, by images."""
    config = base_config()
    config.model = ConfigDict(_GAUSSIAN)
    config.data.image_size = 16
    config.eval.codec_decoders = config.eval.image_metrics = ()
    config.eval.features, config.eval.grid_images = "", 0
    train(config, root / "model")

    def job(images: int) -> Callable[[], Any]:
        own = config.copy_and_resolve_references()
        own.eval.max_images = images

        def run() -> None:
            shutil.rmtree(root / "model" / "eval", ignore_errors=True)
            evaluate(own, root / "model")

        return run

    return {images: job(images) for images in (30, 100, 300)}


def sweeps(_: pathlib.Path) -> Jobs:
    """Sweeps with the decoder of one call, by levels: the calls are 40 and one for each."""
    model, variables, shape = _network((32, 64))
    x = process.pixels_to_unit(jnp.asarray(photographs("eval", shape[0], 8)))
    settings = base_config().eval

    def job(levels: int) -> Callable[[], Any]:
        own = settings.copy_and_resolve_references()
        own.num_levels, own.decoders, own.rate_evaluations = levels, ("mean",), 2 * levels + 10
        plan = make_plan(np.linspace(5.0, -13.3, 1001), own)
        sweep = Sweep(model.eps_hat, plan, 0)
        return lambda: sweep.run(variables, x, jnp.arange(8))

    return {levels: job(levels) for levels in (6, 20, 60)}


def files(_: pathlib.Path) -> tuple[Jobs, Jobs]:
    """Encoding and decoding pictures at 1 bpp with a Gaussian, by areas of 64x64."""
    codec = random_codec(_GAUSSIAN, 64, 16)
    tile = photographs("eval", 64, 1)[0]
    images = {n: np.tile(tile, (1, n, 1)) for n in (2, 6, 20)}
    streams = {n: encode_image(codec, image, Target(bpp=1.0)) for n, image in images.items()}
    encode = {
        n: (lambda image=i: encode_image(codec, image, Target(bpp=1.0))) for n, i in images.items()
    }
    decode = {n: (lambda data=d: decode_stream(codec, parse(data))) for n, d in streams.items()}
    return encode, decode


def side_by_side(_: pathlib.Path) -> tuple[Jobs, Jobs]:
    """Encoding and decoding images of 64x64 at 1 bpp with a U-Net, by their number."""
    codec = Codec(random_codec({"name": "unet", "widths": (32, 64), "blocks": (1, 1)}, 64, 16))
    images = {n: list(photographs("eval", 64, n)) for n in (4, 16, 64)}
    streams = {n: codec.encode_many(some, bpp=1.0) for n, some in images.items()}
    encode = {n: (lambda some=i: codec.encode_many(some, bpp=1.0)) for n, i in images.items()}
    return encode, {n: (lambda some=s: codec.decode_many(some)) for n, s in streams.items()}


def networks(_: pathlib.Path) -> Jobs:
    """Calls of a U-Net, by thousands of its parameters."""
    jobs = {}
    for width in (32, 64, 96):
        model, variables, shape = _network((width, 2 * width))
        call, z = jax.jit(model.eps_hat), jnp.zeros((8, *shape))
        size = sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) // 1000
        jobs[size] = lambda call=call, v=variables, z=z: [
            call(v, z, jnp.zeros(8)) for _ in range(5)
        ]
    return jobs


def sides(_: pathlib.Path) -> Jobs:
    """Calls of one U-Net layout, by pixels of an image."""
    jobs = {}
    for side in (32, 64, 96):
        model, variables, shape = _network((32, 64), side)
        call, z = jax.jit(model.eps_hat), jnp.zeros((8, *shape))
        jobs[side**2] = lambda call=call, v=variables, z=z: [
            call(v, z, jnp.zeros(8)) for _ in range(5)
        ]
    return jobs


def _network(widths: tuple[int, ...], side: int = 32) -> tuple[Any, Any, tuple[int, int, int]]:
    shape = (side, side, 3)
    model = build_model({"name": "unet", "widths": widths, "blocks": (1, 1)}, shape)
    variables = jax.jit(model.init)(jax.random.key(0), photograph_statistics(side))
    return model, model.prepare(variables), shape


def exponent(jobs: Jobs) -> tuple[dict[int, float], float]:
    """Medians of seconds by size, and the slope of their logarithms."""
    seconds: dict[int, list[float]] = {size: [] for size in jobs}
    for number in range(_ROUNDS.value + 1):
        for size, job in jobs.items():
            begin = time.process_time()
            jax.block_until_ready(
                dataclasses.asdict(r) if dataclasses.is_dataclass(r := job()) else r
            )
            if number:
                seconds[size].append(time.process_time() - begin)
    medians = {size: statistics.median(times) for size, times in seconds.items()}
    slope, _ = np.polyfit(np.log(list(medians)), np.log(list(medians.values())), 1)
    return medians, float(slope)


def main(argv):
    """Prints the table."""
    del argv
    logging.set_verbosity(logging.WARNING)
    print("| cost | against | seconds | exponent |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        encode, decode = files(root)
        encode_many, decode_many = side_by_side(root)
        for name, unit, jobs in (
            ("evaluation of a Gaussian", "images", evaluations(root)),
            ("sweep", "levels", sweeps(root)),
            ("encoding a picture at 1 bpp", "areas of 64x64", encode),
            ("decoding it", "areas of 64x64", decode),
            ("encoding side by side", "images of 64x64", encode_many),
            ("decoding side by side", "images of 64x64", decode_many),
            ("network call", "pixels", sides(root)),
            ("network call", "thousands of parameters", networks(root)),
        ):
            medians, slope = exponent(jobs)
            told = ", ".join(f"{size}: {seconds:.3g}" for size, seconds in medians.items())
            print(f"| {name} | {unit} | {told} | {slope:.2f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
