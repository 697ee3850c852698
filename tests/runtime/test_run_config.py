"""What belongs to a run and what to its evaluation, and that weights are those of the config."""

import pathlib

import pytest

from configs import hific64_small, imagenet64_h100, imagenet64_vdm
from diffc_jax.config import base_config, set_training_sources, source_config, training_source
from diffc_jax.config.sources import plain
from diffc_jax.models import default_fields
from diffc_jax.runtime.files import read_json, write_json
from diffc_jax.runtime.run_config import (
    as_trained,
    check_same_model,
    check_same_weights,
    claim_workdir,
    flatten,
    is_trained,
)
from tests.support.refusals import message

WEIGHTS = pathlib.Path("w.safetensors")

# Fields that may change, with all that is below them; every other field belongs to the training.
FREE = {
    *("mesh", "eval", "baselines", "data.eval", "data.reference"),
    *(
        "data.num_threads",
        "data.placement",
        "data.train.path",
        "data.train.max_pixels",
        "model.remat",
    ),
    *("train.num_steps", "train.num_epochs", "train.num_examples", "train.max_seconds"),
    *("train.log_every_steps", "train.eval_every_steps", "train.eval_images"),
    *("train.checkpoint_every_steps", "train.keep_checkpoints", "train.steps_per_call"),
    *("train.accumulation_steps", "train.trackers"),
}
CONFIGS = {
    "base": base_config,
    "mixture": imagenet64_h100.get_config,
    "vdm": imagenet64_vdm.get_config,
    "hific": hific64_small.get_config,
}


def is_free(field):
    names = field.replace("[0]", "").replace("[1]", "").replace("[2]", "").split(".")
    return any(".".join(names[:length]) in FREE for length in range(1, len(names) + 1))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_is_of_the_training_or_not(name):
    for field in flatten(plain(CONFIGS[name]())):
        # None: a new field, which run_config has to know.
        assert is_trained(field) is (not is_free(field)), field


def test_a_field_that_nobody_knows_is_compared(tmp_path):
    assert is_trained("train.colour") is None
    config = base_config()
    claim_workdir(config, tmp_path)
    with config.unlocked():
        config.train.colour = "red"
    assert "train.colour was 'absent', is 'red'" in message(lambda: claim_workdir(config, tmp_path))


def test_what_evaluation_alone_uses_may_come_later(tmp_path):
    config = base_config()
    claim_workdir(config, tmp_path)
    config.data.reference = source_config(source="photos")
    config.eval.features = "inception_v3_fid"
    claim_workdir(config, tmp_path)
    assert read_json(tmp_path / "config.json")["data"]["reference"]["source"] == "photos"


def test_sources_of_a_mixture_from_before_a_field_existed_did_as_its_default_does(tmp_path):
    config = base_config()
    set_training_sources(config, training_source(0.5), training_source(0.5, min_gamma=0.0))
    claim_workdir(config, tmp_path)
    recorded = read_json(tmp_path / "config.json")
    del recorded["data"]["train"][1]["skip_corrupt"]
    write_json(tmp_path / "config.json", recorded)
    claim_workdir(config, tmp_path, write=False)
    config.data.train[1].skip_corrupt = True
    assert message(lambda: claim_workdir(config, tmp_path)) == (
        f"--workdir {tmp_path}: holds a run with another config: data.train[1].skip_corrupt was False, is"
        " True. Use these values or another --workdir"
    )


def test_optimiser_and_averages_are_those_of_the_run(tmp_path):
    config, own = base_config(), base_config()
    config.train.update({"optimizer": "muon", "ema_decay": 0.9, "second_ema_decay": 0.99})
    claim_workdir(config, tmp_path)
    own.train.update({"learning_rate": 0.5, "batch_size": 7})
    found = as_trained(own, tmp_path).train
    assert (found.optimizer, found.ema_decay, found.second_ema_decay) == ("muon", 0.9, 0.99)
    assert (found.learning_rate, found.batch_size) == (0.5, 7)
    assert own.train.optimizer == "adamw"


def unet_config():
    config = imagenet64_h100.get_config()
    return config, {
        "model": plain(config.model) | {"widths": [48, 192, 320], "blocks": [1, 2, 2]},
        "schedule": plain(config.schedule),
        "image_size": 64,
        "steps": 3,
    }


@pytest.mark.parametrize(
    ("changes", "differences"),
    [
        (
            {"schedule": {"name": "linear", "gamma_min": -13.3, "gamma_max": 3.0}},
            "schedule.gamma_max was 3.0, is 5.0",
        ),
        ({"image_size": 32}, "data.image_size was 32, is 64"),
        (
            {"model": {"name": "vdm", "widths": [48, 192, 320], "blocks": [1, 2, 2]}},
            "model.name was 'vdm', is 'unet'",
        ),
        (
            {"model": {"name": "unet", "widths": [48, 192], "blocks": [1, 2, 2], "heads": 2}},
            "model.heads was 2, is 'absent'; model.widths was [48, 192], is [48, 192, 320]",
        ),
    ],
)
def test_weights_of_another_model_are_refused(changes, differences):
    config, card = unet_config()
    assert message(lambda: check_same_weights(config, card | changes, WEIGHTS)) == (
        f"eval.params: w.safetensors was made with another config: {differences}. Use these values or"
        " other weights"
    )


@pytest.mark.parametrize("written", ["before", "now"])
def test_a_field_at_its_default_is_one_that_is_left_out(written, tmp_path):
    """As when a field is added to a config file, so that a flag can override it."""
    short, long = imagenet64_h100.get_config(), imagenet64_h100.get_config()
    with long.unlocked():
        long.model.update({"heads": 4, "gamma_range": (-13.3, 5.0)})
    first, second = (long, short) if written == "before" else (short, long)
    claim_workdir(first, tmp_path)
    claim_workdir(second, tmp_path, model_defaults=default_fields("unet"))
    check_same_model(first, tmp_path, default_fields("unet"))
    card = {"model": plain(first.model)}
    check_same_weights(second, card, WEIGHTS, model_defaults=default_fields("unet"))
    with second.unlocked():
        second.model.heads = 2
    given = default_fields("unet")
    assert "model.heads was 4, is 2" in message(
        lambda: claim_workdir(second, tmp_path, model_defaults=given)
    )
    assert "model.heads was 4, is 2" in message(
        lambda: check_same_weights(second, card, WEIGHTS, model_defaults=given)
    )


def test_defaults_of_both_experts():
    fields = default_fields("unet_experts")
    assert fields["fine.heads"] == fields["noisy.heads"] == default_fields("unet")["heads"]
    assert default_fields("hific") == {}


def test_weights_may_be_computed_with_otherwise_and_cards_say_less():
    config, card = unet_config()
    check_same_weights(config, card, WEIGHTS)
    card["model"] |= {"dtype": "float32", "remat": True, "dropout": 0.1}
    check_same_weights(config, card, WEIGHTS)
    config.data.image_size = 32
    check_same_weights(config, {"model": card["model"]}, WEIGHTS)
    check_same_weights(config, {}, WEIGHTS)
