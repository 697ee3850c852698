"""Several training sources in a config: what they may be, how they are overridden, recorded and resumed."""

import importlib
import json
import pathlib

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import imagenet64_h100
from diffc_jax.cli import parse_flags
from diffc_jax.config import (
    base_config,
    set_training_sources,
    source_config,
    training_source,
    validate,
)
from diffc_jax.config.sources import batch_composition, clean_source, plain, training_sources
from diffc_jax.runtime.files import read_json
from diffc_jax.runtime.run_config import claim_workdir
from diffc_jax.studies.channel_comparison.config import validate as validate_channels
from diffc_jax.studies.gaussian_analysis.config import analysis_config
from diffc_jax.studies.gaussian_analysis.config import validate as validate_analysis
from diffc_jax.training import loop
from tests.support.processes import ROOT, run_program
from tests.support.quick_training import quick_config, quick_task
from tests.support.refusals import message


def mixed(*sources, **train):
    """A config with sources given by weight, `min_gamma` and fields; `train` are fields of its training."""
    config = base_config()
    config.train.update(train)
    if sources:
        set_training_sources(config, *(training_source(*source) for source in sources))
    return config


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            mixed((0.5,), (0.4,)),
            "data.train: the weights 0.5, 0.4 add up to 0.9, not to 1; they are shares of a batch",
        ),
        (mixed((1.0,), (0.0,)), "data.train[1].weight: 0.0 is not above 0.0"),
        (mixed((1.5,), (-0.5,)), "data.train[1].weight: -0.5 is not above 0.0"),
        (
            mixed((0.5,), (0.5, 5.0)),
            "data.train[1].min_gamma: 5.0 is outside the noise levels that are trained, [-13.3, 5.0)",
        ),
        (
            mixed((0.5, -14.0), (0.5,)),
            "data.train[0].min_gamma: -14.0 is outside the noise levels that are trained, [-13.3, 5.0)",
        ),
        (
            mixed((0.5,), (0.5, -9.0), gamma_range=(-8.0, 5.0)),
            "data.train[1].min_gamma: -9.0 is outside the noise levels that are trained, [-8.0, 5.0)",
        ),
        (
            mixed((0.5, -3.0), (0.5, -5.0)),
            "data.train: every source has a min_gamma, so nothing teaches the levels below; leave it"
            " out for at least one",
        ),
        (
            mixed((0.99,), (0.01,), batch_size=32),
            "data.train[1].weight: 0.01 of train.batch_size = 32 is less than one image; raise one of"
            " them",
        ),
        (
            mixed((0.5,), (0.5,), num_epochs=2.0),
            "train.num_epochs: is not defined for several sources of data.train; set train.num_steps"
            " or train.num_examples",
        ),
        *(
            (
                mixed(gamma_range=wrong),
                f"train.gamma_range: {wrong} is not an increasing pair within the schedule's"
                " [-13.3, 5.0]; use () for all noise levels",
            )
            for wrong in ((1.0,), (2.0, -2.0), (0.0, 0.0), (-14.0, 0.0), (0.0, 6.0))
        ),
        (mixed(optimizer="moun"), "train.optimizer: unknown 'moun'; choose one of adamw, muon"),
        (mixed(muon_learning_rate=0.0), "train.muon_learning_rate: 0.0 is not above 0.0"),
        (mixed(second_ema_decay=1.0), "train.second_ema_decay: 1.0 is not in [0.0, 1.0)"),
        (mixed(decay_fraction=1.0), "train.decay_fraction: 1.0 is not in [0.0, 1.0)"),
        (mixed(steps_per_call=0), "train.steps_per_call: 0 is not at least 1"),
        (mixed(max_seconds=-1.0), "train.max_seconds: -1.0 is not at least 0"),
        (
            mixed(max_seconds=90.0, lr_decay="cosine"),
            "train.lr_decay: cosine needs to know the number of steps, which train.max_seconds = 90"
            " leaves open; use wsd or constant",
        ),
    ],
)
def test_first_bad_field_is_named(config, text):
    assert message(lambda: validate(config)) == text


def test_what_is_no_source_is_named():
    config = mixed()
    with config.data.ignore_type():
        config.data.train = ("x",)
    assert message(lambda: validate(config)) == (
        "data.train: 'x' is not a source; set fields of the sources, as data.train[0].path"
    )


def test_placement_is_one_of_three():
    config = base_config()
    config.data.placement = "gpu"
    assert message(lambda: validate(config)) == (
        "data.placement: unknown 'gpu'; choose one of host, device, auto"
    )


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (mixed((0.5,), (0.5, -3.0)), "data.train[1].min_gamma"),
        (mixed(gamma_range=(-3.0, 0.0)), "train.gamma_range"),
    ],
)
def test_noise_levels_have_to_stay_where_they_are(config, field):
    validate(config)
    config.schedule.name = "learned_linear"
    assert message(lambda: validate(config)) == (
        f"{field}: needs schedule.name = linear; learned_linear moves noise levels"
    )


