"""Optimisers, averages of parameters, and the end of a training that fails."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from ml_collections import ConfigDict

from diffc_jax.config import base_config
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models import build_model
from diffc_jax.models.gaussian import statistics_shapes
from diffc_jax.runtime.export import export_params
from diffc_jax.training import loop
from diffc_jax.training.experiment import build_experiment
from diffc_jax.training.meter import DivergedError
from diffc_jax.training.optimizer import _matrices, make_optimizer
from diffc_jax.training.state import update_ema
from tests.support.diffusers import FIELDS
from tests.support.quick_training import quick_config, quick_task
from tests.support.run_files import logged

UNET = {"name": "unet", "patch": 2, "widths": (8,), "blocks": (1,), "heads": 2}
MUON_RATE = 0.05


def train_config(**fields):
    config = base_config().train
    config.update(
        {"learning_rate": 0.01, "muon_learning_rate": MUON_RATE, "warmup_steps": 0} | fields
    )
    return config


def optimizer_of(**fields):
    return make_optimizer(train_config(**fields), num_steps=100)


@pytest.fixture(scope="module")
def params():
    """Those of a U-Net and of a schedule, not zero anywhere."""
    model = build_model(UNET, (8, 8, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), statistics_shapes((8, 8, 3)))["params"]
    tree = {"model": shapes, "schedule": {"start": jax.ShapeDtypeStruct((), np.float32)}}
    return random_like(tree, seed=0)


def random_like(tree, seed):
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.1 * generator.normal(size=leaf.shape), jnp.float32), tree
    )


def _stretched(leaf):
    if leaf.ndim < 2:
        return leaf
    return np.asarray(leaf) * np.linspace(0.2, 2.0, leaf.shape[-1], dtype=np.float32)


def updates_of(optimizer, params, count=3):
    """The last of several updates, for gradients that differ, and are far from orthogonal."""
    state, update = jax.jit(optimizer.init)(params), jax.jit(optimizer.update)
    for number in range(count):
        grads = jax.tree.map(_stretched, random_like(params, seed=number + 1))
        updates, state = update(grads, state, params)
    return updates


def by_name(tree):
    flat, _ = jax.tree.flatten_with_path(tree)
    return {"/".join(str(key.key) for key in path): np.asarray(leaf) for path, leaf in flat}


def test_adamw_is_that_of_optax_behind_the_clipping(params):
    """As it was before there was a choice."""
    fields = {"clip_norm": 0.5, "weight_decay": 0.03, "beta2": 0.98}
    expected = optax.chain(
        optax.clip_by_global_norm(0.5), optax.adamw(0.01, b1=0.9, b2=0.98, weight_decay=0.03)
    )
    found, wanted = (updates_of(one, params) for one in (optimizer_of(**fields), expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, wanted)


def is_of_muon(name, leaf):
    first_or_last = "/stem/" in name or "/head/" in name
    return name.endswith("/kernel") and leaf.ndim >= 2 and not first_or_last


def test_muon_makes_kernels_orthogonal_as_matrices_to_their_outputs(params):
    updates = by_name(updates_of(optimizer_of(optimizer="muon", weight_decay=0.0), params))
    kernels = {name: leaf for name, leaf in updates.items() if is_of_muon(name, leaf)}
    assert {leaf.ndim for leaf in kernels.values()} >= {2, 4}
    assert any(leaf.shape[:2] == (3, 3) for leaf in kernels.values())
    for name, leaf in kernels.items():
        matrix = leaf.reshape(-1, leaf.shape[-1])
        values = np.linalg.svd(matrix, compute_uv=False)
        # Five iterations leave all but the smallest singular values at 0.7 to 1.2 times the scale.
        assert np.quantile(values, 0.05) > 0.5 * values.max(), name
        rms = np.sqrt(np.mean(matrix**2))
        assert rms == pytest.approx(0.2 * MUON_RATE, rel=0.25), name


def test_muon_leaves_the_first_and_last_layer_and_vectors_to_adamw(params):
    """To AdamW with Nesterov's momentum, as optax has it there."""
    clip = optax.clip_by_global_norm(1.0)
    adamw = optax.adamw(0.01, b1=0.9, b2=0.99, weight_decay=0.01, nesterov=True)
    found, expected = (
        by_name(updates_of(one, params))
        for one in (optimizer_of(optimizer="muon"), optax.chain(clip, adamw))
    )
    rest = [name for name, leaf in found.items() if not is_of_muon(name, leaf)]
    assert len(rest) < len(found)
    for part in ("/stem/kernel", "/head/kernel", "/bias", "schedule/start"):
        assert any(name.endswith(part) for name in rest), part
    for name in found:
        same = np.allclose(found[name], expected[name], rtol=1e-5, atol=1e-9)
        assert same == (name in rest), name


