"""Folders of Hugging Face diffusers with a `UNet2DModel`: config.json, weights and scheduler_config.json."""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from diffc_jax.conversion.checkpoint import (
    check_fields,
    check_inputs,
    fixed_schedule,
    not_the_network,
    params_template,
    write_converted,
)
from diffc_jax.errors import InputError
from diffc_jax.metrics.features.torch_files import read_torch_state_dict
from diffc_jax.runtime.export import read_tensors
from diffc_jax.runtime.files import read_json
from diffc_jax.runtime.tensor_checks import check_tensors
from diffc_jax.runtime.torch_layout import from_state_dict, torch_shapes
from diffc_jax.typed import mismatch

_PROJECT = "https://github.com/huggingface/diffusers"
_WEIGHTS = "diffusion_pytorch_model"
_SCHEDULER = "scheduler_config.json"
# How a pipeline says that it has not what it can have.
_ABSENT = [None, None]
# Parts of a pipeline with which its network is none of pixels, or not unconditional.
_OTHER_PARTS = ("vae", "vqvae", "text_encoder", "bert", "image_encoder", "movq", "prior")

# Fields that may have one value, of which older files may say nothing.
_ONLY: dict[str, Any] = {
    "act_fn": ("silu", "swish"),
    "add_attention": (True,),
    "attn_norm_num_groups": (None,),
    "downsample_type": ("conv",),
    "mid_block_scale_factor": (1,),
    "mid_block_type": ("UNetMidBlock2D",),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_dim": (None,),
    "time_embedding_type": ("positional",),
    "upsample_type": ("conv",),
}
_CLASSES = ("class_embed_type", "num_class_embeds")
# Fields that do not matter to what a trained network computes.
_IGNORED = ("dropout", "num_train_timesteps")
# Types of the others, and what they are where a file says nothing.
_KINDS: dict[str, tuple[Any, Any]] = {
    "attention_head_dim": (int | None, 8),
    "block_out_channels": (list[int], [224, 448, 672, 896]),
    "center_input_sample": (bool, False),
    "down_block_types": (list[str], ["DownBlock2D"] + 3 * ["AttnDownBlock2D"]),
    "downsample_padding": (int, 1),
    "flip_sin_to_cos": (bool, True),
    "freq_shift": (int, 0),
    "in_channels": (int, 3),
    "layers_per_block": (int, 2),
    "norm_eps": (float, 1e-5),
    "norm_num_groups": (int, 32),
    "out_channels": (int, 3),
    "sample_size": (int | list[int] | None, None),
    "up_block_types": (list[str], 3 * ["AttnUpBlock2D"] + ["UpBlock2D"]),
}
_BLOCKS = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
}
_BETAS = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "squaredcos_cap_v2": "cosine",
    "sigmoid": "sigmoid",
}
# Of the library's schedulers, where a file leaves them out.
_DEFAULT_BETAS = {"beta_start": 1e-4, "beta_end": 0.02}
_DEFAULT_STEPS = 1000
_PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x"}
# Names that layers of the attention had before.
_FORMER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_FORMER = re.compile(rf"(?<=\.)({'|'.join(_FORMER_NAMES)})(?=\.(?:weight|bias)$)")


def convert_diffusers(
    config: ConfigDict, source: pathlib.Path, workdir: pathlib.Path | None
) -> None:
    """Converts a folder to W/params.safetensors with its card; if W is None, checks everything only.

    The folder is that of a pipeline, with everything in it or in `unet` and `scheduler`. The model of the
    validated config is diffusers_unet with the fields of the folder's files.

    Raises:
        UsageError: the config has other fields, which are named, or a schedule that would have to be learned.
        InputError: a file is missing or cannot be read, the network is conditional, latent or of another
            kind, or W cannot be written.
    """
    fixed_schedule(config)
    _check_pipeline(source)
    network, scheduler = (
        _find(source, "unet", "config.json"),
        _find(source, "scheduler", _SCHEDULER),
    )
    fields = read_fields(network, scheduler, config.data.image_size)
    check_fields(config, fields, str(source))
    template = params_template(config)
    weights, tensors = _read_weights(network.parent)
    tensors = {
        _FORMER.sub(lambda m: _FORMER_NAMES[m[0]], name): one for name, one in tensors.items()
    }
    check_tensors(tensors, torch_shapes(template), not_the_network(str(weights)))
    params = {"model": from_state_dict(tensors, template), "schedule": {}}
    write_converted(config, params, {"project": _PROJECT}, weights, workdir)


