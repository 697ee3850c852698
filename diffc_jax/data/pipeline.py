"""Batches for training (shuffled, endless, resumable) and for evaluation (in order, once)."""

import collections
import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from diffc_jax.data.order import TrainingOrder
from diffc_jax.data.spec import ImageSource
from diffc_jax.errors import UsageError
from diffc_jax.runtime.optional import require

if TYPE_CHECKING:
    import grain

Batch = dict[str, np.ndarray]


def train_iterator(
    sources: Sequence[ImageSource],
    order: TrainingOrder,
    *,
    rows: Sequence[int] | None = None,
    first_batch: int = 0,
    num_threads: int = 4,
    prefetch: int = 512,
) -> "grain.DatasetIterator[Batch]":
    """Endless training batches {"image": uint8 (b, h, w, 3), "index": int32 (b,)}, read ahead by threads.

    Batch k depends on the order only, not on threads, on where the iterator starts, or on how processes
    share its rows. `index` is an image's position in its source. The iterator's `get_state()` is a
    JSON-serialisable dict that `set_state` continues from exactly, given the same arguments.

    Args:
        sources: where the images come from.
        order: which images make up batch k, and which of them are mirrored.
        rows: the rows of every batch that this process loads, in this order; None for all.
        first_batch: number of batches to leave out, without loading them.
        num_threads: decoding threads; 0 decodes in the caller's.
        prefetch: images decoded ahead.

    Raises:
        UsageError: rows or first batch out of range.
        InputError: Grain is not installed.
    """
    grain = require("grain")
    rows = range(order.batch_size) if rows is None else rows
    if not rows or not set(rows) <= set(range(order.batch_size)):
        raise UsageError(
            f"{list(rows)} are not rows of a batch of {order.batch_size}", field="rows"
        )
    if first_batch < 0:
        raise UsageError(f"must not be negative, is {first_batch}", field="first_batch")
    own_rows = functools.lru_cache(maxsize=16)(lambda batch: order.rows([batch], rows))

    def load(position: int) -> Batch:
        batch, row = divmod(position, len(rows))
        wanted = own_rows(first_batch + batch)
        index = wanted.index[0, row]
        image = sources[wanted.source[0, row]][int(index)]
        image = image[:, ::-1] if wanted.flip[0, row] else image
        return {"image": image, "index": index.astype(np.int32)}

    positions = grain.MapDataset.range(len(rows)).repeat().map_with_index(lambda at, _: load(at))
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=prefetch)
    return iter(positions.to_iter_dataset(options).batch(len(rows)))


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

    Shard `shard_index` has images `start + shard_index`, `start + shard_index + shard_count`, ...; with 0
    decoding threads it is the caller's that decodes.

    Raises:
        UsageError: batch size, shard or range out of range.
    """
    if batch_size < 1:
        raise UsageError(f"must be positive, not {batch_size}", field="batch_size")
    if not 0 <= shard_index < shard_count:
        raise UsageError(f"{shard_index} is not in 0 .. {shard_count - 1}", field="shard_index")
    stop = len(source) if stop is None else stop
    if not 0 <= start <= stop <= len(source):
        raise UsageError(
            f"[{start}, {stop}) is not within the {len(source)} images", field="start, stop"
        )

    def batches() -> Iterator[Batch]:
        own = range(start, stop)[shard_index::shard_count]
        decoded = _decode(source, own, num_threads, window=2 * batch_size)
        shape = source[0].shape
        for first in range(0, -(-(stop - start) // shard_count), batch_size):
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

    return batches()


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
