"""Whether a small network that sees pixels tells reconstructions from photographs: area under its ROC curve.

    python benchmarks/pixel_classifier.py --inputs=W/unet,W/baselines --rates=0.1,0.3,1

The columns `auc` of rd.csv are of a linear classifier on features of another network; this one is trained for
each rate point, and sees what features may not, such as the grain of noise. It takes the images that an
evaluation has kept (`--config.eval.grid_images`, some hundreds are needed), and of every decoder and codec
the point that is nearest to each rate. As in rd.csv, the images are divided into five folds, an image and its
original are in the same one, and each fold is judged by a network that was trained on the others. In brackets
standard errors. A set is also compared with itself with mirrored images: 0.5, if there are enough of them.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from jaxtyping import Array, Float, Float32, Int, UInt8

from diffc_jax import cli
from diffc_jax.errors import InputError
from diffc_jax.metrics.statistics import Estimate
from diffc_jax.metrics.two_sample import MIN_IMAGES, area_under_curve, folds
from diffc_jax.plotting.reconstructions import DecodedImages, collect_reconstructions
from diffc_jax.runtime.files import split_names

_INPUTS = flags.DEFINE_multi_string("inputs", None, "Workdirs of evaluations.", required=True)
_RATES = flags.DEFINE_list("rates", ["0.1", "0.3", "1"], "Bits per pixel.")
_STEPS = flags.DEFINE_integer("steps", 400, "Updates of a network.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("width", 24, "Channels of its first layer.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of weights, batches and folds.")
_PAIRS = 16  # images of a batch, each with its original
_NEAR = math.log(1.5)

Images = UInt8[np.ndarray, "n h w 3"]


class Classifier(nn.Module):
    """Three convolutions of stride 2, and the mean and spread of the last one's channels."""

    width: int

    @nn.compact
    def __call__(self, images: UInt8[Array, "n h w 3"]) -> Float[Array, " n"]:
        """Scores: high ones are of reconstructions."""
        x = images / 127.5 - 1.0
        for factor in (1, 2, 2):
            x = nn.Conv(factor * self.width, (3, 3), strides=(2, 2))(x)
            x = nn.relu(nn.GroupNorm(num_groups=1)(x))
        pooled = jnp.concatenate([x.mean((1, 2)), jnp.log(x.var((1, 2)) + 1e-3)], axis=1)
        return nn.Dense(1)(pooled)[:, 0]


def scores(
    images: Images, originals: Images, train: Int[np.ndarray, " a"], test: Int[np.ndarray, " b"]
) -> tuple[Float32[np.ndarray, " b"], Float32[np.ndarray, " b"]]:
    """Scores of the images and originals in `test`, by a network that has seen those in `train`."""
    model = Classifier(_WIDTH.value)
    params = model.init(jax.random.key(_SEED.value), originals[:1])
    optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, _STEPS.value), weight_decay=1e-2)

    def loss(params: optax.Params, batch: Array) -> Float[Array, ""]:
        labels = jnp.repeat(jnp.array([1.0, 0.0]), len(batch) // 2)
        return optax.sigmoid_binary_cross_entropy(model.apply(params, batch), labels).mean()

    @jax.jit
    def update(
        params: optax.Params, state: optax.OptState, batch: Array
    ) -> tuple[optax.Params, optax.OptState]:
        changes, state = optimizer.update(jax.grad(loss)(params, batch), state, params)
        return optax.apply_updates(params, changes), state

    state, generator = optimizer.init(params), np.random.default_rng(_SEED.value)
    for _ in range(_STEPS.value):
        chosen = generator.choice(train, min(_PAIRS, len(train)), replace=False)
        batch = np.stack([images[chosen], originals[chosen]])
        mirrored = generator.random(len(chosen)) < 0.5
        batch[:, mirrored] = batch[:, mirrored, :, ::-1]
        params, state = update(params, state, batch.reshape(-1, *batch.shape[2:]))
    apply = jax.jit(model.apply)
    return np.asarray(apply(params, images[test])), np.asarray(apply(params, originals[test]))


def distinguishability(images: Images, originals: Images) -> Estimate:
    """`metrics.two_sample.distinguishability` with the network on pixels."""
    areas, influences = np.empty((2, len(images)))
    for train, test in folds(len(images), _SEED.value):
        of_images, of_originals = scores(images, originals, train, test)
        fold = area_under_curve(of_images, of_originals)
        areas[test], influences[test] = fold.value, fold.influences[0]
    return Estimate(float(areas.mean()), (influences,))


def nearest_level(series: DecodedImages, rate: float) -> int | None:
    """The level with the mean rate nearest to `rate`; None if none is near."""
    distances = np.abs(np.log(series.bpp.mean(0) / rate))
    best = int(distances.argmin())
    return best if distances[best] <= _NEAR else None


def rates() -> Sequence[float]:
    return [float(rate) for rate in _RATES.value]


def main() -> None:
    for found in collect_reconstructions(split_names(_INPUTS.value)):
        originals = found.originals
        if len(originals) < MIN_IMAGES:
            raise InputError(
                f"--inputs: keep {len(originals)} images, and at least {MIN_IMAGES} are needed; evaluate"
                " again with a larger config.eval.grid_images"
            )
        print(f"{len(originals)} images\n{'rate':>6} {'bpp':>6}  AUC", flush=True)
        itself = distinguishability(originals[:, :, ::-1], originals)
        print(f"{'':13}  {itself.value:.3f} ({itself.stderr:.3f}) mirrored originals", flush=True)
        for rate in rates():
            for series in found.series:
                level = nearest_level(series, rate)
                if level is None:
                    continue
                area = distinguishability(series.images[:, level], originals)
                name = " ".join(filter(None, (series.method, series.model, series.decoder)))
                bpp = series.bpp[:, level].mean()
                print(
                    f"{rate:6g} {bpp:6.3f}  {area.value:.3f} ({area.stderr:.3f}) {name}", flush=True
                )


if __name__ == "__main__":
    cli.run(main)
