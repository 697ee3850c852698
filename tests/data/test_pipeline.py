"""Batches: order, flips, resuming and threads in training; one pass in order in evaluation."""

import itertools
import json
import threading
import time

import numpy as np
import pytest

from diffc_jax.data import eval_batches, train_iterator
from diffc_jax.data.order import TrainingOrder
from diffc_jax.errors import InputError, UsageError


class Numbered:
    """Image i has the value i on its left half and 255 on its right half."""

    name, split = "numbered", "train"

    def __init__(self, count: int):
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> np.ndarray:
        image = np.full((4, 4, 3), 255, np.uint8)
        image[:, :2] = index
        return image

    def label(self, index: int) -> str:
        return f"number {index}"


def iterator(count=10, **options):
    order = {"batch_size": 4, "seed": 3, "flip": True}
    order |= {name: options.pop(name) for name in order if name in options}
    return train_iterator([Numbered(count)], make_order(count, **order), **options)


def make_order(count, batch_size, seed, flip):
    return TrainingOrder([count], [batch_size], seed, flip)


def take(batches, n):
    return list(itertools.islice(batches, n))


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a["index"], b["index"])
        np.testing.assert_array_equal(a["image"], b["image"])


def test_training_batches_have_the_promised_types():
    batch = next(iterator())
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {
        "image": ((4, 4, 4, 3), np.uint8),
        "index": ((4,), np.int32),
    }


def test_every_epoch_is_another_permutation_and_no_image_is_dropped():
    order = np.concatenate([batch["index"] for batch in take(iterator(), 15)]).reshape(6, 10)
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(10), (6, 1)))
    assert len({tuple(epoch) for epoch in order}) == 6


def test_flips_are_drawn_anew_and_half_of_the_time():
    batches = take(iterator(count=200, batch_size=50), 40)
    index = np.concatenate([batch["index"] for batch in batches])
    image = np.concatenate([batch["image"] for batch in batches])
    left, right = image[:, 0, 0, 0], image[:, 0, -1, 0]
    flipped = left == 255
    np.testing.assert_array_equal(np.where(flipped, right, left), index)
    assert abs(flipped.mean() - 0.5) < 4 * 0.5 / 2000**0.5
    by_image = [flipped[at : at + 200][np.argsort(index[at : at + 200])] for at in (0, 200)]
    assert not np.array_equal(*by_image)
    for batch in take(iterator(flip=False), 5):
        np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["index"])


def test_order_depends_on_the_seed_and_not_on_threads():
    reference = take(iterator(), 12)
    for threads in (0, 1, 7):
        assert_same(take(iterator(num_threads=threads, prefetch=16), 12), reference)
    other = take(iterator(seed=4), 12)
    assert any(
        not np.array_equal(a["index"], b["index"]) for a, b in zip(other, reference, strict=True)
    )


@pytest.mark.parametrize("steps", [0, 1, 4, 9])
def test_state_continues_exactly(steps):
    running = iterator()
    take(running, steps)
    state = json.loads(json.dumps(running.get_state()))
    expected = take(running, 8)
    resumed = iterator(num_threads=1)
    resumed.set_state(state)
    assert_same(take(resumed, 8), expected)


def test_processes_share_the_rows_of_the_common_batches():
    whole = take(iterator(), 10)
    shares = [[3, 0], [1, 2]]
    parts = [take(iterator(rows=rows), 10) for rows in shares]
    for number, batch in enumerate(whole):
        for rows, part in zip(shares, parts, strict=True):
            for key in ("index", "image"):
                np.testing.assert_array_equal(part[number][key], batch[key][rows])


def test_iterator_can_start_at_any_batch():
    whole = take(iterator(), 10)
    for first in (0, 1, 7):
        assert_same(take(iterator(first_batch=first), 3), whole[first : first + 3])


def test_error_in_a_thread_reaches_the_caller():
    class Broken(Numbered):
        def __getitem__(self, index):
            raise InputError("x.png: cannot be decoded")

    with pytest.raises(InputError) as caught:
        next(train_iterator([Broken(4)], make_order(4, batch_size=2, seed=0, flip=False)))
    assert str(caught.value) == "x.png: cannot be decoded"


