"""Any mesh gives the same updates, holds its share of the state, and takes over a checkpoint of another."""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.config import base_config, validate
from diffc_jax.data.order import TrainingOrder
from diffc_jax.errors import UsageError
from diffc_jax.runtime import sharding
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.runtime.run_config import check_same_model, claim_workdir
from diffc_jax.training.experiment import build_experiment
from tests.support.refusals import message

MESHES = ((1, 1), (1, 2), (2, 4))
STEPS, SAVED = 3, 2


def tiny_config(data_size=-1, fsdp=1, accumulation_steps=1):
    config = base_config()
    config.data.image_size = 8
    config.data.train.max_images = 20
    config.mesh.data, config.mesh.fsdp = data_size, fsdp
    config.model = ConfigDict(
        {"name": "unet", "patch": 4, "widths": (32,), "blocks": (1,), "heads": 1}
    )
    config.schedule.name = "learned_linear"
    config.train.batch_size = 16
    config.train.accumulation_steps = accumulation_steps
    config.train.warmup_steps = 0
    return config


@pytest.fixture(scope="module")
def source():
    return build_experiment(tiny_config()).open_source("train")


@pytest.fixture(scope="module")
def batches(source):
    iterator = data.train_iterator([source], TrainingOrder([len(source)], [16], 0, flip=True))
    return [next(iterator)["image"] for _ in range(STEPS)]


@pytest.fixture(scope="module")
def runs(source, batches, tmp_path_factory):
    """A run on every mesh: losses, gradients at first, a checkpoint in the middle, state in the end."""
    fresh, results = None, {}
    for shape in MESHES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(jax, "device_count", lambda shape=shape: shape[0] * shape[1])
            experiment = build_experiment(tiny_config(*shape))
        template = experiment.state_template()
        shardings = jax.tree.map(lambda leaf: leaf.sharding, template)
        if fresh is None:
            fresh = jax.device_get(experiment.fresh_state(source))
        first = state = jax.device_put(fresh, shardings)
        step, folder = compiled_step(experiment), tmp_path_factory.mktemp("run")
        losses = []
        for number, pixels in enumerate(batches, start=1):
            placed = sharding.put_batch(experiment.mesh, {"image": pixels})
            state, metrics = step(state, placed["image"])
            losses.append(float(metrics["loss"]))
            if number == 1:
                gradients = first_gradients(state)
            if number == SAVED:
                with Checkpoints(folder) as checkpoints:
                    checkpoints.save(state, {})
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first.params))
        results[shape] = Run(experiment, step, losses, gradients, state, folder)
    return results


class Run(NamedTuple):
    experiment: Any
    step: Any
    losses: list[float]
    gradients: Any
    state: Any
    folder: pathlib.Path


def compiled_step(experiment):
    pixels = jax.ShapeDtypeStruct((16, 8, 8, 3), np.uint8)
    return experiment.train_step(STEPS).lower(experiment.state_template(), pixels).compile()


def first_gradients(state):
    """The first moment of Adam, which is a tenth of the clipped gradient after the first step."""
    return jax.device_get(state.opt_state[1][0].mu)


def test_every_mesh_gives_the_same_losses(runs):
    reference = runs[1, 1].losses
    assert len(set(reference)) == STEPS
    for shape in MESHES[1:]:
        np.testing.assert_allclose(runs[shape].losses, reference, rtol=1e-5, err_msg=str(shape))


@pytest.mark.parametrize("shape", [(1, 2), (2, 4)])
def test_state_is_split_over_fsdp(runs, shape):
    state, template = runs[shape].state, runs[shape].experiment.state_template()
    for part in ("params", "ema", "opt_state"):
        leaves = jax.tree.leaves(getattr(state, part))
        expected = jax.tree.leaves(getattr(template, part))
        held = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
        assert held < 1.3 / shape[1] * sum(leaf.nbytes for leaf in leaves), part
        assert all(
            leaf.sharding.is_equivalent_to(want.sharding, leaf.ndim)
            for leaf, want in zip(leaves, expected, strict=True)
        )
    assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(state.fixed))


@pytest.mark.parametrize(
    ("saved", "restored"), [((2, 4), (1, 2)), ((2, 4), (1, 1)), ((1, 1), (2, 4))]
)
def test_checkpoint_goes_on_with_other_devices(runs, batches, saved, restored):
    experiment, step, losses, *_ = runs[restored]
    with Checkpoints(runs[saved].folder) as checkpoints:
        state, _ = checkpoints.restore(experiment.state_template())
    assert int(state.step) == SAVED
    for number in range(SAVED, STEPS):
        placed = sharding.put_batch(experiment.mesh, {"image": batches[number]})
        state, metrics = step(state, placed["image"])
        np.testing.assert_allclose(float(metrics["loss"]), losses[number], rtol=1e-5)


def test_accumulated_parts_give_the_gradients_of_the_batch(runs, source, batches):
    experiment = build_experiment(tiny_config(2, 4, accumulation_steps=2))
    placed = sharding.put_batch(experiment.mesh, {"image": batches[0]})
    step = compiled_step(experiment)
    state, metrics = step(experiment.fresh_state(source), placed["image"])
    np.testing.assert_allclose(float(metrics["loss"]), runs[2, 4].losses[0], rtol=1e-5)
    found, expected = (jax.tree.leaves(g) for g in (first_gradients(state), runs[2, 4].gradients))
    for leaf, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(leaf, want, rtol=1e-3, atol=2e-5 * np.abs(want).max() + 1e-8)


