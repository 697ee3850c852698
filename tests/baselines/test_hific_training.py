"""HiFiC through the project's own loop: configs, stages, resuming, files and the rows they make."""

import dataclasses
import importlib.util
import json
import pathlib

import jax
import numpy as np
import optax
import pytest

from diffc_jax import commands
from diffc_jax import config as config_lib
from diffc_jax.baselines.codecs import CODECS
from diffc_jax.baselines.evaluate import evaluate_baselines
from diffc_jax.baselines.hific import config as hific_config
from diffc_jax.baselines.hific.codec import find_runs, load_run
from diffc_jax.baselines.hific.task import build_hific_task, learning_rates
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation.results import read_rate_points
from diffc_jax.runtime import sharding
from diffc_jax.runtime.checkpoints import Checkpoints
from diffc_jax.runtime.export import export_params
from diffc_jax.studies.reproduction import baseline_configs
from diffc_jax.training.experiment import open_source
from diffc_jax.training.meter import DivergedError
from tests.support.run_files import logged

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"


def load_config(name, argument=""):
    spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


def smoke(argument="smoke", **train):
    config = load_config("hific64", argument)
    for field, value in train.items():
        config.train[field] = value
    return config


def params(workdir):
    return load_run(workdir).codec._params


@pytest.fixture(scope="module")
def hific(tmp_path_factory):
    """A finished smoke run: two updates without discriminator and two with it."""
    workdir = tmp_path_factory.mktemp("hific")
    commands.train(smoke(), workdir)
    return workdir


@pytest.fixture(scope="module")
def hyperprior(tmp_path_factory):
    """A finished smoke run of the hyper-prior."""
    workdir = tmp_path_factory.mktemp("hyperprior")
    commands.train(smoke("0.7bpp,hyperprior,smoke"), workdir)
    return workdir


def test_arguments_of_the_config():
    config = load_config("hific64_small", "0.8bpp")
    assert (config.model.name, config.hific.target_bpp) == ("hific", 0.8)
    config = load_config("hific64", "1.25bpp,hyperprior")
    assert (config.model.name, config.hific.target_bpp) == ("hyperprior", 1.25)
    assert config.hific.adversarial_share == 0.0
    for name in ("hific64", "hific64_small"):
        for argument in ("", "smoke", "0.3bpp,smoke", "hyperprior", "hyperprior,smoke"):
            commands.validate(load_config(name, argument))


@pytest.mark.parametrize("argument", ["0.5", "bpp", "nanbpp", "0.5bpp,fast"])
def test_unknown_arguments(argument):
    with pytest.raises(UsageError) as error:
        load_config("hific64", argument)
    word = argument.split(",")[-1]
    assert str(error.value) == (
        f"--config: unknown argument {word!r} behind the colon; it may be smoke, hyperprior, a rate like"
        " 0.5bpp"
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "hific.target_bpp",
            40.0,
            "hific.target_bpp: 40.0 is not in (0, 34.5], what the latent can carry; use fewer"
            " model.downsamplings or more model.latent_channels",
        ),
        ("hific.target_bpp", 0.0, "hific.target_bpp: 0.0 must be positive and finite"),
        ("hific.early_share", 1.0, "hific.early_share: 1.0 is not in [0.0, 1.0)"),
        ("hific.adversarial_share", -0.5, "hific.adversarial_share: -0.5 is not in [0.0, 1.0)"),
        (
            "hific.adversarial_learning_rate",
            0.0,
            "hific.adversarial_learning_rate: 0.0 is not above 0.0",
        ),
        (
            "hific.weight_above",
            0.001,
            "hific.weight_below: 0.015625 must be positive and less than weight_above, 0.001",
        ),
        ("model.downsamplings", 2, "model.downsamplings: 2; choose 3 or 4"),
        ("model.width", 0.0, "model.width: 0.0 must be positive"),
        (
            "data.image_size",
            60,
            "data.image_size: 60x60; sides must be multiples of 8",
        ),
        (
            "data.image_size",
            24,
            "data.image_size: 24 is too small for LPIPS, which HiFiC is trained with; use 31 or more",
        ),
        (
            "train.ema_decay",
            0.9,
            "train.ema_decay: 0.9 must be 0.0 for hific, which has no such thing",
        ),
        (
            "train.accumulation_steps",
            2,
            "train.accumulation_steps: 2 must be 1 for hific, which has no such thing",
        ),
        (
            "train.low_rate_emphasis",
            0.5,
            "train.low_rate_emphasis: 0.5 must be 0.0 for hific, which has no such thing",
        ),
    ],
)
def test_fields_are_checked(field, value, message):
    config = load_config("hific64")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UsageError) as error:
        commands.validate(config)
    assert str(error.value) == message


