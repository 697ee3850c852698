"""Batches for training (shuffled, endless, resumable) and for evaluation (in order, once)."""

import collections
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from diffc_jax.data.spec import ImageSource
from diffc_jax.errors import UsageError
from diffc_jax.optional import require
from diffc_jax.rng import numpy_seed

if TYPE_CHECKING:
    import grain

Batch = dict[str, np.ndarray]


def train_iterator(
    source: ImageSource,
    *,
    batch_size: int,
    seed: int,
    flip: bool,
    rows: Sequence[int] | None = None,
    first_batch: int = 0,
    num_threads: int = 4,
    prefetch: int = 512,
) -> "grain.DatasetIterator[Batch]":
    """Endless shuffled batches {"image": uint8 (b, h, w, 3), "index": int32 (b,)}.

    Every epoch is one permutation of the source; batches run across the ends of epochs, so each
    image is used once in each. Batch k depends on the seed only, not on threads, on where the iterator
    starts, or on how processes share its rows.

    Args:
        source: where the images come from; `index` is the image's position in it.
        batch_size: images in a batch of all processes together.
        seed: experiment seed; order and flips have their own named streams.
        flip: mirror each image left to right with probability 1/2, drawn anew in each epoch.
        rows: the rows of every batch that this process loads, in this order; None for all.
        first_batch: number of batches to leave out, without loading them.
        num_threads: decoding threads; 0 decodes in the caller's.
        prefetch: images decoded ahead.

    Returns:
        An iterator whose `get_state()` is a JSON-serialisable dict that `set_state` continues from
        exactly, given the same arguments.

    Raises:
        UsageError: batch size, rows or first batch out of range.
        InputError: Grain is not installed.
    """
    rows = range(batch_size) if rows is None else rows
    if batch_size < 1:
        raise UsageError(f"batch_size: must be positive, not {batch_size}")
    if not rows or not set(rows) <= set(range(batch_size)):
        raise UsageError(f"rows: {list(rows)} are not rows of a batch of {batch_size}")
    if first_batch < 0:
        raise UsageError(f"first_batch: must not be negative, is {first_batch}")
    grain = require("grain")

    def load(index: int, generator: np.random.Generator) -> Batch:
        image = source[index]
        if flip and generator.random() < 0.5:
            image = image[:, ::-1]
        return {"image": image, "index": np.asarray(index, np.int32)}

    images = (
        grain.MapDataset.range(len(source))
        .shuffle(seed=numpy_seed(seed, "data/shuffle"))
        .repeat()
        .random_map(load, seed=numpy_seed(seed, "data/flip"))
    )

    def load_own(position: int) -> Batch:
        batch, row = divmod(position, len(rows))
        return images[(first_batch + batch) * batch_size + rows[row]]

    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
    own = grain.MapDataset.range(sys.maxsize).map(load_own)
    return iter(own.to_iter_dataset(options).batch(len(rows)))


def eval_batches(
    source: ImageSource,
    *,
    batch_size: int,
    start: int = 0,
    stop: int | None = None,
    shard_index: int = 0,
    shard_count: int = 1,
    num_threads: int = 4,
) -> Iterator[Batch]:
    """One pass over `source[start:stop]` in order: {"image", "index", "mask"}.

    Shapes are those of `train_iterator`, with `mask` bool (b,): False marks the padding (black
    images of index 0) that fills the last batch. All shards yield the same number of batches.

    Args:
        source: where the images come from.
        batch_size: images in each batch of this shard.
        start: first image.
        stop: end of the range; None means the end of the source.
        shard_index: which of the `shard_count` processes this is; it gets images
            `start + shard_index`, `start + shard_index + shard_count`, ...
        shard_count: number of processes that share the pass.
        num_threads: decoding threads; 0 decodes in the caller's.

    Raises:
        UsageError: batch size, shard or range out of range.
    """
    _check(batch_size, shard_index, shard_count)
    stop = len(source) if stop is None else stop
    if not 0 <= start <= stop <= len(source):
        raise UsageError(f"start, stop: [{start}, {stop}) is not within the {len(source)} images")
    return _eval_batches(
        source, batch_size, range(start, stop), shard_index, shard_count, num_threads
    )


def _eval_batches(
    source: ImageSource,
    batch_size: int,
    indices: range,
    shard_index: int,
    shard_count: int,
    threads: int,
) -> Iterator[Batch]:
    own = indices[shard_index::shard_count]
    decoded = _decode(source, own, threads, window=2 * batch_size)
    shape = source[0].shape
    for first in range(0, -(-len(indices) // shard_count), batch_size):
        batch = {
            "image": np.zeros((batch_size, *shape), np.uint8),
            "index": np.zeros(batch_size, np.int32),
            "mask": np.zeros(batch_size, bool),
        }
        for row, index in enumerate(own[first : first + batch_size]):
            batch["image"][row] = next(decoded)
            batch["index"][row] = index
            batch["mask"][row] = True
        yield batch


def _decode(
    source: ImageSource, indices: range, threads: int, window: int
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The images in order, up to `window` of them decoded ahead by so many threads, or by the caller's."""
    if not threads:
        yield from map(source.__getitem__, indices)
        return
    pool = ThreadPoolExecutor(threads)
    ahead: collections.deque[Future[np.ndarray]] = collections.deque()
    try:
        for index in indices:
            ahead.append(pool.submit(source.__getitem__, index))
            if len(ahead) == window:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:  # also where the caller stops early, or an image cannot be decoded
        pool.shutdown(cancel_futures=True)


def _check(batch_size: int, shard_index: int, shard_count: int) -> None:
    if batch_size < 1:
        raise UsageError(f"batch_size: must be positive, not {batch_size}")
    if not 0 <= shard_index < shard_count:
        raise UsageError(f"shard_index: {shard_index} is not in 0 .. {shard_count - 1}")