def test_sources_of_a_mixture_have_weights():
    config = base_config()
    set_training_sources(config, training_source(0.5), source_config())
    assert message(lambda: validate(config)) == (
        "data.train[1].weight: is missing; make the source with training_source"
    )
    set_training_sources(config)
    assert message(lambda: validate(config)) == (
        "data.train: is empty; give one source, or a tuple of several"
    )


def test_mixtures_that_can_be_used():
    validate(mixed((0.3,), (0.7, -3.0)))
    validate(mixed((1.0,)))
    validate(mixed((1 / 3,), (1 / 3,), (1 / 3,)))
    validate(mixed((0.5,), (0.5, -8.0), gamma_range=(-8.0, 5.0)))
    validate(mixed(gamma_range=(-13.3, 5.0)))
    for argument in ("", "one_source", "smoke"):
        validate(imagenet64_h100.get_config(argument))


@pytest.mark.parametrize(
    ("weights", "batch_size", "counts"),
    [
        ((1.0,), 7, (7,)),
        ((0.5, 0.15, 0.35), 256, (128, 38, 90)),
        ((1 / 3, 1 / 3, 1 / 3), 8, (3, 3, 2)),
        ((0.1, 0.9), 10, (1, 9)),
        ((0.7, 0.3), 10, (7, 3)),
        ((0.28, 0.72), 25, (7, 18)),
        # Within the tolerance of their sum.
        ((0.5005, 0.5004), 4096, (2048, 2048)),
        ((0.4995, 0.4996), 4096, (2048, 2048)),
        ((0.3333, 0.3333, 0.3333), 65536, (21846, 21845, 21845)),
    ],
)
def test_weights_are_rounded_to_whole_images(weights, batch_size, counts):
    config = mixed(*((weight,) for weight in weights), batch_size=batch_size)
    assert batch_composition(config) == counts
    assert sum(counts) == batch_size


def test_one_source_is_the_whole_batch():
    config = base_config()
    assert batch_composition(config) == (64,)
    assert training_sources(config) == (config.data.train,)


def test_models_are_fitted_to_the_first_clean_source():
    config = base_config()
    sources = (
        training_source(0.5, min_gamma=-3.0, path="jpegs"),
        training_source(0.2, path="clean"),
        training_source(0.3, path="other"),
    )
    set_training_sources(config, *sources)
    assert clean_source(config) == source_config(path="clean")


def test_plain_config_is_dicts_and_tuples():
    config = plain(mixed((0.25, None), (0.75, -3.0)))
    assert type(config["data"]["train"]) is tuple
    assert type(config["data"]["train"][1]) is dict
    assert [source["min_gamma"] for source in config["data"]["train"]] == [None, -3.0]
    assert plain(ConfigDict({"a": [1, ({"b": 2.0},)], "c": "x"})) == {
        "a": (1, ({"b": 2.0},)),
        "c": "x",
    }
    assert json.loads(json.dumps(config))["data"]["train"][0]["weight"] == 0.25


@pytest.mark.parametrize("field", ["train", "eval", "reference", "train[1]"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("path", "/my/photos"), ("name", "mine"), ("resize", "crop")),
        *(("non_rgb", "convert"), ("skip_corrupt", True)),
    ],
)
def test_fields_that_a_source_does_not_use_are_refused(field, name, value):
    config = mixed((0.5,), (0.5,)) if field == "train[1]" else base_config()
    source = config.data.train[1] if field == "train[1]" else config.data[field]
    source[name] = value
    used_by = "an empty source" if field == "reference" else "source=photos"
    assert message(lambda: validate(config)) == (
        f"data.{field}.{name}: {value!r} is not used by {used_by}; set source to what has it, or"
        f" {name} to {source_config()[name]!r}"
    )
    if field == "reference":
        source.source = "folder"
    else:
        source[name] = source_config()[name]
    validate(config)


@pytest.mark.parametrize("source", ["npz", "pickle", "packed"])
def test_pixels_are_not_decoded(source):
    for name, value in (("skip_corrupt", True), ("non_rgb", "convert"), ("max_pixels", 5)):
        config = base_config()
        config.data.eval.source, config.data.eval[name] = source, value
        assert message(lambda config=config: validate(config)).startswith(
            f"data.eval.{name}: {value!r} is not used by source={source};"
        )


def test_no_source_has_no_split_or_number_of_images():
    for name, value in (("split", "eval"), ("max_images", 5)):
        config = base_config()
        config.data.reference[name] = value
        assert message(lambda config=config: validate(config)).startswith(
            f"data.reference.{name}: {value!r} is not used by an empty source"
        )


def test_the_analysis_refuses_unused_fields_too():
    config = analysis_config()
    config.source.images.path = "/my/photos"
    assert message(lambda: validate_analysis(config)).startswith(
        "source.images.path: '/my/photos' is not used by source=photos"
    )


CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parents[2] / "configs").glob("*.py")
    if path.stem != "channel_simulation"  # which has no images
)


@pytest.mark.parametrize("argument", ["", "smoke"])
@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_set_no_unused_field(name, argument):
    config = importlib.import_module(f"configs.{name}").get_config(argument)
    check = {"channel_simulation": validate_channels, "gaussian": validate_analysis}
    check.get(name, validate)(config)


