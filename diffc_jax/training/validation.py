"""One pass over validation images, shared by all processes: values of each image, and bits per dimension."""

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, UInt8

from diffc_jax import data, rng
from diffc_jax.diffusion import elbo
from diffc_jax.diffusion.schedules import Schedule
from diffc_jax.metrics.statistics import standard_error
from diffc_jax.models import Model, model_variables
from diffc_jax.runtime import sharding
from diffc_jax.training.state import TrainState


def per_image(
    measure: Callable[[dict[str, Array]], dict[str, np.ndarray]],
    source: data.ImageSource,
    batch_size: int,
    mesh: Mesh,
    n_images: int = 0,
) -> dict[str, np.ndarray]:
    """Values of the first `n_images` of a source (all if that is 0), in order, the same in all processes.

    `measure` takes a batch ("image", "index", and "mask", False for padding) of all processes, on their
    devices, to values of its images. It has `batch_size` images, rounded up to divide among the devices.
    """
    count = jax.process_count()
    batches = data.eval_batches(
        source,
        batch_size=sharding.even_batch_size(batch_size, mesh) // count,
        stop=min(n_images or len(source), len(source)),
        shard_index=jax.process_index(),
        shard_count=count,
    )
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


class NegativeElbo:
    """The negative ELBO of the averaged parameters, in bits/dim of every image; compiled once."""

    def __init__(
        self,
        model: Model,
        schedule: Schedule,
        seed: int,
        mesh: Mesh,
        *,
        times: tuple[float, float] = (0.0, 1.0),
        n_draws: int = 1,
    ):
        """It is estimated from `n_draws` times of each image, all on the devices of `mesh`.

        `times` is the part of the ELBO that is estimated, for a model of some noise levels; terms at ends
        that do not belong to it are left out.
        """
        self._model, self._schedule, self._mesh = model, schedule, mesh
        self._key = rng.stream(seed, "eval/bound")
        self._times, self._n_draws = times, n_draws
        split, whole = sharding.split_batch(mesh), sharding.replicated(mesh)
        # The state comes as its template lays it out; values of all images go to all processes.
        self.estimate = jax.jit(
            self._estimate, in_shardings=(None, split, split, whole), out_shardings=whole
        )

    def __call__(
        self, state: TrainState, source: data.ImageSource, batch_size: int, sets: Sequence[range]
    ) -> list[dict[str, float]]:
        """Means over each of `sets` of the images of a source, which go from the first to the last of them.

        `batch_size` is as for `per_image`.

        Returns:
            `bits_per_dim` and its parts `diffusion`, `prior` and `reconstruction`; and the standard error of
            the first, `bits_per_dim_stderr`.
        """

        def measure(batch: dict[str, Array]) -> dict[str, np.ndarray]:
            draws = [
                jax.device_get(self.estimate(state, batch["image"], batch["index"], np.int32(draw)))
                for draw in range(self._n_draws)
            ]
            return {
                name: np.stack([draw[name] for draw in draws]).mean(0, dtype=np.float64)
                for name in draws[0]
            }

        n_images = max(images.stop for images in sets)
        values = per_image(measure, source, batch_size, self._mesh, n_images)
        means = []
        for images in sets:
            own = {name: of_all[images.start : images.stop] for name, of_all in values.items()}
            stderr = standard_error(own["bits_per_dim"])
            means.append(
                {name: float(of_set.mean()) for name, of_set in own.items()}
                | {"bits_per_dim_stderr": stderr}
            )
        return means

    def _estimate(
        self,
        state: TrainState,
        pixels: UInt8[Array, "b h w c"],
        indices: Int[Array, " b"],
        draw: Int[Array, ""] | np.int32,
    ) -> dict[str, Array]:
        low, high = self._times
        time_key, noise_key = jax.random.split(jax.random.fold_in(self._key, draw))
        ema = sharding.gather(self._mesh, state.ema)
        variables = model_variables(ema, state.fixed)
        terms = elbo.estimate_elbo(
            lambda z, gamma: self._model.eps_hat(variables, z, gamma),
            lambda t: self._schedule.gamma(ema["schedule"], t),
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


def describe_elbo(average: Mapping[str, float]) -> str:
    """Means over images as text; one image has no standard error."""
    stderr = average["bits_per_dim_stderr"]
    error = f" +- {stderr:.4f}" if math.isfinite(stderr) else ""
    return f"{average['bits_per_dim']:.4f}{error} bits/dim"
