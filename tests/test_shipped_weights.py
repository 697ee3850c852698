"""The weights in the repository: what the configs say of them, and what they do."""

import json
import pathlib

import numpy as np
import PIL.Image
import pytest
import safetensors.numpy

from configs import imagenet64_h100, imagenet64_small, quickstart
from diffc_jax.codec import loading
from diffc_jax.codec.files import compress, decompress
from diffc_jax.codec.targets import Target
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.runtime import files
from diffc_jax.training.experiment import open_source

ROOT = pathlib.Path(__file__).parents[1]
# Configs that describe them: with which they are evaluated, and with which they were trained.
SMALL, H100 = (ROOT / "weights" / f"imagenet64_{name}.safetensors" for name in ("small", "h100"))
EVALUATED = [
    (SMALL, imagenet64_small.get_config("shipped")),
    (H100, imagenet64_h100.get_config("shipped")),
    (H100, quickstart.get_config()),
]
TRAINED = [(SMALL, imagenet64_small.get_config()), (H100, imagenet64_h100.get_config())]


def card_of(weights):
    return files.read_json(weights.with_suffix(".json"))


@pytest.mark.parametrize(("weights", "config"), EVALUATED)
def test_configs_describe_them(weights, config):
    card = card_of(weights)
    assert config.eval.params == str(weights.relative_to(ROOT))
    # What a card may leave out, as the network is the same; lists for tuples.
    described = {"dtype": "float32", "remat": False} | card["model"]
    assert {"remat": False} | json.loads(json.dumps(config.model.to_dict())) == described
    assert card["schedule"] == config.schedule.to_dict()
    assert card["image_size"] == config.data.image_size


@pytest.mark.parametrize(("weights", "config"), TRAINED)
def test_trained_as_the_config_says(weights, config):
    card = card_of(weights)
    assert (card["dataset"], card["split"]) == ("imagenet64-dev", "train")
    assert card["images_seen"] == card["steps"] * config.train.batch_size
    if config.train.num_steps:
        assert card["steps"] == config.train.num_steps
    else:
        assert card["train_seconds"] <= config.train.max_seconds


def test_those_of_the_codec():
    assert loading.SHIPPED_WEIGHTS == H100
    assert loading.EARLIER_WEIGHTS == (SMALL,)


@pytest.mark.parametrize("weights", [SMALL, H100])
def test_small_enough_to_ship(weights):
    assert weights.stat().st_size <= 24e6
    arrays = safetensors.numpy.load_file(weights)
    network = [array for name, array in arrays.items() if name.startswith("params/model/")]
    assert {array.dtype for array in network} == {np.dtype(np.float16)}


def test_validation_photographs_take_few_bits(tmp_path):
    config = quickstart.get_config()
    config.eval.params = str(H100)
    config.eval.max_images = config.eval.batch_size = 16
    config.eval.rate_steps, config.eval.num_levels = 16, 2
    config.eval.flow_steps = config.eval.ancestral_steps = 4
    config.eval.image_metrics, config.eval.codec_decoders = (), ()
    evaluate(config, tmp_path)
    # The Gaussian fitted to crops of the other photographs takes 5.9.
    assert files.read_json(tmp_path / "eval" / "summary.json")["bits_per_dim"] < 4.5


def test_a_photograph_there_and_back(tmp_path):
    config = quickstart.get_config()
    image = open_source(config, "eval")[0]
    PIL.Image.fromarray(image).save(tmp_path / "a.png")
    paths = [str(tmp_path / name) for name in ("a.png", "a.diffc", "b.png")]
    compress(H100, paths[:1], paths[1], Target(bpp=1.0), memory=8, seed=0, batch_size=1)
    decompress(
        H100,
        paths[1:2],
        paths[2],
        decoder="flow",
        n_steps=8,
        at_bpp=None,
        salvage=False,
        batch_size=1,
    )
    assert (tmp_path / "a.diffc").stat().st_size * 8 <= image.shape[0] * image.shape[1]
    error = np.asarray(PIL.Image.open(tmp_path / "b.png"), np.float64) - image
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 25


def test_files_of_earlier_weights_are_read_without_naming_them(tmp_path):
    image = open_source(quickstart.get_config(), "eval")[0]
    PIL.Image.fromarray(image).save(tmp_path / "a.png")
    psnrs = {}
    for name, weights in (("old", SMALL), ("new", None)):
        coded, decoded = (str(tmp_path / f"{name}.{suffix}") for suffix in ("diffc", "png"))
        target = Target(bpp=0.5)
        compress(weights, [str(tmp_path / "a.png")], coded, target, memory=8, seed=0, batch_size=1)
        decompress(
            None,
            [coded],
            decoded,
            decoder="mean",
            n_steps=None,
            at_bpp=None,
            salvage=False,
            batch_size=1,
        )
        error = np.asarray(PIL.Image.open(decoded), np.float64) - image
        psnrs[name] = 10 * np.log10(255**2 / np.mean(error**2))
    assert min(psnrs.values()) > 22
    assert psnrs["old"] != psnrs["new"]