def test_networks_need_the_fields_of_the_baseline():
    config = config_lib.base_config()
    config.model.name = "hific"
    with pytest.raises(UsageError) as error:
        commands.validate(config)
    assert str(error.value) == (
        "model.name: hific needs the fields of config.hific; start from configs/hific64.py"
    )
    config = load_config("hific64", "hyperprior")
    config.hific.adversarial_share = 0.5
    with pytest.raises(UsageError) as error:
        commands.validate(config)
    assert str(error.value) == (
        "hific.adversarial_share: 0.5 must be 0, a hyper-prior has no discriminator"
    )


def test_stages_follow_each_other(hific):
    rows = {row["step"]: row for row in logged(hific) if "train/loss" in row}
    assert sorted(rows) == [2, 4]
    with_discriminator = {"train/discriminator_loss", "train/gan", "train/mse_over_plain"}
    assert not rows[2].keys() & with_discriminator
    assert rows[4].keys() >= with_discriminator
    validation = [row for row in logged(hific) if "eval/bpp" in row]
    assert [row["step"] for row in validation] == [2, 4]
    assert validation[0].keys() >= {"eval/psnr", "eval/lpips"}
    card = json.loads((hific / "params.json").read_text())
    assert card["steps"] == 4
    assert card["images_seen"] == 32
    assert card["train_cpu_seconds"] > 0
    template = build_hific_task(smoke()).state_template()
    counts = {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for name, tree in template.params.items()
    }
    assert card["trained_parameters"] == counts["autoencoder"]
    assert card["discriminator_parameters"] == counts["discriminator"] > 0


def test_learning_rates_start_again_with_the_discriminator():
    """Every stage has the schedule of a run of its own, the discriminator that of the second."""
    config = smoke(learning_rate=1.0, warmup_steps=0)
    config.hific.adversarial_learning_rate = 0.5
    autoencoder, discriminator = learning_rates(config, (10, 20))
    second = [0.5] * 10 + [0.05] * 10
    assert [float(autoencoder(step)) for step in range(30)] == pytest.approx(
        [1.0] * 5 + [0.1] * 5 + second
    )
    assert [float(discriminator(step)) for step in range(20)] == pytest.approx(second)


def test_checkpoints_hold_both_networks(hific):
    """The loop that goes on from them is tested with the other models."""
    checkpoints = Checkpoints(hific)
    state, progress = checkpoints.restore(build_hific_task(smoke()).state_template())
    checkpoints.close()
    assert progress.keys() == {"num_images", "images", "seconds", "cpu_seconds"}
    counts = {
        name: {int(count) for _, count in optax.tree.get_all_with_path(own, "count")}
        for name, own in state.opt_state.items()
    }
    assert counts == {"autoencoder": {4}, "discriminator": {2}}
    assert np.isfinite(state.plain_mse)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(state.spectral))
    jax.tree.map(np.testing.assert_array_equal, state.params["autoencoder"], params(hific))


