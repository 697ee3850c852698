"""Folders of diffusers become weights of runs, or are refused."""

import json
import shutil

import jax
import numpy as np
import pytest

from configs.diffusers_converted import get_config
from diffc_jax.conversion.command import convert
from diffc_jax.conversion.diffusers import read_fields
from diffc_jax.errors import InputError, UsageError
from diffc_jax.models.diffusers_unet import diffusers_unet_model
from diffc_jax.runtime import lock
from diffc_jax.runtime.export import read_tensors
from diffc_jax.runtime.torch_layout import torch_shapes
from tests.support.diffusers import FIELDS, SIDE, UNETS, write_folder
from tests.support.improved_diffusion import random_state_dict, write_pt
from tests.support.processes import run_program
from tests.support.refusals import fails, message

WEIGHTS = "diffusion_pytorch_model.safetensors"


def smoke_config(kind="ddpm"):
    config = get_config("smoke")
    assert config.data.image_size == SIDE
    assert {name: config.model[name] for name in FIELDS["ddpm"]} == FIELDS["ddpm"]
    config.model.update(FIELDS[kind])
    return config


def tensors(kind="ddpm", **changes):
    model = diffusers_unet_model((SIDE, SIDE, 3), **{**FIELDS[kind], **changes})
    return random_state_dict(
        torch_shapes(jax.eval_shape(lambda: model.init(jax.random.key(0), None))["params"])
    )


@pytest.fixture(scope="module")
def state_dict():
    return tensors()


def test_converted_folder_is_swept_and_coded(tmp_path):
    from diffc_jax.codec.loading import load_codec
    from diffc_jax.evaluation.evaluate import evaluate
    from diffc_jax.evaluation.results import read_rate_points

    config, workdir = smoke_config(), tmp_path / "W"
    config.model.widths, config.model.attention = (32,), ()
    unet = {
        "block_out_channels": [32],
        "down_block_types": ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"],
    }
    state_dict = tensors(widths=(32,), attention=())
    convert(config, write_folder(tmp_path / "ddpm", state_dict, unet), workdir)
    path = workdir / "params.safetensors"

    config.eval.decoders, config.eval.codec_decoders = ("mean",), ()
    config.eval.max_images = config.eval.batch_size = 2
    config.eval.num_levels, config.eval.last_gamma = 2, 0.0
    config.eval.params = str(path)
    evaluate(config, workdir)
    points = read_rate_points(workdir / "eval" / "rd.csv")
    assert {one.model for one in points} == {"diffusers_unet"}

    codec = load_codec(path, batch_size=1)
    pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    stream = codec.encode(pixels, packets=1, memory=8)
    assert codec.decode(stream, n_steps=2).shape == pixels.shape


@pytest.mark.parametrize("layout", ["pipeline", "former names", "pickle", "unet alone"])
def test_every_layout_gives_the_same_weights(layout, state_dict, tmp_path):
    config = smoke_config()
    source = write_folder(tmp_path / "ddpm", state_dict)
    if layout in ("pipeline", "unet alone"):
        for folder, names in (
            ("unet", ("config.json", WEIGHTS)),
            ("scheduler", ("scheduler_config.json",)),
        ):
            (source / folder).mkdir()
            for name in names:
                shutil.move(source / name, source / folder / name)
        source = source / "unet" if layout == "unet alone" else source
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    if layout == "former names":
        renamed = {}
        for name, one in state_dict.items():
            for now, before in former.items():
                name = name.replace(f".{now}.", f".{before}.")
            renamed[name] = one
        assert renamed.keys() != state_dict.keys()
        write_folder(source, renamed)
    if layout == "pickle":
        (source / WEIGHTS).unlink()
        write_pt(source / "diffusion_pytorch_model.bin", state_dict)
    convert(config, source, tmp_path / "W")
    found = read_tensors(tmp_path / "W" / "params.safetensors")
    for name in former:
        kernel = found[f"params/model/mid_block.attentions.0.{name}/kernel"]
        expected = state_dict[f"mid_block.attentions.0.{name}.weight"]
        np.testing.assert_array_equal(kernel, expected.T)
    kernel = found["params/model/down_blocks.0.downsamplers.0.conv/kernel"]
    expected = state_dict["down_blocks.0.downsamplers.0.conv.weight"]
    assert kernel[0, 2, 5, 7] == expected[7, 5, 0, 2]


def test_a_folder_that_is_not_there_is_not_its_neighbour(state_dict, tmp_path):
    write_folder(tmp_path / "unet", state_dict)
    missing = tmp_path / "unet_ema"
    fails(
        InputError,
        f"{missing}: is no folder; a model of diffusers is one",
        lambda: convert(smoke_config(), missing, None),
    )


