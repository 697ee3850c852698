"""The order of training images: that of Grain, a permutation in each epoch, the same from anywhere."""

import grain
import numpy as np
import pytest

from diffc_jax.data.order import TrainingOrder, fair_coins, permuted
from diffc_jax.errors import UsageError
from diffc_jax.rng import numpy_seed


def order_of_grain(length, seed, positions):
    """Index and flip at each position of the endless sequence, from Grain's own transformations."""
    drawn = (
        grain.MapDataset.range(length)
        .shuffle(seed=numpy_seed(seed, "data/shuffle"))
        .repeat()
        .random_map(
            lambda index, generator: (index, generator.random() < 0.5),
            seed=numpy_seed(seed, "data/flip"),
        )
    )
    index, flip = zip(*(drawn[int(position)] for position in positions), strict=True)
    return np.array(index), np.array(flip)


def batches_at(length, batch_size):
    """Batches from the first, and around the end of an epoch far away."""
    return [*range(4), 5 * length // batch_size - 1, 5 * length // batch_size]


@pytest.mark.parametrize(
    ("length", "batch_size"),
    [
        (1, 3),
        (2, 5),
        (7, 4),
        (24, 24),
        (1000, 64),
        (65535, 96),
        (65536, 96),
        (65538, 96),
        (100_000, 96),
        (131_073, 96),
        (1_281_167, 96),
    ],
)
@pytest.mark.parametrize("seed", [0, 12345])
def test_order_and_flips_are_those_of_grain(length, batch_size, seed):
    batches = batches_at(length, batch_size)
    rows = TrainingOrder([length], [batch_size], seed, flip=True).rows(batches)
    positions = np.add.outer(batch_size * np.array(batches), np.arange(batch_size)).ravel()
    index, flip = order_of_grain(length, seed, positions)
    np.testing.assert_array_equal(rows.index.ravel(), index)
    np.testing.assert_array_equal(rows.flip.ravel(), flip)
    assert not rows.source.any()


@pytest.mark.parametrize("length", [1, 2, 3, 5, 17, 65536, 65537, 65538, 70_001, 131_072, 262_145])
def test_every_epoch_uses_each_image_once(length):
    everything = np.arange(length)
    first, second = (permuted(everything, length, seed) for seed in (0, 2**32 - 1))
    for index in (first, second):
        np.testing.assert_array_equal(np.sort(index), everything)
    if length > 5:
        # Another one for another seed: two random permutations agree at one place on average.
        assert np.sum(first == second) < 12
        assert np.sum(first == everything) < 12


def test_permutations_of_three_are_equally_likely():
    drawn = [tuple(permuted(np.arange(3), 3, seed)) for seed in range(300)]
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 6
    # Chi-squared with five degrees of freedom: above 30 once in 100 000 times.
    assert np.sum((counts - 50.0) ** 2 / 50.0) < 30.0


LENGTHS, COUNTS = (10, 3, 70_000), (4, 2, 5)


def mixture(flip=True, seed=3):
    return TrainingOrder(LENGTHS, COUNTS, seed, flip)


def test_sources_keep_their_own_epochs_and_their_places_in_the_batch():
    order = mixture()
    rows = order.rows(range(15))
    assert (order.counts, order.batch_size) == (COUNTS, 11)
    np.testing.assert_array_equal(rows.source, np.tile(np.repeat(np.arange(3), COUNTS), (15, 1)))
    for number, (length, count) in enumerate(zip(LENGTHS, COUNTS, strict=True)):
        index = rows.index[rows.source == number]
        whole = index[: len(index) // length * length].reshape(-1, length)
        np.testing.assert_array_equal(
            np.sort(whole, axis=1), np.broadcast_to(np.arange(length), whole.shape)
        )
        # The first one is as in a run on it alone; others are shuffled with seeds of their own.
        alone = TrainingOrder([length], [count], 3, flip=True).rows(range(15))
        assert np.array_equal(alone.index.ravel(), index) == (number == 0)
        assert np.array_equal(alone.flip.ravel(), rows.flip[rows.source == number]) == (number == 0)


def test_batches_are_the_same_from_anywhere_in_any_number():
    order = mixture()
    whole = order.rows(range(40))
    for batch in (0, 1, 17, 39):
        one = order.rows([batch])
        for name in ("source", "index", "flip"):
            np.testing.assert_array_equal(getattr(one, name)[0], getattr(whole, name)[batch])
    several, wanted = order.rows(range(12, 20), [10, 0, 5]), np.array([10, 0, 5])
    for name in ("source", "index", "flip"):
        np.testing.assert_array_equal(getattr(several, name), getattr(whole, name)[12:20, wanted])


def test_order_depends_on_the_seed():
    one, other = mixture(seed=3).rows(range(9)), mixture(seed=4).rows(range(9))
    for number in range(3):
        own = one.source == number
        assert not np.array_equal(one.index[own], other.index[own])
    assert not np.array_equal(one.flip, other.flip)


def test_flips_are_fair_and_drawn_anew_and_can_be_off():
    rows = TrainingOrder([400], [400], 0, flip=True).rows(range(60))
    flips = np.take_along_axis(rows.flip, np.argsort(rows.index, axis=1), axis=1)
    assert abs(flips.mean() - 0.5) < 4.0 * 0.5 / flips.size**0.5
    # Every image on its own, over the epochs, and without memory of the epoch before.
    assert np.abs(flips.mean(axis=0) - 0.5).max() < 4.5 * 0.5 / 60**0.5
    assert abs(np.mean(flips[1:] == flips[:-1]) - 0.5) < 4.0 * 0.5 / flips.size**0.5
    off = TrainingOrder([400], [400], 0, flip=False).rows(range(60))
    assert not off.flip.any()
    np.testing.assert_array_equal(off.index, rows.index)


def test_coins_are_those_of_numpy():
    positions = np.array([0, 1, 2, 1000, 2**32 - 1, 2**32, 2**40 + 7])
    for seed in (0, 77, 2**32 - 1):
        expected = [
            np.random.Generator(np.random.Philox(seed, counter=[0, 0, 0, position])).random() < 0.5
            for position in positions.tolist()
        ]
        np.testing.assert_array_equal(fair_coins(seed, positions), expected)


@pytest.mark.parametrize("counts", [(0,), (4, 0), (-1, 3)])
def test_every_source_has_images_in_a_batch(counts):
    with pytest.raises(UsageError) as caught:
        TrainingOrder([10] * len(counts), counts, 0, flip=True)
    assert str(caught.value) == f"batch_size: must be positive, not {min(counts)}"