def test_devices_change_nothing():
    """Updates on eight devices, with parameters split over two, are those on one."""
    config = smoke("hyperprior,smoke")
    config.model.width = 1 / 4
    states = []
    for count, fsdp in ((1, 1), (8, 2)):
        mesh = jax.sharding.Mesh(
            np.array(jax.devices()[:count]).reshape(-1, fsdp), ("data", "fsdp")
        )
        task = dataclasses.replace(build_hific_task(config), mesh=mesh)
        source = open_source(config, "train")
        state = task.fresh_state(source)
        pixels = np.stack([source[i] for i in range(8)])
        step = sharding.compile_step(task.train_steps(2)(1), task.state_template(), mesh)
        for _ in range(2):
            batch = sharding.put_batch(mesh, {"image": pixels})["image"]
            state, values = step(state, batch)
        split = [leaf for leaf in jax.tree.leaves(state.params) if any(leaf.sharding.spec)]
        assert bool(split) == (fsdp > 1)
        states.append(jax.device_get((state.params, values)))
    # Adam moves parameters by 1e-4 whose gradients are hardly more than rounding.
    (one, one_values), (eight, eight_values) = states
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=4e-4), one, eight)
    for name, value in one_values.items():
        np.testing.assert_allclose(value, eight_values[name], rtol=2e-3, err_msg=name)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"mse_over_plain": 4.1},
            "the stage with discriminator has diverged: the squared error is 4.1 times that of the stage"
            " before; ",
        ),
        (
            {"discriminator_loss": 0.002},
            "the stage with discriminator has diverged: it tells all reconstructions apart (loss 0.002) and"
            " teaches no more; ",
        ),
    ],
)
def test_divergence_is_reported(changed, message):
    task = build_hific_task(smoke())
    means = {"bpp": 0.5, "mse": 100.0, "discriminator_loss": 1.2, "mse_over_plain": 1.1}
    assert task.summarise(means) == "0.500 bpp, 28.13 dB, discriminator 1.200"
    with pytest.raises(DivergedError) as error:
        task.summarise(means | changed)
    assert str(error.value) == (
        f"{message}run again in another --workdir with a lower hific.adversarial_learning_rate or"
        " hific.adversarial_share"
    )


def test_rows_of_trained_baselines(hific, hyperprior, tmp_path):
    config = smoke()
    config.baselines.codecs = ("jpeg_420",)
    config.baselines.trained = f"{hific}, {hyperprior.parent}/hyperprior*"
    config.eval.image_metrics = ("lpips_alex",)
    evaluate_baselines(config, tmp_path)
    points = read_rate_points(tmp_path / "eval" / "rd.csv")
    ours = {p.method: p for p in points if p.method != "jpeg"}
    assert sorted(ours) == ["hific", "hyperprior"]
    assert len(points) == 2 + len(CODECS["jpeg_420"].qualities)
    for workdir in (hific, hyperprior):
        run = load_run(workdir)
        source = open_source(config, "eval")
        images = np.stack([source[i] for i in range(8)])
        files, bits = run.codec.encode(images)
        point = ours[run.identity["method"]]
        assert point.bpp == np.mean([8 * len(file) for file in files]) / 32**2
        assert point.bpp_estimate == pytest.approx(bits.mean() / 32**2)
        assert point.bpp_headerless == pytest.approx(point.bpp_estimate, rel=0.05)
        errors = (run.codec.decode(files).astype(np.float64) - images) ** 2
        assert point.mse == pytest.approx(errors.mean())
        card = json.loads((workdir / "params.json").read_text())
        assert point.level == card["hific"]["target_bpp"]
        assert point.trained_parameters == card["trained_parameters"]
        assert point.images_seen == 32
        assert point.lpips is not None
    kept = np.load(tmp_path / "eval" / "reconstructions_baselines.npz")
    assert kept["hific, width 0.0625/images"].shape == (2, 1, 32, 32, 3)