def read_fields(
    network: pathlib.Path, scheduler: pathlib.Path, image_size: int
) -> dict[str, dict[str, Any]]:
    """Fields of a config's groups `data` and `model` for a config.json and a scheduler_config.json.

    `image_size` is that of a network that does not name its own.

    Raises:
        InputError: a file cannot be read, or describes another network or schedule than `diffusers_unet`
            can be.
    """
    unet = read_json(network, dict[str, Any])
    _check_network(network, unet)
    found = {}
    for name, (kind, default) in _KINDS.items():
        found[name] = unet.get(name, default)
        if flaw := mismatch(found[name], kind):
            raise InputError(f"{network}: {name}: {flaw}")
    check_inputs(str(network), found["in_channels"])
    if found["out_channels"] not in (3, 6):
        raise InputError(
            f"{network}: has {found['out_channels']} output channels; it needs 3, or 6 with variances"
        )
    size = found["sample_size"]
    size = image_size if size is None else size
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or sides[0] != sides[1]:
        raise InputError(f"{network}: has sample_size = {size}; only squares can be used")
    model = {
        "widths": tuple(found["block_out_channels"]),
        "blocks": found["layers_per_block"],
        "attention": _attention(network, found, sides[0]),
        "head_channels": found["attention_head_dim"] or 0,
        "groups": found["norm_num_groups"],
        "epsilon": found["norm_eps"],
        "pad_both_sides": _choice(network, found, "downsample_padding", {0: False, 1: True}),
        "sines_first": not found["flip_sin_to_cos"],
        "frequency_shift": found["freq_shift"],
        "centre_input": found["center_input_sample"],
        "learned_variance": found["out_channels"] == 6,
        **_noise_fields(scheduler),
    }
    return {"data": {"image_size": sides[0]}, "model": model}


def _check_pipeline(source: pathlib.Path) -> None:
    """Raises InputError for a pipeline whose network does not make pixels from noise alone."""
    for folder in (source, source.parent):
        index = folder / "model_index.json"
        if not index.exists():
            continue
        parts = read_json(index, dict[str, Any])
        for part in _OTHER_PARTS:
            if parts.get(part, _ABSENT) not in (None, _ABSENT):
                raise InputError(
                    f"{index}: is a {parts.get('_class_name')} with {part!r}: its network works on latents or"
                    " with conditions, and only unconditional ones of pixels can be used"
                )


def _find(source: pathlib.Path, folder: str, name: str) -> pathlib.Path:
    """`name` in the source, in its folder, or beside the source."""
    if not source.is_dir():
        raise InputError(f"{source}: is no folder; a model of diffusers is one")
    places = [source / folder / name, source / name, source.parent / folder / name]
    for path in places:
        if path.is_file():
            return path
    raise InputError(
        f"{source}: has neither {name} nor {folder}/{name}; is it a folder of diffusers?"
    )


