"""The training images, what brings them to the devices, and what runs updates on them.

On accelerators the updates of a call are one program, a scan that gives up the old state, so that the host is
asked for nothing in between. CPUs run them one by one, without waiting in between: XLA's CPU compiler (0.10
to 0.11) makes gradients of convolutions inside loops more than ten times slower than outside.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int, PyTree, UInt8
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.config.sources import batch_composition, training_sources
from diffc_jax.data.identity import sampled_digest
from diffc_jax.data.order import TrainingOrder
from diffc_jax.errors import UsageError
from diffc_jax.runtime import sharding
from diffc_jax.training.experiment import open_spec
from diffc_jax.training.task import State, Update

Pixels = UInt8[Array, "b h w c"]


@dataclasses.dataclass(frozen=True)
class TrainingSet:
    """Opened sources and the order of their images.

    Attributes:
        sources: in the order of the config.
        clean: the one that is used at all noise levels, which models are fitted to.
        order: which images each batch has.
    """

    sources: tuple[data.StoredImages, ...]
    clean: data.StoredImages
    order: TrainingOrder

    def __len__(self) -> int:
        """Number of images of all sources."""
        return sum(map(len, self.sources))

    @property
    def name(self) -> str:
        """What results call the data."""
        return "+".join(dict.fromkeys(source.name for source in self.sources))

    @property
    def split(self) -> str:
        """Its split."""
        return "+".join(dict.fromkeys(source.split for source in self.sources))

    def identity(self) -> dict[str, Any]:
        """What a checkpoint says about the images in their order; see `data.identity.sampled_digest`.

        Raises:
            InputError: an image that cannot be used.
        """
        digest = "+".join(map(sampled_digest, self.sources))
        return {"num_images": len(self), "images": digest}

    def check_unchanged(self, identity: dict[str, Any], recorded: dict[str, Any]) -> None:
        """Compares `identity()` with that in a checkpoint; those of older versions have no digest.

        Raises:
            UsageError: they are other images, or another number of them.
        """
        if recorded.get("num_images") != identity["num_images"]:
            raise UsageError(
                f"has {identity['num_images']} images now and had {recorded.get('num_images')} when the run"
                " was saved; its order cannot be continued. Use the old data or another --workdir",
                field="data.train",
            )
        if "images" not in recorded:
            logging.info(
                "%s: an older version began this run, without a digest of images", self.name
            )
        elif recorded["images"] != identity["images"]:
            raise UsageError(
                "the training images are not those that this run began with, though they are as many. Use"
                " the old data or another --workdir",
                field="data.train",
            )


def open_training_set(config: ConfigDict) -> TrainingSet:
    """Opens config.data.train; errors as of `open_spec`."""
    specs = training_sources(config)
    several = len(specs) > 1
    sources = tuple(
        open_spec(config, spec, f"data.train[{number}]" if several else "data.train")
        for number, spec in enumerate(specs)
    )
    clean = next(
        source for source, spec in zip(sources, specs, strict=True) if spec.get("min_gamma") is None
    )
    order = TrainingOrder(
        [len(source) for source in sources],
        batch_composition(config),
        config.seed,
        config.data.random_flip,
    )
    return TrainingSet(sources, clean, order)


@runtime_checkable
class Batches(Protocol):
    """Training batches, by number."""

    @property
    def resident(self) -> PyTree:
        """Arrays on the devices that all batches are made of."""

    def take(self, first: int, count: int) -> PyTree:
        """This process's rows of `count` batches from number `first` on: NumPy arrays (count, rows, ...)."""

    def pixels(self, resident: PyTree, batch: PyTree) -> Pixels:
        """The images of one batch; traced."""


class HostBatches:
    """Decoded on the host and sent, one batch after the other."""

    resident = ()

    def __init__(self, training_set: TrainingSet, config: ConfigDict, mesh: Mesh, first: int):
        self._iterator: Iterator[data.Batch] = data.train_iterator(
            training_set.sources,
            training_set.order,
            rows=sharding.process_rows(mesh, config.train.batch_size),
            first_batch=first,
            num_threads=config.data.num_threads,
        )

    def take(self, first: int, count: int) -> UInt8[np.ndarray, "k b h w c"]:
        """The next `count` batches."""
        del first  # they come in order
        return np.stack([next(self._iterator)["image"] for _ in range(count)])

    def pixels(self, resident: PyTree, batch: Pixels) -> Pixels:
        """The batch itself."""
        del resident
        return batch


