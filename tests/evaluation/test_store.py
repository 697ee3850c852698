"""Numbers of finished batches on disk, and averages that grow with them."""

import numpy as np
import pytest

from configs import imagenet64_small
from diffc_jax.config import base_config
from diffc_jax.errors import InputError
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


def test_batches_that_reach_beyond_the_images_are_kept(tmp_path, caplog):
    """As when fewer images are evaluated than before."""
    store, digests = Store(tmp_path), np.arange(8, dtype=np.uint8)[:, None]
    store.save(batch(0, 8) | {"made_from/pixels": digests})
    store.forget_changed({"pixels": digests[:5]})
    assert store.done(8).all()
    assert not caplog.text
    store.forget_changed({"pixels": digests[:5] + np.uint8([[0], [0], [0], [0], [1]])})
    assert not store.done(8).any()
    assert "8 images are measured again" in caplog.text


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


CHANGES = {
    "seed": ("seed", 1),
    "size": ("data.image_size", 32),
    "images": ("data.eval.split", "train"),
    "first images": ("data.eval.max_images", 5),
    "schedule": ("schedule.gamma_min", -12.0),
    "batch": ("eval.batch_size", 3),
    "times": ("eval.bound_times", 3),
    "number": ("eval.max_images", 3),
    "weights": ("eval.params", "elsewhere"),
    "set metrics": ("eval.set_metrics", ()),
    "samples": ("eval.samples", 3),
    "steps of samples": ("eval.sample_steps", 3),
    "steps": ("eval.flow_steps", 3),
    "strata": ("eval.rate_evaluations", 50),
    "memory": ("eval.codec_memory", 8),
    "decoders": ("eval.codec_decoders", ()),
    "features": ("eval.features", ""),
    "shown": ("eval.grid_images", 3),
    "metrics": ("eval.image_metrics", ()),
    "subsets": ("eval.subsets", ("a",)),
}
OF_SAMPLES = {"seed", "size", "schedule", "steps of samples"}
OF_NO_NUMBER = {"batch", "times", "number", "weights", "set metrics", "samples"}


@pytest.mark.parametrize("what", CHANGES)
def test_numbers_are_of_all_that_changes_them(what, tmp_path):
    def folders(config):
        opened = open_store(tmp_path, config, "images", {}), open_samples(tmp_path, config, "n", {})
        return [one._folder for one in opened]

    config = base_config()
    before, (field, value) = folders(config), CHANGES[what]
    config.update_from_flattened_dict({field: value})
    numbers, samples = (now != old for now, old in zip(folders(config), before, strict=True))
    assert numbers == (what not in OF_NO_NUMBER | {"steps of samples"})
    assert samples == (what in OF_SAMPLES)


def test_numbers_are_of_the_data_set_the_network_and_the_parameters(tmp_path):
    config, params = base_config(), {"w": np.zeros(100, np.float32)}
    changed = {"w": np.append(params["w"][1:], np.float32(1))}
    of_images = [
        open_store(tmp_path, config, name, tree)._folder
        for name, tree in (("a", params), ("b", params), ("a", changed))
    ]
    of_samples = [
        open_samples(tmp_path, config, name, tree)._folder
        for name, tree in (("a", params), ("b", params), ("a", changed))
    ]
    assert len({*of_images, *of_samples}) == 6


def test_with_subsets_their_sizes_say_which_images_are_meant(tmp_path):
    config = base_config()
    config.eval.subsets = ("a", "b")
    before = open_store(tmp_path, config, "images", {})._folder
    config.eval.max_images = 3
    assert open_store(tmp_path, config, "images", {})._folder != before


def test_arrays_of_other_numbers_of_images_are_refused(tmp_path):
    """But for pixels, which may be of the first images alone."""
    store = Store(tmp_path)
    store.save(batch(0, 4) | {"pixels/flow": np.zeros((2, 1), np.uint8)})
    (found,) = store.read(range(4), ["pixels/flow"])
    assert found["pixels/flow"].shape == (2, 1)
    for name, count in (("x", 3), ("pixels/flow", 5)):
        store.save(batch(0, 4) | {name: np.zeros((count, 1), np.uint8)})
        with pytest.raises(InputError) as caught:
            list(store.read(range(4), [name]))
        assert str(caught.value) == (
            f"{tmp_path}/00000000-00000004.npz: {name!r} has shape ({count}, 1), and there are 4 images;"
            " delete it and run again"
        )


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