def test_a_run_is_evaluated_by_its_files(hific):
    config = smoke()
    commands.evaluate(config, hific)
    (point,) = read_rate_points(hific / "eval" / "rd.csv")
    assert (point.method, point.rate_kind, point.level, point.n_images) == ("hific", "file", 0.5, 8)
    config.hific.target_bpp = 0.75
    with pytest.raises(UsageError) as error:
        commands.evaluate(config, hific)
    assert "hific.target_bpp was 0.5, is 0.75" in str(error.value)
    config = smoke()
    config.eval.params = str(hific / "params.safetensors")
    with pytest.raises(UsageError) as error:
        commands.evaluate(config, hific)
    assert str(error.value) == "eval.params: hific is evaluated from --workdir alone"


def test_reproduction_trains_both_at_every_target():
    config = load_config("imagenet64_small")
    config.seed = 7
    configs = baseline_configs(config)
    assert list(configs) == [
        *("hyperprior_0.4bpp", "hific_0.4bpp", "hyperprior_0.8bpp"),
        *("hific_0.8bpp", "hyperprior_1.6bpp", "hific_1.6bpp"),
    ]
    own = configs["hific_1.6bpp"]
    assert (own.model.name, own.hific.target_bpp, own.seed) == ("hific", 1.6, 7)
    assert own.data == config.data
    named = load_config("hific64_small", "1.6bpp")
    assert (own.train, own.model, own.hific) == (named.train, named.model, named.hific)
    config.baselines.targets = (400.0,)
    with pytest.raises(UsageError, match=r"^hific\.target_bpp: 400\.0 is not in"):
        baseline_configs(config)


def test_nothing_to_measure(tmp_path):
    config = smoke()
    config.baselines.codecs = ()
    with pytest.raises(UsageError) as error:
        evaluate_baselines(config, tmp_path)
    assert str(error.value) == (
        "baselines.codecs, baselines.trained: both are empty, there is nothing to measure"
    )


def test_runs_named_twice_are_measured_once(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("a")
    runs = [tmp_path / "b", tmp_path / "a"]
    assert find_runs(f"{tmp_path}/b,{tmp_path}/*,{tmp_path}/a/") == runs
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run[1]").mkdir()
    assert find_runs("~/a,~/run[1]") == [tmp_path / "a", tmp_path / "run[1]"]


def test_runs_that_cannot_be_used(hific, tmp_path):
    with pytest.raises(InputError) as error:
        find_runs(f"{tmp_path}/none*")
    assert str(error.value) == f"baselines.trained: {tmp_path}/none*: there is no such folder"
    with pytest.raises(InputError) as error:
        load_run(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: there is no params.safetensors; experiments/train.py writes it when it is done"
    )
    card = json.loads((hific / "params.json").read_text())
    tree = {"autoencoder": params(hific)}
    cases = (
        (tree, card | {"model": {"name": "unet"}}, "holds unet, which is no HiFiC baseline"),
        (
            tree,
            {},
            "params.json: object missing required field `model`; is it the card of the weights beside it?",
        ),
        (
            tree,
            card | {"model": {"name": "hific", "width": "1"}},
            "params.json: model.width: expected `float`, got `str`; is it the card of the weights beside it?",
        ),
        (jax.tree.map(lambda leaf: leaf * np.nan, tree), card, "holds NaN or infinity"),
        (
            tree,
            card | {"model": card["model"] | {"width": 0.125}},
            "does not hold the model that is needed",
        ),
    )
    for weights, fields, message in cases:
        export_params(tmp_path / "params.safetensors", weights, fields)
        with pytest.raises(InputError) as error:
            load_run(tmp_path)
        assert str(error.value).startswith(str(tmp_path))
        assert message in str(error.value)


def test_images_must_fit_the_latent(hific):
    images = np.zeros((1, 20, 32, 3), np.uint8)
    with pytest.raises(UsageError, match="image size: 20x32; sides must be multiples of 8"):
        load_run(hific).code(images, np.arange(1), on_files=lambda count: None)


def test_only_hific_names_are_baselines():
    assert hific_config.is_hific(load_config("hific64"))
    assert not hific_config.is_hific(config_lib.base_config())