def _check_network(path: pathlib.Path, unet: Mapping[str, Any]) -> None:
    """Raises InputError for another network than an unconditional `UNet2DModel`, with the reason."""
    kind = unet.get("_class_name")
    if kind != "UNet2DModel":
        reason = ", which is conditional" if kind == "UNet2DConditionModel" else ""
        raise InputError(f"{path}: is of {kind}{reason}; only UNet2DModel can be used")
    for name in _CLASSES:
        if unet.get(name) is not None:
            raise InputError(
                f"{path}: is class-conditional ({name} = {unet[name]!r}), and only unconditional networks can"
                " be used"
            )
    for name, values in _ONLY.items():
        if name in unet and unet[name] not in values:
            raise InputError(
                f"{path}: has {name} = {unet[name]!r}; only {' or '.join(map(repr, values))} can be used"
            )
    known = {*_ONLY, *_CLASSES, *_IGNORED, *_KINDS}
    for name, value in unet.items():
        if name not in known and not name.startswith("_") and value is not None:
            raise InputError(f"{path}: has {name} = {value!r}, a field that is not known here")


def _attention(path: pathlib.Path, found: Mapping[str, Any], side: int) -> tuple[int, ...]:
    """Heights of the levels with attention."""
    levels = {}
    for name, (plain, attending) in _BLOCKS.items():
        for kind in found[name]:
            if kind not in (plain, attending):
                raise InputError(
                    f"{path}: has blocks {kind!r}; only {plain} and {attending} can be used"
                )
        levels[name] = [kind == attending for kind in found[name]]
    down, up = levels.values()
    if down != up[::-1] or len(down) != len(found["block_out_channels"]):
        raise InputError(
            f"{path}: has other levels with attention on the way up than on the way down, or other numbers"
            " of blocks, which no model here has"
        )
    if side % 2 ** (len(down) - 1):
        raise InputError(f"{path}: {len(down)} levels cannot halve images of {side}x{side}")
    return tuple(side // 2**level for level, attending in enumerate(down) if attending)


def _noise_fields(path: pathlib.Path) -> dict[str, Any]:
    """Fields of the model that say what a time means and what is predicted."""
    scheduler = read_json(path, dict[str, Any])
    if "beta_schedule" not in scheduler:
        raise InputError(
            f"{path}: is of {scheduler.get('_class_name')} without beta_schedule; only discrete-time"
            " diffusion with betas can be used"
        )
    for name in ("trained_betas", "rescale_betas_zero_snr"):
        if scheduler.get(name):
            raise InputError(f"{path}: has {name}, which cannot be used")
    if scheduler.get("timestep_type", "discrete") != "discrete":
        raise InputError(
            f"{path}: has timestep_type = {scheduler['timestep_type']!r}; only discrete times can be used"
        )
    betas = _choice(path, scheduler, "beta_schedule", _BETAS)
    scheduler = {
        "prediction_type": "epsilon",
        "num_train_timesteps": _DEFAULT_STEPS,
        **_DEFAULT_BETAS,
        **scheduler,
    }
    for name, kind in {"num_train_timesteps": int, **dict.fromkeys(_DEFAULT_BETAS, float)}.items():
        if flaw := mismatch(scheduler[name], kind):
            raise InputError(f"{path}: {name}: {flaw}")
    fields = {
        "prediction": _choice(path, scheduler, "prediction_type", _PREDICTIONS),
        "betas": betas,
        "steps": scheduler["num_train_timesteps"],
    }
    if betas == "cosine":
        return fields
    return fields | {name: scheduler[name] for name in _DEFAULT_BETAS}


def _choice(
    path: pathlib.Path, found: Mapping[str, Any], name: str, values: Mapping[Any, Any]
) -> Any:
    """What a value is called here."""
    value = found[name]
    if not isinstance(value, str | int) or value not in values:
        raise InputError(
            f"{path}: has {name} = {value!r}; only {', '.join(map(str, values))} can be used"
        )
    return values[value]


def _read_weights(folder: pathlib.Path) -> tuple[pathlib.Path, dict[str, np.ndarray]]:
    """The file of the weights, and its tensors."""
    for ending, read in ((".safetensors", read_tensors), (".bin", read_torch_state_dict)):
        path = folder / f"{_WEIGHTS}{ending}"
        if path.exists():
            return path, read(path)
    raise InputError(f"{folder}: has neither {_WEIGHTS}.safetensors nor {_WEIGHTS}.bin")
