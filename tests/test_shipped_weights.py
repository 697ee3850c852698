"""The weights in the repository: what the configs say of them, and what they do."""

import json
import pathlib

import numpy as np
import PIL.Image
import pytest
import safetensors.numpy

from configs import imagenet64_small, quickstart
from diffc_jax.codec.files import compress, decompress
from diffc_jax.codec.targets import Target
from diffc_jax.evaluation.evaluate import evaluate
from diffc_jax.runtime import files
from diffc_jax.training.experiment import open_source

ROOT = pathlib.Path(__file__).parents[1]
WEIGHTS = ROOT / "weights" / "imagenet64_small.safetensors"
CONFIGS = {
    "imagenet64_small": imagenet64_small.get_config("shipped"),
    "quickstart": quickstart.get_config(),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_describe_them(name):
    config, card = CONFIGS[name], files.read_json(WEIGHTS.with_suffix(".json"))
    assert config.eval.params == "weights/imagenet64_small.safetensors"
    assert card["model"] == json.loads(json.dumps(config.model.to_dict()))  # lists for tuples
    assert card["schedule"] == config.schedule.to_dict()
    assert card["image_size"] == config.data.image_size


def test_trained_as_the_config_says():
    config, card = imagenet64_small.get_config(), files.read_json(WEIGHTS.with_suffix(".json"))
    assert (card["dataset"], card["split"]) == ("imagenet64-dev", "train")
    assert card["steps"] == config.train.num_steps
    assert card["images_seen"] == config.train.num_steps * config.train.batch_size


def test_small_enough_to_ship():
    assert WEIGHTS.stat().st_size <= 20e6
    arrays = safetensors.numpy.load_file(WEIGHTS)
    network = [array for name, array in arrays.items() if name.startswith("params/model/")]
    assert {array.dtype for array in network} == {np.dtype(np.float16)}


def test_validation_photographs_take_few_bits(tmp_path):
    config = quickstart.get_config()
    config.eval.params = str(WEIGHTS)
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
    compress(WEIGHTS, paths[:1], paths[1], Target(bpp=1.0), memory=8, seed=0, batch_size=1)
    decompress(
        WEIGHTS,
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
