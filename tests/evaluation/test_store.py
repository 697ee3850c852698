"""Numbers of finished batches on disk, and averages that grow with them."""

import numpy as np
import pytest

from configs import imagenet64_small
from diffc_jax.config import base_config
from diffc_jax.evaluation import store as stores
from diffc_jax.evaluation.store import Store, fingerprint, open_samples, open_store
from diffc_jax.evaluation.tables import Averages, read_numbers


def batch(start, stop):
    index = np.arange(start, stop)
    return {"index": index, "x": index**2, "mse/flow": 1.0 + index}


def test_batches_are_read_in_order_and_once(tmp_path):
    store = Store(tmp_path)
    for start, stop in ((0, 4), (4, 8), (2, 10), (12, 14)):
        store.save(batch(start, stop))
    assert store.done(14).tolist() == [True] * 10 + [False] * 2 + [True] * 2
    for images in (
        range(3),
        range(4),
        range(9),
        range(10),
        range(3, 5),
        range(4, 10),
        range(12, 13),
    ):
        read = np.concatenate([values["x"] for values in store.read(images, ["x"])])
        np.testing.assert_array_equal(read, np.array(images) ** 2)


def test_reading_ends_at_the_first_image_that_is_missing(tmp_path):
    store = Store(tmp_path)
    for start, stop in ((0, 4), (12, 14)):
        store.save(batch(start, stop))
    assert [values["index"].tolist() for values in store.read(range(14))] == [[0, 1, 2, 3]]
    assert list(store.read(range(5, 14))) == []


def test_arrays_that_are_not_asked_for_are_left_out(tmp_path):
    store = Store(tmp_path)
    store.save(batch(0, 4))
    assert [set(values) for values in store.read(range(4), ["x", "y"])] == [{"x"}]
    assert [set(values) for values in store.read(range(4))] == [{"index", "x", "mse/flow"}]


def test_averages_go_on_where_they_were(tmp_path):
    """Images 2 to 7 of a set, which come in out of order and in batches that overlap."""
    store, images = Store(tmp_path), range(2, 8)
    averages = Averages(store, images, ["index", "x"], ["x"], [])
    averages.update()
    assert averages.count == 0
    for (start, stop), count in (((0, 4), 2), ((6, 10), 2), ((3, 6), 6)):
        store.save(batch(start, stop))
        averages.update()
        assert averages.count == averages.means["x"].count == count
        expected = np.square(np.arange(2, 2 + count))
        assert averages.means["x"].mean == pytest.approx(expected.mean(), rel=1e-12)
        assert averages.means["x"].stderr == pytest.approx(
            expected.std(ddof=1) / count**0.5, rel=1e-12
        )
    averages.update()
    assert averages.count == 6


def test_psnr_comes_with_errors(tmp_path):
    store = Store(tmp_path)
    store.save(batch(0, 3))
    (numbers,) = read_numbers(store, range(3), ["index", "mse/flow"])
    np.testing.assert_allclose(numbers["psnr/flow"], 10 * np.log10(255**2 / np.arange(1, 4)))


def test_fingerprint_is_of_fields_and_values():
    params = {"w": np.ones(3, np.float32)}
    first = fingerprint({"a": 1, "b": (2,)}, params)
    assert first == fingerprint({"b": (2,), "a": 1}, params)
    assert first != fingerprint({"a": 1, "b": (3,)}, params)
    assert first != fingerprint({"a": 1, "b": (2,)}, {"w": np.zeros(3, np.float32)})


def test_samples_of_other_numbers_are_not_used_again(tmp_path, monkeypatch):
    def folder():
        return open_samples(tmp_path, base_config(), "network", {})._folder

    before = folder()
    assert before == folder()
    monkeypatch.setattr(stores, "NUMBERS_VERSION", stores.NUMBERS_VERSION + 1)
    assert before != folder()


@pytest.mark.parametrize(
    ("field", "value", "same"),
    [
        ("heads", 4, True),
        ("gamma_range", (-13.3, 5.0), True),
        ("remat", True, True),
        ("dropout", 0.1, True),
        ("heads", 2, False),
        ("dtype", "bfloat16", False),
    ],
)
def test_fields_that_change_no_number_lose_none(tmp_path, field, value, same):
    config = imagenet64_small.get_config()
    open_one = (
        lambda: open_store(tmp_path, config, "images", {}),
        lambda: open_samples(tmp_path, config, "network", {}),
    )
    before = [store()._folder for store in open_one]
    with config.unlocked():
        config.model[field] = value
    assert [store()._folder == old for store, old in zip(open_one, before, strict=True)] == [
        same,
        same,
    ]