def test_largest_axis_that_divides_is_split():
    mesh = sharding.make_mesh(2, 4)
    shapes = {
        "kernel": ((3, 3, 64, 128), (None, None, None, "fsdp")),
        "first of equals": ((64, 64), ("fsdp",)),
        "largest does not divide": ((4, 1025), ("fsdp",)),
        "none divides": ((65, 65), ()),
        "small": ((sharding.SMALLEST_SPLIT - 4,), ()),
        "just large enough": ((sharding.SMALLEST_SPLIT,), ("fsdp",)),
        "scalar": ((), ()),
    }
    tree = {name: jax.ShapeDtypeStruct(shape, np.float32) for name, (shape, _) in shapes.items()}
    found = {name: where.spec for name, where in sharding.split_parameters(mesh, tree).items()}
    assert found == {name: PartitionSpec(*axes) for name, (_, axes) in shapes.items()}


def test_rows_of_a_process_are_those_that_its_devices_hold():
    mesh = sharding.make_mesh(2, 4)
    assert sharding.process_rows(mesh, 16) == list(range(16))
    placed = sharding.put_batch(mesh, {"index": np.arange(16)})["index"]
    assert [shard.data.tolist() for shard in placed.addressable_shards] == [
        [row, row + 1] for row in range(0, 16, 2)
    ]


def test_mesh_that_the_devices_do_not_fill_is_refused():
    assert sharding.make_mesh(-1, 2).shape == {"data": 4, "fsdp": 2}
    assert sharding.make_mesh(2, -1).shape == {"data": 2, "fsdp": 4}
    choices = "choose one of 1, 2, 4, 8, or -1 for the rest"
    assert message(lambda: sharding.make_mesh(-1, 3)) == (
        f"mesh.fsdp: 3 does not divide the 8 devices; {choices}"
    )
    assert message(lambda: sharding.make_mesh(16, 1)) == (
        f"mesh.data: 16 does not divide the 8 devices; {choices}"
    )
    assert message(lambda: sharding.make_mesh(2, 2)) == (
        "mesh.data: 2, times mesh.fsdp = 2, is not the number of devices, 8; set one of them to -1 for"
        " the rest"
    )
    assert message(lambda: validate(tiny_config(-1, -1))) == (
        "mesh.data, mesh.fsdp: only one of them may be -1, the rest"
    )
    assert message(lambda: validate(tiny_config(1, 0))) == "mesh.fsdp: 0 is not at least 1"
    assert message(lambda: validate(tiny_config(accumulation_steps=0))) == (
        "train.accumulation_steps: 0 is not at least 1"
    )


def test_batch_is_divisible_by_devices_and_parts():
    mesh = sharding.make_mesh(2, 4)
    sharding.check_batch_size("train.batch_size", 32, mesh, 2)
    assert message(lambda: sharding.check_batch_size("train.batch_size", 24, mesh, 2)) == (
        "train.batch_size: 24 is not divisible by the 8 devices times train.accumulation_steps = 2;"
        " try 32"
    )
    assert message(lambda: sharding.check_batch_size("eval.batch_size", 3, mesh)) == (
        "eval.batch_size: 3 is not divisible by the 8 devices; try 8"
    )


def test_run_moves_to_other_devices_and_runs_from_before_the_mesh_resume(tmp_path):
    old = tiny_config().to_dict()
    del old["mesh"], old["train"]["accumulation_steps"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    moved = tiny_config(1, 8, accumulation_steps=2)
    moved.model.remat = True
    other = moved.copy_and_resolve_references()
    other.model.widths = (16,)
    with pytest.raises(UsageError, match=r"model\.widths was \[32\], is \[16\]"):
        claim_workdir(other, tmp_path)
    check_same_model(moved, tmp_path)
    claim_workdir(moved, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["mesh"] == {"data": 1, "fsdp": 8}
    claim_workdir(tiny_config(), tmp_path, write=False)
    assert json.loads((tmp_path / "config.json").read_text())["mesh"] == {"data": 1, "fsdp": 8}


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_batches_without_overlap(source, processes):
    order = TrainingOrder([len(source)], [8], seed=3, flip=True)
    whole = data.train_iterator([source], order, first_batch=2)
    rows = np.array_split(np.arange(8), processes)
    parts = [data.train_iterator([source], order, rows=own.tolist(), first_batch=2) for own in rows]
    for _ in range(3):
        batch, shares = next(whole), [next(part) for part in parts]
        for name in ("image", "index"):
            joined = np.concatenate([share[name] for share in shares])
            np.testing.assert_array_equal(joined, batch[name])


def test_bytes_of_each_device_are_those_of_its_part():
    mesh = sharding.make_mesh()
    split, whole = sharding.split_batch(mesh), sharding.replicated(mesh)
    shapes = [jax.ShapeDtypeStruct((16, 3), kind) for kind in (np.float32, np.uint8)]
    tree = sharding.as_template(shapes, [split, whole])
    assert sharding.bytes_of_each_device(tree) == 2 * 3 * 4 + 16 * 3
