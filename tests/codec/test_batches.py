"""Tiles in batches."""

import threading

import jax
import jax.numpy as jnp
import pytest

from diffc_jax.codec.batches import Batches, batches_for
from diffc_jax.runtime.sharding import make_mesh, put_batch


@pytest.mark.parametrize("size", [1, 3, 4, 16])
def test_they_hold_every_tile_once(size):
    for n_tiles in (0, 1, 2, 4, 5, 16, 40):
        numbers = list(range(100, 100 + n_tiles))
        found = list(Batches(size).of(numbers))
        assert {len(rows) for rows, _ in found} <= {size}
        assert [row for rows, count in found for row in rows[:count].tolist()] == numbers
        assert len(found) == -(-n_tiles // size)
        assert all((rows[count:] == rows[0]).all() for rows, count in found)


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("n_tiles", [0, 1, 4, 5, 17])
def test_results_come_in_order(at_once, n_tiles):
    found = Batches(4, at_once).map(lambda rows: rows.tolist(), range(n_tiles))
    for rows, count, result in found:
        assert result == rows.tolist()
        n_tiles -= count
    assert n_tiles == 0


def test_as_many_at_once_as_are_to_be():
    # Each waits for the other: one after the other they would wait until the time is over.
    barrier = threading.Barrier(2)
    waited = Batches(1, 2).map(lambda rows: barrier.wait(timeout=60), range(8))
    assert sorted(index for *_, index in waited) == [0] * 4 + [1] * 4


def test_an_error_is_that_of_its_batch_and_stops_the_others():
    begun = []

    def fail(rows):
        begun.append(rows)
        raise ValueError(f"batch {rows[0]}")

    with pytest.raises(ValueError, match="batch 0"):
        list(Batches(1, 2).map(fail, range(1000)))
    assert len(begun) < 1000


def test_who_stops_to_ask_does_not_wait_for_the_rest():
    begun = []
    goes_on = threading.Event()

    def work(rows):
        begun.append(rows)
        # The first is done at once, others when the first result is there.
        assert rows[0] == 0 or goes_on.wait(timeout=60)

    for _ in Batches(1, 2).map(work, range(1000)):
        goes_on.set()
        break
    assert len(begun) < 1000


def test_sizes(monkeypatch):
    mesh = make_mesh()
    monkeypatch.setattr("multiprocessing.cpu_count", lambda: 2)

    def divided(batch):
        return put_batch(mesh, {"batch": batch})["batch"]

    def size(n_tiles, most, place=jnp.asarray):
        return batches_for(n_tiles, most, place).size

    assert [size(n, 16, divided) for n in (1, 8, 9, 40)] == [8, 8, 16, 16]
    # One CPU is as fast with a few images at once as with many.
    assert [size(n, 16) for n in (1, 2, 9, 40)] == [1, 4, 4, 4]
    assert [size(n, 3) for n in (1, 2, 40)] == [1, 3, 3]
    # And it works on two batches at once. Programs of several devices wait for each other.
    assert [batches_for(40, 16, one).at_once for one in (jnp.asarray, divided)] == [2, 1]
    monkeypatch.setattr("multiprocessing.cpu_count", lambda: 6)
    assert [size(n, 16) for n in (1, 2, 40)] == [1, 12, 12]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert [size(n, 16) for n in (1, 2, 40)] == [1, 16, 16]
    assert batches_for(40, 16, jnp.asarray).at_once == 1
