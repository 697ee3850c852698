"""HiFiC on a small machine: does it learn at all, and how fast?

python benchmarks/hific_overfit.py --task=overfit
python benchmarks/hific_overfit.py --task=speed --widths=0.125,0.25

`overfit` trains on a handful of the built-in crops towards a high rate, without LPIPS and discriminator, and
prints rate and PSNR; then it writes real files and compares their bytes with the estimate. `speed` prints
updates and images a second for both stages of training at each width.
"""

import functools
import time

import jax
import numpy as np
import optax
from absl import app, flags

from diffc_jax import data
from diffc_jax.baselines.hific import losses
from diffc_jax.baselines.hific.codec import HificCodec
from diffc_jax.baselines.hific.config import HificArchitecture
from diffc_jax.baselines.hific.entropy_coding import header_bytes
from diffc_jax.baselines.hific.model import Hific
from diffc_jax.baselines.hific.task import Optimizers, init_state, make_train_step
from diffc_jax.metrics.lpips import lpips_alex

_TASK = flags.DEFINE_enum("task", "overfit", ("overfit", "speed"), "What to measure.")
_WIDTHS = flags.DEFINE_list("widths", ["0.125"], "Multiples of the paper's channels.")
_DOWNSAMPLINGS = flags.DEFINE_list("downsamplings", ["4"], "3, 4 or both.")
_LATENTS = flags.DEFINE_integer("latent_channels", 0, "Instead of the paper's times the width.")
_BLOCKS = flags.DEFINE_integer("residual_blocks", 9, "Of the generator.")
_IMAGES = flags.DEFINE_integer("images", 8, "Crops to overfit.")
_BATCH = flags.DEFINE_integer("batch", 8, "Images of an update in the speed test.")
_STEPS = flags.DEFINE_integer("steps", 1500, "Updates of the overfit test.")
_TARGET = flags.DEFINE_float("target", 2.0, "Bits per pixel of the overfit test.")
_RATE = flags.DEFINE_float("learning_rate", 2e-3, "Of Adam.")
_TIMED = 20


def architecture(width: float, downsamplings: int) -> HificArchitecture:
    """The networks that the flags describe."""
    return HificArchitecture.scaled(
        width, downsamplings, _LATENTS.value, residual_blocks=_BLOCKS.value
    )


def crops(number: int) -> np.ndarray:
    """The first built-in crops, 64x64."""
    source = data.open_source(data.SourceSpec(source="photos", split="train"))
    return np.stack([source[index] for index in range(number)])


def overfit(width: float, downsamplings: int) -> None:
    """Trains on a handful of crops and writes them to files."""
    images = crops(_IMAGES.value)
    model = Hific(architecture(width, downsamplings))
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adam(optax.cosine_decay_schedule(_RATE.value, _STEPS.value), b2=0.99),
    )
    # A generator can know a handful of images by heart: hardly anything must pull the rate down.
    target = losses.RateTarget(_TARGET.value, weight_below=1e-5, early_steps=0)
    optimizers = Optimizers(optimizer, optimizer)
    step = make_train_step(model, target, losses.HYPERPRIOR, optimizers, seed=0)
    step = jax.jit(step, donate_argnums=0)
    state = init_state(model, optimizers, seed=0, adversarial=False)
    for count in range(1, _STEPS.value + 1):
        state, metrics = step(state, images)
        if count % max(_STEPS.value // 10, 1) == 0:
            psnr = 10 * np.log10(255**2 / float(metrics["mse"]))
            print(f"step {count}: {metrics['bpp']:.3f} bpp, {psnr:.2f} dB", flush=True)
    begin = time.perf_counter()
    codec = HificCodec(model, state.params["autoencoder"])
    files, bits = codec.encode(images)
    decoded = codec.decode(files)
    seconds = time.perf_counter() - begin
    mse = np.square(decoded.astype(np.float64) - images).mean()
    pixels = images[0, ..., 0].size
    payload = 8 * (np.mean([len(file) for file in files]) - header_bytes(images.shape[1:3]))
    print(
        f"files: {10 * np.log10(255**2 / mse):.2f} dB, payload {payload / pixels:.4f} bpp,"
        f" estimate {bits.mean() / pixels:.4f} bpp, ratio {payload / bits.mean():.4f},"
        f" {1e3 * seconds / len(images):.0f} ms an image with compilation"
    )


def speed(width: float, downsamplings: int) -> None:
    """Times updates of both stages."""
    images = crops(_BATCH.value)
    model = Hific(architecture(width, downsamplings))
    optimizers = Optimizers(optax.adam(_RATE.value), optax.adam(_RATE.value))
    lpips = lpips_alex()
    distance = functools.partial(lpips.distance, lpips.variables)
    for name, weights in (
        ("hyper-prior", losses.HYPERPRIOR),
        ("stage 1", losses.FIRST_STAGE),
        ("stage 2", losses.SECOND_STAGE),
    ):
        step = make_train_step(model, losses.RateTarget(0.5), weights, optimizers, 0, distance)
        step = jax.jit(step, donate_argnums=0)
        state = init_state(model, optimizers, seed=0, adversarial=bool(weights.gan))
        begin = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, images))
        compiled = time.perf_counter() - begin
        begin, begin_cpu = time.perf_counter(), time.process_time()
        for _ in range(_TIMED):
            state, _ = step(state, images)
        jax.block_until_ready(state)
        rate = _TIMED / (time.perf_counter() - begin)
        cpu = (time.process_time() - begin_cpu) / _TIMED / len(images)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        print(
            f"width {width:g}, {downsamplings} down-samplings, batch {len(images)}, {name}:"
            f" {rate:.2f} updates/s, {rate * len(images):.1f} images/s, {1e3 * cpu:.1f} CPU ms an image,"
            f" {count / 1e6:.2f} M parameters, first update {compiled:.0f} s",
            flush=True,
        )


def main(_: list[str]) -> None:
    task = {"overfit": overfit, "speed": speed}[_TASK.value]
    for width in _WIDTHS.value:
        for downsamplings in _DOWNSAMPLINGS.value:
            task(float(width), int(downsamplings))


if __name__ == "__main__":
    app.run(main)