# The command line


def test_fields_of_one_source_are_overridden_and_printed(tmp_path):
    flags = (
        "--config=configs/imagenet64_h100.py",
        f"--workdir={tmp_path / 'run'}",
        "--config.data.train[1].path=mini84*",
        "--config.data.train[2].min_gamma=-2.5",
        "--config.data.train[0].weight=0.5",
        "--dry_run",
    )
    done = run_program("experiments/train.py", *flags)
    assert done.returncode == 0, done.stderr
    sources = json.loads(done.stdout)["data"]["train"]
    assert [source["path"] for source in sources] == ["", "mini84*", ""]
    assert [source["min_gamma"] for source in sources] == [None, -5.0, -2.5]
    assert not (tmp_path / "run").exists()


def test_bad_field_of_one_source_is_one_line(tmp_path):
    flags = (
        "--config=configs/imagenet64_h100.py",
        f"--workdir={tmp_path / 'run'}",
        "--config.data.train[1].weight=0.2",
    )
    done = run_program("experiments/train.py", *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "train.py: error: data.train: the weights 0.5, 0.2, 0.35 add up to 1.05, not to 1; they are"
        " shares of a batch\n"
    )


SINGLE, MIXTURE = "configs/quickstart.py", "configs/imagenet64_h100.py"


@pytest.mark.parametrize(
    ("file", "overrides", "text"),
    [
        (
            MIXTURE,
            ["data.train[0].path=x", "data.train.path=x"],
            "--config.data.train.path: data.train is a mixture of 3 sources; use data.train[0].path",
        ),
        (
            MIXTURE,
            ["data.train[2].path=x", "data.train[3].path=x"],
            "--config.data.train[3].path: data.train has 3 parts, of which the first is [0]",
        ),
        (
            SINGLE,
            ["train.num_steps=1", "data.train[0].path=x"],
            "--config.data.train[0].path: data.train is not several; use data.train.path",
        ),
        (
            SINGLE,
            ["data.train.path=x", "eval.subsets.x=1"],
            "--config.eval.subsets.x: eval.subsets is a tuple and has no fields; set eval.subsets",
        ),
    ],
)
def test_overrides_with_and_without_a_number(file, overrides, text, monkeypatch):
    argv = ["train.py", f"--config={file}", *(f"--config.{one}" for one in overrides)]
    monkeypatch.setattr("sys.argv", argv)
    monkeypatch.chdir(ROOT)
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    assert message(lambda: parse_flags(argv, values)) == text


# Runs


def quick_mixture(weight=0.75, **train):
    config = quick_config(**{"num_steps": 2} | train)
    set_training_sources(
        config,
        training_source(weight, max_images=9),
        training_source(1.0 - weight, min_gamma=-4.0, max_images=5),
    )
    validate(config)
    return config


def test_mixture_is_recorded_and_resumed_from_another_place_but_not_otherwise(tmp_path):
    config = quick_mixture()
    claim_workdir(config, tmp_path)
    recorded = read_json(tmp_path / "config.json")
    assert [source["weight"] for source in recorded["data"]["train"]] == [0.75, 0.25]
    moved = quick_mixture(num_steps=4, steps_per_call=2)
    moved.data.placement = "device"
    moved.data.train[1].path = "elsewhere"
    claim_workdir(moved, tmp_path)
    assert message(lambda: claim_workdir(quick_mixture(weight=0.5), tmp_path)) == (
        f"--workdir {tmp_path}: holds a run with another config: data.train[0].weight was 0.75, is"
        " 0.5; data.train[1].weight was 0.25, is 0.5. Use these values or another --workdir"
    )
    for field, value in (("min_gamma", -3.0), ("max_images", 4), ("source", "folder")):
        other = quick_mixture()
        other.data.train[1][field] = value
        assert f"config: data.train[1].{field} was " in message(
            lambda other=other: claim_workdir(other, tmp_path)
        )
    one = quick_config(num_steps=2)
    assert "data.train[0].weight was 0.75, is 'absent'" in message(
        lambda: claim_workdir(one, tmp_path)
    )


def test_run_names_the_source_and_counts_the_images(tmp_path):
    config = quick_mixture()
    config.data.train[1].source = "folder"
    assert message(lambda: loop.train(quick_task(config), tmp_path)) == (
        "data.train[1].path: is empty; source=folder needs a folder"
    )
    assert not list(tmp_path.iterdir())

    loop.train(quick_task(quick_mixture()), tmp_path)
    card = read_json(tmp_path / "params.json")
    assert (card["steps"], card["images_seen"]) == (2, 16)
    fewer = quick_mixture(num_steps=3)
    claimed = read_json(tmp_path / "config.json")
    claimed["data"]["train"][1]["max_images"] = fewer.data.train[1].max_images = 4
    (tmp_path / "config.json").write_text(json.dumps(claimed))
    assert message(lambda: loop.train(quick_task(fewer), tmp_path)) == (
        "data.train: has 13 images now and had 14 when the run was saved; its order cannot be"
        " continued. Use the old data or another --workdir"
    )
