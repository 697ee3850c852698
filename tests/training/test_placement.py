"""Where training images lie and how many updates a dispatch has: not what is trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from diffc_jax.config import set_training_sources, training_source
from diffc_jax.errors import UsageError
from diffc_jax.training import feed, loop
from diffc_jax.training.feed import DeviceBatches, HostBatches, make_batches, open_training_set
from tests.support.quick_training import quick_config, quick_task
from tests.support.run_files import logged

STEPS = 10


def placed(placement="host", steps_per_call=1, mixture=True, **train):
    config = quick_config(num_steps=STEPS, steps_per_call=steps_per_call, **train)
    config.data.placement = placement
    if mixture:
        sources = training_source(0.75, max_images=13), training_source(0.25, -4.0, max_images=5)
        set_training_sources(config, *sources)
    return config


def run(workdir, *arguments, devices=1, **train):
    """Exported parameters of a run."""
    loop.train(quick_task(placed(*arguments, **train), devices), workdir)
    return safetensors.numpy.load_file(workdir / "params.safetensors")


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("reference")
    return workdir, run(workdir)


@pytest.fixture
def _scanning(monkeypatch):
    """As on accelerators: a call is one program."""

    class ScanningRunner(feed.Runner):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self._scans = True

    monkeypatch.setattr(loop, "Runner", ScanningRunner)


def assert_equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def assert_close(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_allclose(left[name], right[name], rtol=2e-4, atol=2e-6, err_msg=name)


def losses(workdir):
    return [row["train/loss"] for row in logged(workdir) if "train/loss" in row]


@pytest.mark.parametrize(("placement", "steps"), [("host", 4), ("device", 1), ("device", 4)])
def test_the_same_bits_from_anywhere_in_any_number(placement, steps, reference, tmp_path):
    workdir, params = reference
    assert_equal(run(tmp_path, placement, steps), params)
    # Calls of 4, 4 and 2; reports come at the end of calls.
    assert losses(tmp_path) == losses(workdir)
    assert [row["step"] for row in logged(tmp_path) if "train/loss" in row] == [4, 8, 10]


@pytest.mark.usefixtures("_scanning")
@pytest.mark.parametrize(("placement", "steps"), [("host", 4), ("device", 3)])
def test_updates_in_one_program_agree_to_rounding(placement, steps, reference, tmp_path):
    assert_close(run(tmp_path, placement, steps), reference[1])
    rows = [row for row in logged(tmp_path) if "train/loss" in row]
    assert rows[-1]["step"] == STEPS


@pytest.mark.parametrize(("placement", "steps"), [("host", 4), ("device", 4)])
def test_eight_devices_agree_to_rounding(placement, steps, reference, tmp_path):
    assert_close(run(tmp_path, placement, steps, devices=8), reference[1])


@pytest.mark.usefixtures("_scanning")
def test_eight_devices_with_updates_in_one_program(reference, tmp_path):
    assert_close(run(tmp_path, "device", 4, devices=8), reference[1])


def test_trained_images_matter(reference, tmp_path):
    """The comparisons above would notice another order: here the flips are off."""
    config = placed()
    config.data.random_flip = False
    loop.train(quick_task(config), tmp_path)
    other = safetensors.numpy.load_file(tmp_path / "params.safetensors")
    name = "params/model/layer/kernel"
    assert np.abs(other[name] - reference[1][name]).max() > 1e-4


@pytest.mark.parametrize(
    ("before", "after"), [(("device", 4), ("device", 4)), (("host", 1), ("device", 3))]
)
def test_resumed_in_the_middle(before, after, reference, tmp_path):
    """Also where the images lie elsewhere after it."""
    placement, steps = before
    config = placed(placement, steps, checkpoint_every_steps=4)
    config.train.num_steps = 5
    loop.train(quick_task(config), tmp_path)
    assert_equal(run(tmp_path, *after), reference[1])


def test_report_says_what_part_of_the_time_the_host_took(reference):
    rows = [row for row in logged(reference[0]) if "train/loss" in row]
    assert rows
    for row in rows:
        assert 0.0 < row["train/host_share"] < 1.0


def test_shapes_of_the_state_are_found_once():
    """To trace the network of the paper takes seconds, and the loop asks for them again and again."""
    task = quick_task(placed())
    assert task.state_template() is task.state_template()


# Batches


def batches_of(config, memory=None):
    """The batches of a run on devices that say that they have so much memory, or nothing."""
    task = quick_task(config)
    template = task.state_template()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed.sharding, "memory_of_each_device", lambda _: memory)
        return make_batches(open_training_set(config), config, template, task.mesh, 0)


@pytest.mark.parametrize("mixture", [False, True])
def test_batches_are_the_same(mixture):
    host, device = (batches_of(placed(placement, 1, mixture)) for placement in ("host", "device"))
    assert isinstance(host, HostBatches)
    assert isinstance(device, DeviceBatches)
    expected, found = host.take(0, 6), device.take(0, 6)
    for number in range(6):
        batch = jax.tree.map(lambda rows, number=number: rows[number], found)
        batch = jax.tree.map(jnp.asarray, batch)
        np.testing.assert_array_equal(device.pixels(device.resident, batch), expected[number])
    # From the middle, as after a checkpoint.
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, b[2:5]), device.take(2, 3), device.take(0, 6)
    )


def test_images_in_memory_are_bytes_and_their_order_is_small():
    config = placed("device", 1, mixture=False)
    device = batches_of(config)
    (images,) = device.resident
    assert (images.shape, images.dtype) == ((24, 8, 8, 3), np.uint8)
    assert sum(array.nbytes for array in jax.tree.leaves(device.take(0, 3))) == 3 * 8 * 5


def test_auto_keeps_images_on_the_host_on_cpus_and_where_they_do_not_fit():
    config = placed("auto", 1, mixture=False)
    assert isinstance(batches_of(config), HostBatches)
    needed = 24 * 8 * 8 * 3
    state = feed.sharding.bytes_of_each_device(quick_task(config).state_template())
    assert state > 0
    assert isinstance(batches_of(config, memory=state + 2 * needed - 1), HostBatches)

    assert isinstance(batches_of(config, memory=state + 2 * needed), DeviceBatches)
    config.data.placement = "device"
    assert isinstance(batches_of(config, memory=state + needed), DeviceBatches)


def test_memory_that_is_too_small_is_named():
    config = placed("device", 1, mixture=False)
    with pytest.raises(UsageError) as caught:
        batches_of(config, memory=3000)
    assert str(caught.value).startswith(
        "data.placement: device needs 0.0 GB for 24 images on each cpu, which has "
    )
    assert str(caught.value).endswith(" GB beside the state; use host or auto")