OPENAI = {"width": 32, "multipliers": (1, 2), "blocks": 1, "attention": (8,), "dtype": "float32"}


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "improved_diffusion", **OPENAI},
        {"name": "guided_diffusion", "head_channels": 16, "heads_last": False, **OPENAI},
        {"name": "diffusers_unet", **FIELDS["ddpm"]},
    ],
    ids=lambda fields: fields["name"],
)
def test_first_and_last_layers_of_converted_networks_are_left_to_adamw(fields):
    model = build_model(fields, (16, 16, 3))
    init = functools.partial(model.init, jax.random.key(0))
    shapes = jax.eval_shape(init, model.statistics)["params"]
    axes = named(_matrices(shapes), is_leaf=lambda leaf: not isinstance(leaf, dict))
    ends = [
        name
        for name, leaf in named(shapes).items()
        if leaf.ndim == 4 and {3, 6} & set(leaf.shape[2:])
    ]
    assert len(ends) == 2
    assert [axes[name] for name in ends] == [None, None]
    assert sum(found is not None for found in axes.values()) > 10


def named(tree, **options):
    """Leaves by their path."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree, **options)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def test_weight_decay_of_muon_shrinks_kernels(params):
    decayed, plain = (
        by_name(updates_of(optimizer_of(optimizer="muon", weight_decay=decay), params))
        for decay in (0.5, 0.0)
    )
    weights = by_name(params)
    for name in decayed:
        rate = MUON_RATE if is_of_muon(name, decayed[name]) else 0.01
        shrunk = plain[name] - 0.5 * rate * weights[name]
        np.testing.assert_allclose(decayed[name], shrunk, rtol=1e-4, atol=1e-7, err_msg=name)


def test_both_rates_follow_the_schedule(params):
    rising, full = (
        by_name(updates_of(optimizer_of(optimizer="muon", warmup_steps=steps), params, count=1))
        for steps in (4, 0)
    )
    for name in full:
        np.testing.assert_allclose(rising[name], 0.25 * full[name], rtol=1e-4, err_msg=name)


# RunningMean


def test_each_average_has_its_decay():
    average = {"w": jnp.asarray(1.0)}
    for decay in (0.9, 0.999):
        moved = update_ema(average, {"w": jnp.asarray(2.0)}, jnp.asarray(10**6), decay)
        assert float(moved["w"]) == pytest.approx(2.0 - decay, rel=1e-4)


def test_two_averages_are_trained():
    task = quick_task(quick_config(num_steps=5, second_ema_decay=0.5, ema_decay=0.05))
    state = task.fresh_state(task.open_source("train"))
    step = task.train_step(5)
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    averages = {0.05: jax.device_get(state.ema), 0.5: jax.device_get(state.second_ema)}
    for number in range(5):
        state, _ = step(state, images)
        params = jax.device_get(state.params)
        averages = {
            decay: update_ema(average, params, jnp.asarray(number), decay)
            for decay, average in averages.items()
        }
    for found, wanted in ((state.ema, averages[0.05]), (state.second_ema, averages[0.5])):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, wanted)
    assert not np.array_equal(*(by_name(a)["model/layer/kernel"] for a in averages.values()))


@pytest.mark.parametrize("best", [0.9, 0.1])
def test_the_better_average_is_exported_and_the_card_says_so(best):
    config = quick_config(num_steps=5, ema_decay=0.9, second_ema_decay=0.1)
    task = quick_task(config, best_bias=0.3)
    state = task.fresh_state(task.open_source("train"))

    def with_bias(tree, bias):
        layer = tree["model"]["layer"] | {"bias": jnp.full(3, bias)}
        return tree | {"model": {"layer": layer}}

    biases = {0.9: 0.5, 0.1: 0.5} | {best: 0.25}
    state = dataclasses.replace(
        state,
        ema=with_bias(state.ema, biases[0.9]),
        second_ema=with_bias(state.second_ema, biases[0.1]),
    )
    tree, card = task.export(state, task.make_validation())
    np.testing.assert_array_equal(tree["params"]["model"]["layer"]["bias"], np.full(3, 0.25))
    assert card["ema_decay"] == best
    losses = {str(decay): abs(bias - 0.3) for decay, bias in biases.items()}
    assert card["bits_per_dim_by_ema_decay"] == pytest.approx(losses)


def test_card_of_one_average_names_none():
    task = quick_task(quick_config(num_steps=5))
    state = task.fresh_state(task.open_source("train"))
    assert state.second_ema is None
    _, card = task.export(state, lambda _: pytest.fail("nothing to choose"))
    assert not {"ema_decay", "bits_per_dim_by_ema_decay"} & set(card)


# Failure


def test_rising_loss_is_divergence():
    task = quick_task(quick_config(num_steps=5))
    # High losses at the start are none, nor is a rise to what plain pixels cost.
    for loss in (30.0, 40.0, 5.0, 7.9, 4.0, 8.0):
        assert task.summarise({"loss": loss}) == f"loss {loss:.4f} bits/dim"
    with pytest.raises(DivergedError) as caught:
        task.summarise({"loss": 8.1})
    assert str(caught.value) == (
        "the loss is 8.1 bits/dim, 2.0 times the lowest so far; run again in another"
        " --workdir, with a lower train.learning_rate (or train.muon_learning_rate) or with"
        " model.dtype = float32"
    )
    fresh = quick_task(quick_config(num_steps=5))
    fresh.summarise({"loss": 6.0})
    fresh.summarise({"loss": 11.9})
    with pytest.raises(DivergedError, match=r"^the loss is 12\.1 bits/dim, 2\.0 times"):
        fresh.summarise({"loss": 12.1})
    low = quick_task(quick_config(num_steps=5))
    for loss in (2.0, 7.9):
        assert low.summarise({"loss": loss}) == f"loss {loss:.4f} bits/dim"


def test_diverging_run_leaves_no_checkpoint_of_it(tmp_path):
    config = quick_config(num_steps=40, learning_rate=3.0, clip_norm=1e9, log_every_steps=1)
    config.train.checkpoint_every_steps = 1
    task = quick_task(config)
    with pytest.raises(DivergedError, match="times the lowest so far"):
        loop.train(task, tmp_path)
    steps = [row["step"] for row in logged(tmp_path)]
    assert not (tmp_path / "params.safetensors").exists()
    kept = {int(path.name) for path in (tmp_path / "checkpoints").iterdir()}
    assert max(kept, default=0) <= max(steps)


# Weights to start from


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("exported")
    loop.train(quick_task(quick_config(num_steps=3)), workdir)
    return workdir / "params.safetensors"


def test_training_starts_from_exported_weights(exported):
    config = quick_config(num_steps=3, second_ema_decay=0.5, init_params=str(exported))
    task = quick_task(config)
    source = task.open_source("train")
    state = task.fresh_state(source)
    weights = safetensors.numpy.load_file(exported)
    assert int(state.step) == 0
    for tree in (state.params, state.ema, state.second_ema):
        found = {f"params/{name}": leaf for name, leaf in by_name(tree).items()}
        assert found.keys() == weights.keys()
        for name in weights:
            np.testing.assert_array_equal(found[name], weights[name], err_msg=name)
    config.train.init_params = ""
    fresh = by_name(task.fresh_state(source).params)
    assert not np.array_equal(fresh["model/layer/kernel"], weights["params/model/layer/kernel"])
    # Buffers that a step gives up must not be shared.
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    assert int(task.train_step(3)(state, images)[0].step) == 1


class _NoImages:
    """A source that cannot be asked for an image."""

    name = split = "none"

    def __len__(self):
        raise AssertionError

    def __getitem__(self, index):
        raise AssertionError

    def label(self, index):
        raise AssertionError(index)


def started_from(path):
    """An experiment that starts from weights at `path`, which are not there yet, and random ones for it."""
    config = quick_config(num_steps=3)
    config.model = ConfigDict(UNET)
    config.train.init_params = str(path)
    experiment = build_experiment(config)
    template = experiment.state_template()
    tree = random_like({"params": template.params, "fixed": template.fixed}, seed=0)
    return experiment, tree


def test_statistics_of_the_data_come_from_the_weights(tmp_path):
    experiment, tree = started_from(tmp_path / "params.safetensors")
    export_params(tmp_path / "params.safetensors", tree, {})
    state = experiment.fresh_state(_NoImages())
    for name in ("params", "fixed"):
        found, wanted = by_name(getattr(state, name)), by_name(tree[name])
        assert found.keys() == wanted.keys()
        for leaf in wanted:
            np.testing.assert_array_equal(found[leaf], wanted[leaf], err_msg=leaf)
    assert by_name(state.fixed)


def test_weights_of_another_model_are_refused_before_training(exported, tmp_path):
    config = quick_config(num_steps=3, init_params=str(exported))
    config.schedule.name = "learned_linear"
    with pytest.raises(InputError) as caught:
        loop.train(quick_task(config), tmp_path)
    assert str(caught.value) == (
        f"{exported}: does not hold the model that is needed: 2 tensors are missing, the first is"
        " 'params/schedule/range'"
    )
    config.train.init_params = str(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match=r"/none\.safetensors: cannot be read \(No such file"):
        loop.train(quick_task(config), tmp_path / "other")


def test_weights_of_a_network_of_the_same_shapes_are_refused(tmp_path):
    """Heads change what a network computes, and no shape; ends of the schedule may be others."""
    experiment, tree = started_from(tmp_path / "params.safetensors")
    config = experiment.config
    card = {
        "model": {**config.model.to_dict(), "heads": 1},
        "schedule": {"name": "linear", "gamma_max": 3.0},
    }
    card |= {"image_size": 8, "trained_parameters": 1}
    export_params(tmp_path / "params.safetensors", tree, card)
    with pytest.raises(UsageError) as caught:
        experiment.fresh_state(_NoImages())
    assert str(caught.value) == (
        f"train.init_params: {config.train.init_params} was made with another config: model.heads was 1,"
        " is 2. Use these values or other weights"
    )
    export_params(tmp_path / "params.safetensors", tree, card | {"model": config.model.to_dict()})
    experiment.fresh_state(_NoImages())
