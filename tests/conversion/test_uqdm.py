"""Checkpoints of UQDM become weights of runs, or are refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.imagenet64_uqdm_converted import get_config
from diffc_jax.conversion.command import convert
from diffc_jax.conversion.uqdm import params_from_uqdm
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models import build_model
from diffc_jax.runtime.export import read_tensors
from tests.metrics.test_torch_files import Call, Global, tensor, write_zip
from tests.support.improved_diffusion import random_state_dict
from tests.support.refusals import fails, message
from tests.support.uqdm import config_json, shapes

SIDE, WIDTH, BLOCKS, GROUPS = 16, 32, 2, 8
GAMMA = (-9.0, 1.3)
# Of its VDM_Net at commit 88c77b4 with torch 2.13.0.
STORED = (
    *(-0.204958, -0.458312, 2.661569, -0.126072, 0.707050, 1.283692, 2.240986, -2.332101),
    *(0.870065, -0.234953, -1.056794, -0.016080, 1.594754, 1.808125, -1.761890, 2.002164),
)


def small_config():
    config = get_config("smoke")
    config.model.blocks = BLOCKS
    assert (config.model.width, config.model.groups) == (WIDTH, GROUPS)
    return config


def write_folder(folder, state_dict, name="model", **changes):
    """config.json, and checkpoint.pt with the state of an optimizer, whose learning rate is NumPy's."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(WIDTH, BLOCKS, GROUPS, **changes)))
    storages = {str(i): array for i, array in enumerate(state_dict.values())}
    tensors = {}
    for (key, array), parameter in zip(storages.items(), state_dict, strict=True):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        tensors[parameter] = tensor(key, "FloatStorage", array.size, array.shape, strides)
    dtype = Call(Global("numpy", "dtype"), "f8", False, True)
    rate = Call(Global("numpy.core.multiarray", "scalar"), dtype, np.float64(2e-4).tobytes())
    write_zip(folder / "checkpoint.pt", {name: tensors, "optimizer": {"lr": rate}}, storages)
    return folder


@pytest.fixture(scope="module")
def state_dict():
    return random_state_dict(shapes(WIDTH, BLOCKS))


def test_eps_hat_is_that_of_the_project(state_dict):
    model = build_model(small_config().model.to_dict(), (SIDE, SIDE, 3))
    template = jax.eval_shape(lambda: model.init(jax.random.key(0), None))["params"]
    params = params_from_uqdm(state_dict, template)
    images = np.random.default_rng(1).standard_normal((2, SIDE, SIDE, 3)).astype(np.float32)
    found = jax.jit(model.eps_hat)({"params": params}, images, jnp.array(GAMMA))
    np.testing.assert_allclose(found[:, 3::8, 5::8, ::2].ravel(), STORED, rtol=0, atol=1e-4)


def test_a_folder_is_converted(state_dict, tmp_path):
    source, workdir = write_folder(tmp_path / "uqdm", state_dict), tmp_path / "W"
    convert(small_config(), source, None)
    assert not workdir.exists()
    convert(small_config(), source, workdir)
    tensors = read_tensors(workdir / "params.safetensors")
    kernel = tensors["params/model/SelfAttention_0/Dense_0/kernel"]
    assert kernel[3, 70] == state_dict["mid_attn_block.layers.1.weight"][70, 3, 0, 0]
    card = json.loads((workdir / "params.json").read_text())
    assert card["converted_from"]["file"] == "checkpoint.pt"


def test_a_network_without_scales_has_three_outputs(state_dict, tmp_path):
    own = {
        name: one[:3] if name.startswith("conv_out.2.") else one for name, one in state_dict.items()
    }
    folder = write_folder(tmp_path / "uqdm", own)
    content = json.loads((folder / "config.json").read_text())
    del content["model"]["learned_prior_scale"]
    (folder / "config.json").write_text(json.dumps(content))
    convert(small_config(), folder, None)


def test_dropout_moves_the_last_layer_of_a_block(state_dict, tmp_path):
    moved = {name.replace("net2.2", "net2.3"): one for name, one in state_dict.items()}
    convert(small_config(), write_folder(tmp_path / "uqdm", moved, dropout_prob=0.1), None)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"attention_everywhere": True}, "has attention_everywhere = True; only False can be used"),
        ({"n_attention_heads": 4}, "has n_attention_heads = 4; only 1 can be used"),
        (
            {"use_fourier_features": False},
            "has use_fourier_features = False; only True can be used",
        ),
        (
            {"n_channels": 1},
            "its network takes 1 channels, grey images; only unconditional networks of RGB pixels can be"
            " used",
        ),
        (
            {"n_blocks": "8"},
            "model.n_blocks: expected `int`, got `str`; is it the config.json of UQDM?",
        ),
    ],
)
def test_other_networks_are_refused(state_dict, tmp_path, changes, text):
    folder = write_folder(tmp_path / "uqdm", state_dict, **changes)
    found = message(lambda: convert(small_config(), folder, None), InputError)
    assert found == f"{folder / 'config.json'}: {text}"


def test_other_configs_and_files_are_refused(state_dict, tmp_path):
    folder = write_folder(tmp_path / "uqdm", state_dict)
    config = small_config()
    config.model.blocks, config.schedule.gamma_min = 1, -13.3
    fails(
        UsageError,
        f"--config: describes another network than {folder / 'config.json'}; add"
        " --config.model.blocks=2 --config.schedule.gamma_min=-12.3",
        lambda: convert(config, folder, None),
    )
    config.schedule.name = "learned_linear"
    fails(
        UsageError,
        "schedule.name: 'learned_linear' has parameters, which the checkpoint has not; use 'linear'",
        lambda: convert(config, folder, None),
    )
    write_folder(folder, state_dict, name="net")
    fails(
        InputError,
        f"{folder / 'checkpoint.pt'}: has no 'model', where the state dict should be",
        lambda: convert(small_config(), folder, None),
    )