def test_the_message_about_another_config_has_the_flags_of_the_network(tmp_path):
    folder = write_folder(
        tmp_path / "mine",
        tensors("tutorial"),
        UNETS["tutorial"],
        {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction"},
    )
    fails(
        UsageError,
        f"--config: describes another network than {folder}; add --config.model.head_channels=8"
        " --config.model.epsilon=1e-05 --config.model.pad_both_sides=True --config.model.sines_first=False"
        " --config.model.frequency_shift=0 --config.model.centre_input=True"
        " --config.model.learned_variance=True --config.model.prediction=v --config.model.betas=cosine",
        lambda: convert(smoke_config(), folder, None),
    )
    config = smoke_config("tutorial")
    config.model.prediction, config.model.betas = "v", "cosine"
    convert(config, folder, None)


def test_flags_in_that_message_are_quoted_for_a_shell(state_dict, tmp_path):
    config = smoke_config()
    config.model.widths, config.model.attention = (32, 32), ()
    found = message(
        lambda: convert(config, write_folder(tmp_path / "ddpm", state_dict), None), UsageError
    )
    assert found.endswith("; add --config.model.widths='(32, 64)' --config.model.attention='(8,)'")


def test_a_config_may_leave_out_fields_with_their_defaults(state_dict, tmp_path):
    config = smoke_config()
    with config.unlocked():
        del config.model.epsilon
    convert(config, write_folder(tmp_path / "ddpm", state_dict), None)


CONDITIONAL = "and only unconditional networks can be used"


@pytest.mark.parametrize(
    ("unet", "reason"),
    [
        (
            {"_class_name": "UNet2DConditionModel"},
            "is of UNet2DConditionModel, which is conditional; only UNet2DModel can be used",
        ),
        ({"_class_name": "VQModel"}, "is of VQModel; only UNet2DModel can be used"),
        (
            {"num_class_embeds": 10},
            f"is class-conditional (num_class_embeds = 10), {CONDITIONAL}",
        ),
        (
            {"class_embed_type": "timestep"},
            f"is class-conditional (class_embed_type = 'timestep'), {CONDITIONAL}",
        ),
        (
            {"in_channels": 4},
            "its network takes 4 channels, latents of an autoencoder, not pixels; only unconditional"
            " networks of RGB pixels can be used",
        ),
        (
            {"out_channels": 4},
            "has 4 output channels; it needs 3, or 6 with variances",
        ),
        (
            {"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]},
            "has blocks 'SkipDownBlock2D'; only DownBlock2D and AttnDownBlock2D can be used",
        ),
        (
            {"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]},
            "has other levels with attention on the way up than on the way down, or other numbers of blocks,"
            " which no model here has",
        ),
        (
            {"resnet_time_scale_shift": "scale_shift"},
            "has resnet_time_scale_shift = 'scale_shift'; only 'default' can be used",
        ),
        (
            {"time_embedding_type": "fourier"},
            "has time_embedding_type = 'fourier'; only 'positional' can be used",
        ),
        (
            {"mid_block_scale_factor": 1.41},
            "has mid_block_scale_factor = 1.41; only 1 can be used",
        ),
        ({"downsample_padding": 2}, "has downsample_padding = 2; only 0, 1 can be used"),
        (
            {"cross_attention_dim": 768},
            "has cross_attention_dim = 768, a field that is not known here",
        ),
        ({"sample_size": [16, 32]}, "has sample_size = [16, 32]; only squares can be used"),
        ({"layers_per_block": "2"}, "layers_per_block: expected `int`, got `str`"),
    ],
)
def test_other_networks_are_refused(state_dict, tmp_path, unet, reason):
    folder = write_folder(tmp_path / "ddpm", state_dict, unet)
    found = message(lambda: convert(smoke_config(), folder, None), InputError)
    assert found == f"{folder / 'config.json'}: {reason}"


@pytest.mark.parametrize(
    ("scheduler", "reason"),
    [
        ({"trained_betas": [0.1, 0.2]}, "has trained_betas, which cannot be used"),
        ({"rescale_betas_zero_snr": True}, "has rescale_betas_zero_snr, which cannot be used"),
        (
            {"beta_schedule": "laplace"},
            "has beta_schedule = 'laplace'; only linear, scaled_linear, squaredcos_cap_v2, sigmoid can be"
            " used",
        ),
        (
            {"prediction_type": "flow"},
            "has prediction_type = 'flow'; only epsilon, v_prediction, sample can be used",
        ),
        (
            {"timestep_type": "continuous"},
            "has timestep_type = 'continuous'; only discrete times can be used",
        ),
        ({"num_train_timesteps": "abc"}, "num_train_timesteps: expected `int`, got `str`"),
        ({"beta_end": None}, "beta_end: expected `float`, got `null`"),
    ],
)
def test_other_schedulers_are_refused(state_dict, tmp_path, scheduler, reason):
    folder = write_folder(tmp_path / "ddpm", state_dict, scheduler=scheduler)
    found = message(lambda: convert(smoke_config(), folder, None), InputError)
    assert found == f"{folder / 'scheduler_config.json'}: {reason}"


def test_betas_that_a_file_leaves_out_are_those_of_the_library(state_dict, tmp_path):
    folder = write_folder(tmp_path / "ddpm", state_dict)
    path = folder / "scheduler_config.json"
    scheduler = json.loads(path.read_text())
    del scheduler["beta_start"], scheduler["beta_end"]
    path.write_text(json.dumps(scheduler))
    convert(smoke_config(), folder, None)  # the config has 0.0001 and 0.02


def test_fields_that_files_leave_out_are_those_of_the_library(tmp_path):
    network, scheduler = tmp_path / "config.json", tmp_path / "scheduler_config.json"
    network.write_text('{"_class_name": "UNet2DModel"}')
    scheduler.write_text('{"beta_schedule": "linear"}')
    fields = read_fields(network, scheduler, 64)
    assert fields["data"] == {"image_size": 64}
    assert fields["model"] == {
        "widths": (224, 448, 672, 896),
        "blocks": 2,
        "attention": (32, 16, 8),
        "head_channels": 8,
        "groups": 32,
        "epsilon": 1e-5,
        "pad_both_sides": True,
        "sines_first": False,
        "frequency_shift": 0,
        "centre_input": False,
        "learned_variance": False,
        "prediction": "eps",
        "betas": "linear",
        "steps": 1000,
        "beta_start": 1e-4,
        "beta_end": 0.02,
    }


def test_continuous_noise_is_refused(state_dict, tmp_path):
    folder = write_folder(tmp_path / "ve", state_dict)
    path = folder / "scheduler_config.json"
    path.write_text(json.dumps({"_class_name": "ScoreSdeVeScheduler", "sigma_max": 1348.0}))
    fails(
        InputError,
        f"{path}: is of ScoreSdeVeScheduler without beta_schedule; only discrete-time diffusion with betas"
        " can be used",
        lambda: convert(smoke_config(), folder, None),
    )


def test_pipelines_of_latents_are_refused(state_dict, tmp_path):
    """Also where the folder of their network is given."""
    index = {"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]}
    folder = write_folder(tmp_path / "ldm", state_dict, index=index)
    network = write_folder(folder / "unet", state_dict)
    for source in (folder, network):
        fails(
            InputError,
            f"{folder / 'model_index.json'}: is a LDMPipeline with 'vqvae': its network works on latents or"
            " with conditions, and only unconditional ones of pixels can be used",
            lambda source=source: convert(smoke_config(), source, None),
        )


def test_folders_without_their_parts_are_refused(state_dict, tmp_path):
    folder = write_folder(tmp_path / "ddpm", state_dict)
    (folder / WEIGHTS).unlink()
    fails(
        InputError,
        f"{folder}: has neither {WEIGHTS} nor diffusion_pytorch_model.bin",
        lambda: convert(smoke_config(), folder, None),
    )
    (folder / "scheduler_config.json").unlink()
    fails(
        InputError,
        f"{folder}: has neither scheduler_config.json nor scheduler/scheduler_config.json; is it a folder of"
        " diffusers?",
        lambda: convert(smoke_config(), folder, None),
    )


def test_other_tensors_are_refused(state_dict, tmp_path):
    changed = state_dict | {"class_embedding.weight": np.zeros((10, 128), np.float32)}
    folder = write_folder(tmp_path / "ddpm", changed)
    fails(
        InputError,
        f"{folder / WEIGHTS}: is not the network of --config: 1 tensors are unexpected, the first is"
        " 'class_embedding.weight'",
        lambda: convert(smoke_config(), folder, None),
    )


def test_the_program_writes_to_no_folder_that_is_in_use(state_dict, tmp_path):
    folder = write_folder(tmp_path / "ddpm", state_dict)
    workdir = tmp_path / "W"

    def converted(source):
        flags = ("--config=configs/diffusers_converted.py:smoke", f"--workdir={workdir}")
        done = run_program("scripts/convert.py", *flags, f"--input={source}")
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr.splitlines()[-1]

    code, error = converted(tmp_path / "nothing")
    assert (code, error.startswith("convert.py: error: ")) == (1, True)
    assert not workdir.exists()
    workdir.mkdir()
    with lock.holding(workdir):
        code, error = converted(folder)
    assert (code, "is in use by " in error) == (1, True), error
    (workdir / "config.json").write_text('{"train": {}}')
    code, error = converted(folder)
    assert (code, "holds a run of experiments/train.py" in error) == (2, True), error
    assert [path.name for path in workdir.iterdir()] == ["config.json"]
    (workdir / "config.json").unlink()
    assert converted(folder)[0] == 0
    assert sorted(path.name for path in workdir.iterdir()) == [
        *("params.json", "params.safetensors"),
    ]
