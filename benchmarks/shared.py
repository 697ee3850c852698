"""What several benchmarks need: networks, with training and without, photographs, medians of times."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8
from ml_collections import ConfigDict

from diffc_jax import data, rng
from diffc_jax.codec.loading import fingerprint
from diffc_jax.codec.programs import ProgramCache
from diffc_jax.config.sources import SourceSpec
from diffc_jax.data import ImageSource
from diffc_jax.diffusion import process
from diffc_jax.evaluation.trained import Trained, load_trained
from diffc_jax.models import build_model
from diffc_jax.models.gaussian import Statistics, fit_statistics
from diffc_jax.models.layers import GAMMA_RANGE
from diffc_jax.runtime.files import AnyPath
from diffc_jax.training.experiment import build_experiment, open_source

# Of configs/imagenet64_small.py.
BASE_UNET: Mapping[str, Any] = {"name": "unet", "widths": (48, 128, 256), "blocks": (1, 1, 2)}
_STATISTICS_IMAGES = 1024


@functools.cache
def photographs(split: str, side: int, count: int) -> UInt8[np.ndarray, "n h w 3"]:
    """The first crops of the built-in photographs, "train" or "eval", as often as it takes."""
    source = data.open_source(SourceSpec(split=split, image_size=side))
    return np.stack([source[i % len(source)] for i in range(count)])


@functools.cache
def photograph_statistics(side: int) -> Statistics:
    """The Gaussian that a network on photographs starts from."""
    return fit_statistics([photographs("train", side, _STATISTICS_IMAGES)])


class Latents(NamedTuple):
    """Validation images and noise for them, with the network of a run."""

    trained: Trained
    source: ImageSource
    pixels: UInt8[np.ndarray, "n h w 3"]
    x: Float[Array, "n h w 3"]
    noise: Float[Array, "n h w 3"]
    keys: Key[Array, " n"]


def first_latents(config: ConfigDict, workdir: AnyPath, count: int) -> Latents:
    """For the first images of a config; z at any noise level is `process.diffuse(x, noise, gamma)`."""
    trained = load_trained(build_experiment(config), workdir)
    source = open_source(config, "eval")
    batch = next(data.eval_batches(source, batch_size=count))
    pixels = batch["image"][batch["mask"]]
    keys = rng.per_index(rng.stream(config.seed, "benchmark"), jnp.arange(len(pixels)))
    x = process.pixels_to_unit(jnp.asarray(pixels))
    return Latents(trained, source, pixels, x, process.image_noise(keys, x.shape[1:]), keys)


def random_codec(model_config: Mapping[str, Any], side: int, batch_size: int) -> ProgramCache:
    """The programs of a codec whose network has random weights: it is as fast as a trained one."""
    shape = (side, side, 3)
    model = build_model(model_config, shape)
    variables = jax.jit(model.init)(jax.random.key(0), photograph_statistics(side))
    name = fingerprint({"model": dict(model_config)}, variables)
    prepared = model.prepare(variables)
    return ProgramCache(model.eps_hat, prepared, shape, GAMMA_RANGE, name, batch_size)


def first_and_median_seconds(function: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Seconds of the first call, which compiles, and the median of so many later ones."""
    seconds = []
    for _ in range(rounds + 1):
        begin = time.perf_counter()
        jax.block_until_ready(function())
        seconds.append(time.perf_counter() - begin)
    first, *rest = seconds
    return first, statistics.median(rest)
