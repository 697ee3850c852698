"""Configs are checked at once, and say which field to change."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import imagenet64_vdm
from diffc_jax.channel_simulation import open_trellis_reach
from diffc_jax.config import (
    base_config,
    check_config_argument,
    shrink_to_smoke,
    validate,
)
from diffc_jax.config.base import CODEC_MEMORIES, FEATURE_NETWORKS, IMAGE_METRICS
from diffc_jax.config.validation import check_image_metrics
from diffc_jax.data import SourceSpec
from diffc_jax.errors import InputError, UsageError
from diffc_jax.evaluation import measures
from diffc_jax.metrics.features import registry
from diffc_jax.models import build_model
from diffc_jax.runtime.files import read_json, write_json
from diffc_jax.runtime.run_config import check_same_model, claim_workdir, flatten
from diffc_jax.runtime.sharding import make_mesh
from tests.support.refusals import message


def changed(field, value):
    config = base_config()
    *path, name = field.split(".")
    section = config
    for part in path:
        section = section[part]
    section[name] = value
    return config


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("seed", -1, "-1 is not in [0, 4294967296)"),
        ("data.image_size", 0, "0 is not at least 1"),
        ("data.num_threads", 0, "0 is not at least 1"),
        (
            "data.eval.source",
            "rest",
            "unknown 'rest'; choose one of photos, tfds, npz, pickle, folder, tar, array_record, packed",
        ),
        (
            "data.reference.source",
            "foldr",
            "unknown 'foldr'; choose one of photos, tfds, npz, pickle, folder, tar, array_record, packed,"
            " rest",
        ),
        ("data.train.resize_filter", "lanczos", "unknown 'lanczos'; choose one of box, area"),
        ("data.train.max_images", -3, "must be 0 (all) or positive, not -3"),
        ("train.batch_size", 0, "0 is not at least 1"),
        ("train.num_steps", -5, "-5 is not at least 0"),
        ("train.num_epochs", -1.0, "-1.0 is not at least 0"),
        ("train.learning_rate", 0.0, "0.0 is not above 0.0"),
        ("train.learning_rate", math.inf, "inf is not a finite number"),
        ("train.clip_norm", -1.0, "-1.0 is not above 0.0"),
        (
            "train.lr_decay",
            "exp",
            "unknown 'exp'; choose one of constant, cosine, linear, drop, wsd",
        ),
        ("train.low_rate_emphasis", -0.5, "-0.5 is not at least 0.0"),
        ("train.ema_decay", 1.0, "1.0 is not in [0.0, 1.0)"),
        ("train.checkpoint_every_steps", 0, "0 is not at least 1"),
        ("train.eval_images", -1, "-1 is not at least 0"),
        ("eval.rate_steps", 0, "0 is not at least 1"),
        ("eval.max_images", -1, "-1 is not at least 0"),
        (
            "eval.decoders",
            ("flow", "heun"),
            "'heun' is not one of ancestral, flow, mean, kappa=K with K >= 1e-30",
        ),
        (
            "eval.decoders",
            (1.5,),
            "1.5 is not one of ancestral, flow, mean, kappa=K with K >= 1e-30",
        ),
        ("eval.decoders", (), "() must name at least one"),
        (
            "eval.decoders",
            ("mean", "mean"),
            "('mean', 'mean') must name each once",
        ),
        (
            "eval.codec_decoders",
            ("heun",),
            "'heun' is not one of ancestral, flow, mean, kappa=K with K >= 1e-30",
        ),
        ("eval.codec_decoders", ("flow", "flow"), "('flow', 'flow') must name each once"),
        ("eval.codec_memory", 7, "unknown 7; choose one of 8, 12, 14"),
        ("eval.codec_memory", 10, "unknown 10; choose one of 8, 12, 14"),
        (
            "eval.subsets",
            (2012,),
            "2012 is not a name; give a tuple of names in quotes, ('2012',)",
        ),
        (
            "baselines.targets",
            ("a",),
            "'a' is not a number; give a tuple of numbers, without quotes",
        ),
        (
            "train.gamma_range",
            ("a", "b"),
            "'a' is not a number; give a tuple of numbers, without quotes",
        ),
        (
            "schedule.name",
            "cosine",
            "unknown 'cosine'; choose one of linear, learned_linear, learned_network",
        ),
        ("schedule.gamma_min", 5.0, "5.0 is not below schedule.gamma_max = 5.0"),
    ],
)
def test_first_bad_field_is_named(field, value, text):
    assert message(lambda: validate(changed(field, value))) == f"{field}: {text}"


def test_training_has_one_duration():
    config = changed("train.num_steps", 100)
    config.train.num_epochs = 2.0
    assert message(lambda: validate(config)) == (
        "train.num_steps, train.num_epochs: set exactly one of train.num_steps, train.num_epochs,"
        " train.num_examples, train.max_seconds to a positive number"
    )
    config.train.num_steps = 0
    validate(config)


def test_learned_schedules_minimise_the_bound():
    config = changed("train.low_rate_emphasis", 0.5)
    validate(config)
    config.schedule.name = "learned_linear"
    assert message(lambda: validate(config)) == (
        "train.low_rate_emphasis: 0.5 needs schedule.name = linear; learned schedules minimise the ELBO"
    )


def test_levels_are_within_the_schedule():
    for first, last in ((6.0, -8.0), (2.0, -13.3), (-8.0, 2.0)):
        config = base_config()
        config.eval.first_gamma, config.eval.last_gamma = first, last
        assert message(lambda config=config: validate(config)) == (
            f"eval.first_gamma, eval.last_gamma: {first}, {last} are not in decreasing order within"
            " (-13.3, 5.0], the range of the schedule"
        )


def test_codec_needs_images_that_can_carry_its_messages():
    config = changed("data.image_size", 3)
    assert message(lambda: validate(config)) == (
        "eval.codec_decoders: the codec needs images of 4x4 or more, and data.image_size is 3; use ()"
    )
    config.eval.codec_decoders = ()
    validate(config)
    validate(changed("data.image_size", 4))


@pytest.mark.parametrize(
    ("low", "fields"),
    [
        (1, "data.image_size data.num_threads train.batch_size train.accumulation_steps"),
        (1, "train.steps_per_call train.keep_checkpoints train.log_every_steps"),
        (1, "train.eval_every_steps train.checkpoint_every_steps eval.batch_size eval.rate_steps"),
        (1, "eval.num_levels eval.bound_times eval.ancestral_steps eval.flow_steps"),
        (1, "eval.sample_steps"),
        (0, "train.num_steps train.num_epochs train.num_examples train.max_seconds"),
        (0, "train.eval_images train.warmup_steps train.weight_decay eval.rate_evaluations"),
        (0, "eval.max_images eval.grid_images eval.samples"),
    ],
)
def test_least_values(low, fields):
    for field in fields.split():
        group, name = field.split(".")
        value = type(base_config()[group][name])(low - 1)
        text = f"{field}: {value} is not at least {low}"
        assert message(lambda field=field, value=value: validate(changed(field, value))) == text


def test_defaults_and_their_smoke_are_valid():
    config = base_config()
    config.data.reference.source = "photos"
    validate(config)
    shrink_to_smoke(config)
    validate(config)
    assert SourceSpec(image_size=config.data.image_size, **config.data.eval).image_size == 16
    assert config.data.reference.source == ""  # it may be large, and is not looked at


def test_smoke_network_of_the_paper_listens_to_gamma():
    config = imagenet64_vdm.get_config("smoke")
    size = config.data.image_size
    model = build_model(config.model.to_dict(), (size, size, 3))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), None))["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.3 * rng.normal(size=leaf.shape).astype(np.float32), shapes)
    z = jnp.tile(jnp.asarray(rng.normal(size=(1, size, size, 3)), jnp.float32), (2, 1, 1, 1))
    first, second = model.eps_hat({"params": params}, z, jnp.array([-8.0, 2.0]))
    assert float(jnp.abs(first - second).max()) > 0.5


def test_misspelt_field_of_a_config_file_is_an_error():
    with pytest.raises(AttributeError, match='Did you mean "batch_size"'):
        base_config().train.batchsize = 3


def test_argument_behind_the_colon():
    check_config_argument("")
    check_config_argument("big", known=("smoke", "big"))
    assert message(lambda: check_config_argument("big")) == (
        "--config: unknown argument 'big' behind the colon; it may be smoke"
    )


# config.json


def test_a_run_may_go_on_longer_but_not_differently(tmp_path):
    config = base_config()
    claim_workdir(config, tmp_path)
    longer = config.copy_and_resolve_references()
    longer.train.num_steps = 1000
    longer.eval.batch_size = 7
    longer.data.eval.max_images = 3
    longer.data.train.path = "moved"
    claim_workdir(longer, tmp_path)
    assert flatten(longer.to_dict())["train.num_steps"] == 1000
    differently = longer.copy_and_resolve_references()
    differently.train.batch_size = 3
    with differently.unlocked():
        differently.model = ConfigDict({"name": "unet", "widths": (8, 16)})
    assert message(lambda: claim_workdir(differently, tmp_path)) == (
        f"--workdir {tmp_path}: holds a run with another config: model.name was 'gaussian', is"
        " 'unet'; model.widths was 'absent', is [8, 16]; train.batch_size was 64, is 3."
        " Use these values or another --workdir"
    )
    # The model is what evaluation needs; how it was trained may change.
    same_model = longer.copy_and_resolve_references()
    same_model.train.batch_size = 3
    check_same_model(same_model, tmp_path)
    with pytest.raises(UsageError, match=r"model\.name was 'gaussian', is 'unet'"):
        check_same_model(differently, tmp_path)


def test_runs_from_before_a_field_existed_did_as_its_default_does(tmp_path):
    config = base_config()
    claim_workdir(config, tmp_path)
    recorded = read_json(tmp_path / "config.json")
    del recorded["train"]["low_rate_emphasis"]
    write_json(tmp_path / "config.json", recorded)
    claim_workdir(config, tmp_path, write=False)
    config.train.low_rate_emphasis = 0.5
    with pytest.raises(UsageError, match=r"train\.low_rate_emphasis was 0\.0, is 0\.5"):
        claim_workdir(config, tmp_path)


def test_tuples_are_lists_in_the_file(tmp_path):
    config = base_config()
    config.model = ConfigDict({"name": "unet", "widths": (8, 16)})
    claim_workdir(config, tmp_path)
    claim_workdir(config, tmp_path)


def test_folder_without_a_run(tmp_path):
    assert message(lambda: check_same_model(base_config(), tmp_path), InputError) == (
        f"--workdir {tmp_path}: holds no trained model; run experiments/train.py with the same"
        " flags first"
    )


def test_batches_are_divided_into_equal_parts():
    config = changed("train.accumulation_steps", 3)
    config.train.batch_size = 128
    assert message(lambda: validate(config)) == (
        "train.batch_size: 128 cannot be divided into train.accumulation_steps = 3 equal parts"
    )


@pytest.mark.parametrize(("metric", "least"), IMAGE_METRICS.items())
def test_metrics_that_need_larger_images_are_refused_before_any_work(metric, least):
    """Where the metric itself would be, after the first batch."""
    config = changed("eval.image_metrics", (metric,))
    config.data.image_size = least
    check_image_metrics(config)
    config.data.image_size = least - 1
    validate(config)  # training takes none
    assert message(lambda: check_image_metrics(config)) == (
        f"eval.image_metrics: {metric} needs images of {least}x{least} or more, and data.image_size is"
        f" {least - 1}; leave it out"
    )
    measure = measures.Measures("", "", (metric,), (), make_mesh(), 1)._metrics[metric]
    images = np.zeros((1, least, least, 3), np.uint8)
    assert measure(images, images) == pytest.approx(float(metric == "ms_ssim"))
    smaller = images[:, 1:, 1:]
    with pytest.raises(InputError, match=f"images: {least - 1}x{least - 1} is smaller than the"):
        measure(smaller, smaller)


def test_measures_that_configs_may_name_are_those_that_exist():
    assert set(IMAGE_METRICS) == measures.COLUMNS.keys()
    assert open_trellis_reach.MEMORIES == CODEC_MEMORIES
    assert set(FEATURE_NETWORKS) == registry._LOADERS.keys()
