"""One pass over validation images, shared by all processes: values of each image, and bits per dimension."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8
from ml_collections import ConfigDict

from diffc_jax import data, rng
from diffc_jax.diffusion import elbo
from diffc_jax.diffusion.schedules import Schedule
from diffc_jax.metrics.statistics import standard_error
from diffc_jax.models import Model, model_variables
from diffc_jax.runtime import sharding
from diffc_jax.runtime.sharding import gather, replicated, split_batch
from diffc_jax.training.state import TrainState

Estimate = Callable[
    [TrainState, UInt8[Array, "b h w c"], Int[Array, " b"], Int[Array, ""] | np.int32],
    dict[str, Array],
]


def validation_batches(
    source: data.ImageSource, config: ConfigDict, mesh: Mesh
) -> Iterator[data.Batch]:
    """The first config.train.eval_images of a source (all if that is 0), as `per_image` wants them."""
    return data.eval_batches(
        source,
        batch_size=sharding.even_batch_size(config.eval.batch_size, mesh) // jax.process_count(),
        stop=min(config.train.eval_images or len(source), len(source)),
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )


def per_image(
    measure: Callable[[dict[str, Array]], dict[str, np.ndarray]],
    batches: Iterable[data.Batch],
    mesh: Mesh,
) -> dict[str, np.ndarray]:
    """Values of every image, in the order of their indices, the same in all processes.

    `measure` takes a batch of all processes, on their devices, to values of its images; `batches` are of
    "image", "index" and "mask" (False for padding), of the images of this process.
    """
    values: dict[str, list[np.ndarray]] = {}
    indices = []
    for batch in batches:
        placed = sharding.put_batch(mesh, batch)
        mask, index = jax.device_get(sharding.gather(mesh, (placed["mask"], placed["index"])))
        indices.append(index[mask])
        for name, value in measure(placed).items():
            values.setdefault(name, []).append(value[mask])
    order = np.argsort(np.concatenate(indices))
    return {name: np.concatenate(parts)[order] for name, parts in values.items()}


def make_estimate(
    model: Model,
    schedule: Schedule,
    seed: int,
    mesh: Mesh,
    times: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """Compiles one estimate of the negative ELBO of the averaged parameters, in bits/dim for each image.

    `times` is the part of the ELBO that is estimated, for a model of some noise levels; terms at ends that
    do not belong to it are left out.
    """
    low, high = times
    root = rng.stream(seed, "eval/bound")

    def estimate(
        state: TrainState,
        pixels: UInt8[Array, "b h w c"],
        indices: Int[Array, " b"],
        draw: Int[Array, ""] | np.int32,
    ) -> dict[str, Array]:
        time_key, noise_key = jax.random.split(jax.random.fold_in(root, draw))
        ema = gather(mesh, state.ema)
        variables = model_variables(ema, state.fixed)
        terms = elbo.estimate_elbo(
            lambda z, gamma: model.eps_hat(variables, z, gamma),
            lambda t: schedule.gamma(ema["schedule"], t),
            pixels,
            low + (high - low) * elbo.indexed_times(time_key, indices),
            rng.per_index(noise_key, indices),
        )
        terms = elbo.Elbo(
            prior=terms.prior * (high == 1.0),
            diffusion=terms.diffusion * (high - low),
            reconstruction=terms.reconstruction * (low == 0.0),
        )
        dimensions = pixels[0].size
        return {
            "bits_per_dim": terms.total / dimensions,
            "diffusion": terms.diffusion / dimensions,
            "prior": terms.prior / dimensions,
            "reconstruction": terms.reconstruction / dimensions,
        }

    split, whole = split_batch(mesh), replicated(mesh)
    # The state comes as its template lays it out; values of all images go to all processes.
    return jax.jit(estimate, in_shardings=(None, split, split, whole), out_shardings=whole)


def evaluate_elbo(
    estimate: Estimate,
    state: TrainState,
    batches: Iterable[data.Batch],
    mesh: Mesh,
    n_draws: int = 1,
) -> dict[str, Float[np.ndarray, " n"]]:
    """The `bits_per_dim` of every image and its parts `diffusion`, `prior` and `reconstruction`.

    They are means over `n_draws` times for each image; order and `batches` are as of `per_image`.
    """

    def measure(batch: dict[str, Array]) -> dict[str, np.ndarray]:
        draws = [
            jax.device_get(estimate(state, batch["image"], batch["index"], np.int32(draw)))
            for draw in range(n_draws)
        ]
        return {
            name: np.stack([draw[name] for draw in draws]).mean(0, dtype=np.float64)
            for name in draws[0]
        }

    return per_image(measure, batches, mesh)


def average_elbo(values: Mapping[str, Float[np.ndarray, " n"]]) -> dict[str, float]:
    """Means over images, and the standard error of the negative ELBO as `bits_per_dim_stderr`."""
    stderr = standard_error(values["bits_per_dim"])
    return {name: float(v.mean()) for name, v in values.items()} | {"bits_per_dim_stderr": stderr}


def describe_elbo(average: Mapping[str, float]) -> str:
    """What `average_elbo` gives as text; one image has no standard error."""
    stderr = average["bits_per_dim_stderr"]
    error = f" +- {stderr:.4f}" if math.isfinite(stderr) else ""
    return f"{average['bits_per_dim']:.4f}{error} bits/dim"