class DeviceBatches:
    """Gathered and mirrored on the devices, each of which holds all images; the order comes from the host."""

    def __init__(self, training_set: TrainingSet, config: ConfigDict, mesh: Mesh):
        self._order = training_set.order
        self._rows = sharding.process_rows(mesh, config.train.batch_size)
        counts = np.cumsum([0, *self._order.counts])
        self._slices = [slice(int(a), int(b)) for a, b in itertools.pairwise(counts)]
        whole = sharding.replicated(mesh)
        self.resident = tuple(
            jax.make_array_from_process_local_data(whole, source.as_array())
            for source in training_set.sources
        )

    def take(
        self, first: int, count: int
    ) -> tuple[Int[np.ndarray, "k b"], Bool[np.ndarray, "k b"]]:
        """Positions and flips, 5 bytes an image."""
        rows = self._order.rows(range(first, first + count), self._rows)
        return rows.index.astype(np.int32), rows.flip

    def pixels(
        self,
        resident: tuple[Array, ...],
        batch: tuple[Int[Array, " b"], Bool[Array, " b"]],
    ) -> Pixels:
        """The images at their positions."""
        index, flip = batch
        pixels = jnp.concatenate(
            [images[index[rows]] for images, rows in zip(resident, self._slices, strict=True)]
        )
        return jnp.where(flip[:, None, None, None], pixels[:, :, ::-1], pixels)


def make_batches(
    training_set: TrainingSet, config: ConfigDict, template: State, mesh: Mesh, first: int
) -> Batches:
    """Puts the training images where config.data.placement says, for batches from number `first` on.

    Raises:
        UsageError: device memory too small for the images beside a state like `template`.
    """
    placement = config.data.placement
    needed = len(training_set) * config.data.image_size**2 * 3
    limit = sharding.memory_of_each_device(mesh)
    free = None if limit is None else limit - sharding.bytes_of_each_device(template)
    if placement == "device" and free is not None and needed > free:
        raise UsageError(
            f"device needs {needed / 1e9:.1f} GB for {len(training_set)} images on each"
            f" {mesh.local_devices[0].device_kind}, which has {free / 1e9:.1f} GB beside the state; use"
            " host or auto",
            field="data.placement",
        )
    if placement == "auto":
        # Activations need room too: half of what is free is left to them.
        placement = "device" if free is not None and needed <= free / 2 else "host"
    if placement == "host":
        return HostBatches(training_set, config, mesh, first)
    logging.info("putting %d images (%.2f GB) on each device", len(training_set), needed / 1e9)
    return DeviceBatches(training_set, config, mesh)


class Runner:
    """Runs updates on batches; programs are compiled when they are first needed."""

    def __init__(self, batches: Batches, template: State, mesh: Mesh):
        self._batches, self._template, self._mesh = batches, template, mesh
        self._programs: dict[Update, Callable[..., Any]] = {}
        self._scans = mesh.devices.flat[0].platform != "cpu"

    def take(self, first: int, count: int) -> list[PyTree]:
        """Batches for `run`, sent to the devices; to be called while these are busy."""
        batches = self._batches.take(first, count)
        if self._scans:
            return [sharding.put_batch(self._mesh, batches, stacked=True)]
        return [
            sharding.put_batch(self._mesh, jax.tree.map(lambda array, i=i: array[i], batches))
            for i in range(count)
        ]

    def run(
        self, update: Update, state: State, batches: list[PyTree]
    ) -> tuple[State, list[dict[str, Array]]]:
        """Runs updates on batches from `take`; the state is given up.

        Returns:
            The new state, and the metrics of the updates in order: scalars, or arrays over several updates.
        """
        if update not in self._programs:
            self._programs[update] = self._compile(update)
        metrics = []
        for batch in batches:
            state, more = self._programs[update](state, self._batches.resident, batch)
            metrics.append(more)
        return state, metrics

    def _compile(self, update: Update) -> Callable[..., Any]:
        pixels = self._batches.pixels

        def one(state: State, resident: PyTree, batch: PyTree) -> tuple[State, dict[str, Array]]:
            return update(state, pixels(resident, batch))

        def several(
            state: State, resident: PyTree, batches: PyTree
        ) -> tuple[State, dict[str, Array]]:
            return jax.lax.scan(lambda now, batch: one(now, resident, batch), state, batches)

        return sharding.compile_step(
            several if self._scans else one,
            self._template,
            self._mesh,
            sharding.replicated(self._mesh),
            sharding.split_batch(self._mesh, stacked=self._scans),
        )