def test_evaluation_is_one_pass_in_order_with_padding():
    batches = list(eval_batches(Numbered(10), batch_size=4))
    np.testing.assert_array_equal(
        [batch["index"] for batch in batches], [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 0, 0]]
    )
    np.testing.assert_array_equal(batches[-1]["mask"], [True, True, False, False])
    np.testing.assert_array_equal(batches[-1]["image"][:, 0, 0, 0], [8, 9, 0, 0])
    assert batches[0]["mask"].all()
    assert (batches[0]["index"].dtype, batches[0]["mask"].dtype) == (np.int32, bool)
    assert not batches[-1]["image"][2:].any()


class Watched(Numbered):
    """Notes which images are read, and by which threads; early ones take longest."""

    def __init__(self, count: int):
        super().__init__(count)
        self.read, self.threads = [], set()

    def __getitem__(self, index: int) -> np.ndarray:
        time.sleep(0.001 * (index % 3 == 0))
        self.read.append(index)
        self.threads.add(threading.current_thread())
        return super().__getitem__(index)


@pytest.mark.parametrize("threads", [0, 1, 5])
def test_evaluation_decodes_in_threads_and_keeps_the_order(threads):
    source = Watched(60)
    batches = list(eval_batches(source, batch_size=7, num_threads=threads))
    index = np.concatenate([batch["index"][batch["mask"]] for batch in batches])
    images = np.concatenate([batch["image"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(index, np.arange(60))
    np.testing.assert_array_equal(images[:, 0, 0, 0], index)
    source.threads.discard(
        threading.current_thread()
    )  # which asks for the shape of the first image
    assert len(source.threads) <= threads
    assert bool(source.threads) == bool(threads)


def test_evaluation_decodes_a_bounded_number_ahead_and_stops_with_the_caller():
    source = Watched(1000)
    batches = eval_batches(source, batch_size=4, num_threads=2)
    next(batches)
    batches.close()
    assert len(source.read) <= 1 + 4 + 2 * 4
    assert not any(thread.is_alive() for thread in source.threads - {threading.main_thread()})


@pytest.mark.parametrize("threads", [0, 3])
def test_error_of_an_image_reaches_evaluation_after_the_images_before_it(threads):
    class Broken(Numbered):
        def __getitem__(self, index):
            if index == 5:
                raise InputError("x.png: cannot be decoded")
            return super().__getitem__(index)

    batches = eval_batches(Broken(40), batch_size=2, num_threads=threads)
    assert [batch["index"].tolist() for batch in take(batches, 2)] == [[0, 1], [2, 3]]
    with pytest.raises(InputError) as caught:
        next(batches)
    assert str(caught.value) == "x.png: cannot be decoded"


@pytest.mark.parametrize(
    ("start", "stop", "shards"), [(0, None, 3), (2, 9, 2), (9, 10, 4), (3, 3, 2)]
)
def test_evaluation_shards_cover_the_range_once_in_equal_numbers(start, stop, shards):
    source = Numbered(10)
    runs = [
        list(
            eval_batches(
                source, batch_size=2, start=start, stop=stop, shard_index=i, shard_count=shards
            )
        )
        for i in range(shards)
    ]
    assert len({len(run) for run in runs}) == 1
    seen = [index for run in runs for batch in run for index in batch["index"][batch["mask"]]]
    assert sorted(seen) == list(range(start, 10 if stop is None else stop))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: must be positive, not 0"),
        ({"shard_index": 2, "shard_count": 2}, "shard_index: 2 is not in 0 .. 1"),
        ({"stop": 11}, "start, stop: [0, 11) is not within the 10 images"),
    ],
)
def test_bad_arguments_of_evaluation_are_named(options, message):
    with pytest.raises(UsageError) as caught:
        eval_batches(Numbered(10), **{"batch_size": 4, **options})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: must be positive, not 0"),
        ({"rows": [0, 4]}, "rows: [0, 4] are not rows of a batch of 4"),
        ({"rows": []}, "rows: [] are not rows of a batch of 4"),
        ({"first_batch": -1}, "first_batch: must not be negative, is -1"),
    ],
)
def test_bad_arguments_of_training_are_named(options, message):
    with pytest.raises(UsageError) as caught:
        iterator(**options)
    assert str(caught.value) == message
