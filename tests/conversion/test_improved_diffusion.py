"""Checkpoints of improved-diffusion and guided-diffusion become weights of runs, or are refused."""

import json

import numpy as np
import pytest

from configs import imagenet256_converted
from configs.imagenet64_converted import get_config
from diffc_jax.conversion.command import convert
from diffc_jax.errors import InputError, UsageError
from diffc_jax.runtime.export import load_params, read_tensors
from diffc_jax.training.experiment import build_experiment
from tests.support.improved_diffusion import SIDE, SMALL, random_state_dict, torch_shapes, write_pt


@pytest.fixture(scope="module")
def state_dict():
    return random_state_dict(torch_shapes(side=SIDE, **SMALL))


def smoke_config():
    config = get_config("smoke")
    assert {name: config.model[name] for name in SMALL} == SMALL
    assert config.data.image_size == SIDE
    return config


def test_converted_checkpoint_is_evaluated(state_dict, tmp_path, caplog):
    # Parity with torch is tested where the packages for evaluation may be missing.
    from diffc_jax.evaluation.evaluate import evaluate
    from diffc_jax.evaluation.results import read_rate_points

    config = smoke_config()
    source, workdir = write_pt(tmp_path / "net.pt", state_dict), tmp_path / "W"
    with caplog.at_level("INFO", "absl"):
        convert(config, source, None)
        assert not workdir.exists()
        convert(config, source, workdir)
    count = sum(array.size for array in state_dict.values())
    assert f"{source}: {count} parameters, sha256 " in caplog.text

    experiment = build_experiment(config)
    state = experiment.state_template()
    tree = load_params(workdir / "params.safetensors", {"params": state.ema, "fixed": state.fixed})
    kernel = tree["params"]["model"]["middle_block.1"]["qkv"]["kernel"]
    assert kernel[0, 3, 70] == state_dict["middle_block.1.qkv.weight"][70, 3, 0]
    kernel = tree["params"]["model"]["input_blocks.2.0.op"]["kernel"]
    assert kernel[0, 2, 5, 7] == state_dict["input_blocks.2.0.op.weight"][7, 5, 0, 2]

    config.eval.decoders, config.eval.codec_decoders = ("mean",), ()
    config.eval.num_levels = 2
    config.eval.params = str(workdir / "params.safetensors")
    evaluate(config, workdir)
    points = read_rate_points(workdir / "eval" / "rd.csv")
    assert {(p.model, p.checkpoint) for p in points} == {
        ("improved_diffusion", "params.safetensors")
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out.2.bias": None}, "1 tensors are missing, the first is 'out.2.bias'"),
        (
            {"label_bias": np.zeros(10, np.float32)},
            "1 tensors are unexpected, the first is 'label_bias'",
        ),
        (
            {"middle_block.1.qkv.weight": np.zeros((192, 64), np.float32)},
            "1 tensors have another shape, the first is 'middle_block.1.qkv.weight' ((192, 64) "
            "instead of (192, 64, 1))",
        ),
        (
            {"out.0.bias": np.full(32, np.inf, np.float32)},
            "1 tensors are not finite floats, the first is 'out.0.bias'",
        ),
    ],
)
def test_other_networks_are_refused(state_dict, tmp_path, changes, message):
    changed = {name: value for name, value in (state_dict | changes).items() if value is not None}
    path = write_pt(tmp_path / "net.pt", changed)
    with pytest.raises(InputError) as error:
        convert(smoke_config(), path, tmp_path)
    assert str(error.value) == f"{path}: is not the network of --config: {message}"
    assert not (tmp_path / "params.safetensors").exists()


def test_a_pickle_that_calls_is_not_executed(tmp_path):
    path = write_pt(tmp_path / "net.pt", {}, b"\x80\x02cos\nmkdir\n(X\x01\x00\x00\x00dtR.")
    with pytest.raises(InputError) as error:
        convert(smoke_config(), path, tmp_path)
    assert str(error.value).startswith(
        f"{path}: refers to os.mkdir, which no plain state dict needs"
    )


def test_a_missing_file_and_other_configs_are_refused(tmp_path):
    path = tmp_path / "net.pt"
    with pytest.raises(InputError) as error:
        convert(smoke_config(), path, tmp_path)
    assert str(error.value) == f"{path}: cannot be read (No such file or directory)"

    config = smoke_config()
    config.schedule.name = "learned_linear"
    with pytest.raises(UsageError) as usage:
        convert(config, path, tmp_path)
    assert str(usage.value) == (
        "schedule.name: 'learned_linear' has parameters, which the checkpoint has not; use 'linear'"
    )
    config = smoke_config()
    config.model.name = "unet"
    with pytest.raises(UsageError) as usage:
        convert(config, path, tmp_path)
    assert str(usage.value) == (
        "model.name: no checkpoint of others is converted to 'unet', only to diffusers_unet,"
        " guided_diffusion, improved_diffusion, vdm"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"label_emb.weight": np.zeros((10, 128), np.float32)},
            "is class-conditional (it has 'label_emb.weight'), and only unconditional networks can be used",
        ),
        (
            {"input_blocks.0.0.weight": np.zeros((32, 4, 3, 3), np.float32)},
            "its network takes 4 channels, latents of an autoencoder, not pixels; only unconditional"
            " networks of RGB pixels can be used",
        ),
        (
            {"input_blocks.0.0.weight": np.zeros((32, 6, 3, 3), np.float32)},
            "its network takes 6 channels, another image beside the noisy one; only unconditional networks"
            " of RGB pixels can be used",
        ),
    ],
)
def test_conditional_and_latent_networks_are_refused(state_dict, tmp_path, changes, reason):
    path = write_pt(tmp_path / "net.pt", state_dict | changes)
    with pytest.raises(InputError) as error:
        convert(smoke_config(), path, None)
    assert str(error.value) == f"{path}: {reason}"


def test_guided_diffusion_is_converted(tmp_path):
    config = imagenet256_converted.get_config("smoke")
    state = random_state_dict(torch_shapes(side=SIDE, resampling_blocks=True, **SMALL))
    convert(config, write_pt(tmp_path / "net.pt", state), tmp_path / "W")
    found = read_tensors(tmp_path / "W" / "params.safetensors")
    kernel = found["params/model/output_blocks.1.2/in_layers.2/kernel"]
    assert kernel[0, 2, 5, 7] == state["output_blocks.1.2.in_layers.2.weight"][7, 5, 0, 2]
    card = json.loads((tmp_path / "W" / "params.json").read_text())
    assert card["converted_from"]["project"] == "https://github.com/openai/guided-diffusion"
