"""One program for every number of devices: the same losses, the same results of every image."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from diffc_jax import data
from diffc_jax.commands import train
from diffc_jax.data.order import TrainingOrder
from diffc_jax.errors import UsageError
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.runtime.sharding import check_batch_size, make_mesh, put_batch, replicated
from diffc_jax.training.experiment import build_experiment
from tests.support.run_files import table
from tests.support.small_configs import QUICK_EVALUATION, small_config

DEVICES = (1, 2, 8)
STEPS = 5


def tiny_config():
    config = small_config(**QUICK_EVALUATION, batch_size=12, ancestral_steps=4)
    config.data.train.max_images = config.data.eval.max_images = 20
    config.train.update({"warmup_steps": 0, "learning_rate": 1e-3})
    return config


@pytest.fixture
def use(monkeypatch):
    """Sets the number of devices."""

    def switch(devices):
        monkeypatch.setattr(jax, "device_count", lambda: devices)
        assert make_mesh().size == devices

    return switch


def test_losses_are_the_same(use):
    config = tiny_config()
    config.model = ConfigDict(
        {"name": "unet", "patch": 4, "widths": (8,), "blocks": (1,), "heads": 1, "dropout": 0.1}
    )
    config.schedule.name = "learned_linear"
    source = build_experiment(config).open_source("train")
    fresh = jax.device_get(build_experiment(config).fresh_state(source))
    results = []
    for devices in DEVICES:
        use(devices)
        experiment = build_experiment(config)
        state = jax.device_put(fresh, replicated(experiment.mesh))
        train_step = experiment.train_step(STEPS)
        batches = data.train_iterator([source], TrainingOrder([len(source)], [8], 0, flip=True))
        losses = []
        for _ in range(STEPS):
            pixels = put_batch(experiment.mesh, {"image": next(batches)["image"]})["image"]
            state, metrics = train_step(state, pixels)
            losses.append(float(metrics["loss"]))
        results.append(losses)
    assert len(set(results[0])) == STEPS
    for losses in results[1:]:
        np.testing.assert_allclose(losses, results[0], rtol=1e-5)


def test_results_of_every_image_are_the_same(use, tmp_path):
    config = tiny_config()
    tables = []
    train(config, tmp_path)
    config.eval.params = str(tmp_path / "params.safetensors")
    for devices in DEVICES:
        use(devices)
        workdir = tmp_path / str(devices)
        evaluate(config, workdir)
        tables.append(table(workdir / "eval" / "per_image.csv"))
    assert len(tables[0]) == 20 * 2 * 3
    for found in tables[1:]:
        for row, expected in zip(found, tables[0], strict=True):
            for name in ("index", "model", "decoder", "level", "gamma"):
                assert row[name] == expected[name]
            for name in ("bits_kl", "bits_bound"):
                np.testing.assert_allclose(float(row[name]), float(expected[name]), rtol=1e-5)
            # 8-bit values near a half may fall to the other side.
            np.testing.assert_allclose(float(row["mse"]), float(expected["mse"]), rtol=1e-3)


def test_batch_that_does_not_split_is_refused():
    mesh = make_mesh()
    check_batch_size("train.batch_size", 16, mesh)
    for size, nearest in ((3, 8), (20, 16), (21, 24)):
        with pytest.raises(UsageError) as caught:
            check_batch_size("train.batch_size", size, mesh)
        assert str(caught.value) == (
            f"train.batch_size: {size} is not divisible by the 8 devices; try {nearest}"
        )
