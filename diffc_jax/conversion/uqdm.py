"""Checkpoints of github.com/mandt-lab/uqdm: folders with config.json and checkpoint.pt.

Its U-Net is that of `models.vdm`, up to names, another epsilon, the order of the Fourier features, and
outputs for the scales of its own reverse process, which are not used. Pixels, process and gamma are ours.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import flax.traverse_util
import numpy as np
from jaxtyping import PyTree
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
from diffc_jax.runtime.files import read_json
from diffc_jax.runtime.tensor_checks import Shape, check_tensors
from diffc_jax.runtime.torch_layout import flax_layout, torch_shape

_PROJECT = "https://github.com/mandt-lab/uqdm"
_WEIGHTS = "checkpoint.pt"
_FOURIER = (5, 6)
_EPSILON = 1e-5  # PyTorch's
_CHANNELS = 3

# Our modules outside and inside residual blocks, and theirs.
_MODULES: dict[tuple[str, ...], str] = {
    ("GammaEmbedding_0", "Dense_0"): "embed_conditioning.0",
    ("GammaEmbedding_0", "Dense_1"): "embed_conditioning.2",
    ("stem",): "conv_in",
    ("middle_0",): "mid_resnet_block_1",
    ("GroupNorm_0",): "mid_attn_block.layers.0",
    ("SelfAttention_0", "Dense_0"): "mid_attn_block.layers.1",
    ("SelfAttention_0", "Dense_1"): "mid_attn_block.layers.3",
    ("middle_1",): "mid_resnet_block_2",
    ("GroupNorm_1",): "conv_out.0",
    ("head",): "conv_out.2",
}
_BLOCK_MODULES = {
    "GroupNorm_0": "net1.0",
    "Conv_0": "net1.2",
    "Dense_0": "cond_proj",
    "GroupNorm_1": "net2.0",
    "Conv_1": "net2.2",
    "Dense_1": "skip_conv",
}
# Our dense layers that are convolutions of single pixels there.
_POINTWISE = (".layers.1.weight", ".layers.3.weight", ".skip_conv.weight")


class _Model(TypedDict):
    embedding_dim: int
    n_blocks: int
    norm_groups: int
    n_attention_heads: int
    n_channels: int
    vocab_size: int
    dropout_prob: float
    gamma_min: float
    gamma_max: float
    attention_everywhere: bool
    use_fourier_features: bool
    learned_prior_scale: NotRequired[bool]


class _Config(TypedDict):
    model: _Model


# Fields that our network has no choice about.
_ONLY: dict[str, Any] = {
    "n_attention_heads": 1,
    "vocab_size": 256,
    "attention_everywhere": False,
    "use_fourier_features": True,
}


def convert_uqdm(config: ConfigDict, source: pathlib.Path, workdir: pathlib.Path | None) -> None:
    """Converts a folder to W/params.safetensors with its card; if W is None, checks everything only.

    The model of the validated config is vdm with the fields of the folder's config.json. The parameters are
    those that the project's own `load_checkpoint` evaluates, not their averages.

    Raises:
        UsageError: the config has other fields, which are named, or a schedule that would have to be learned.
        InputError: a file is missing or cannot be read, or the network is of another kind, or W cannot be
            written.
    """
    fixed_schedule(config)
    path = source / "config.json"
    theirs, fields = read_fields(path)
    check_fields(config, fields, str(path))
    weights = source / _WEIGHTS
    tensors = read_torch_state_dict(weights, below="model")
    outputs = _CHANNELS * (2 if theirs.get("learned_prior_scale") else 1)
    template = params_template(config)
    params = params_from_uqdm(tensors, template, outputs, theirs["dropout_prob"] > 0, str(weights))
    origin = {"project": _PROJECT}
    write_converted(config, {"model": params, "schedule": {}}, origin, weights, workdir)


def read_fields(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """What a config.json says of the network, and that as fields of a config's groups `model` and `schedule`.

    Raises:
        InputError: the file cannot be read, or describes another network than `vdm` can be.
    """
    theirs: dict[str, Any] = read_json(path, _Config, "is it the config.json of UQDM?")["model"]
    for name, value in _ONLY.items():
        if theirs[name] != value:
            raise InputError(f"{path}: has {name} = {theirs[name]!r}; only {value!r} can be used")
    check_inputs(str(path), theirs["n_channels"])
    ends = theirs["gamma_min"], theirs["gamma_max"]
    model = {
        "blocks": theirs["n_blocks"],
        "width": theirs["embedding_dim"],
        "groups": theirs["norm_groups"],
        "fourier": _FOURIER,
        "gamma_range": ends,
        "epsilon": _EPSILON,
    }
    schedule = dict(zip(("gamma_min", "gamma_max"), ends, strict=True))
    return theirs, {"model": model, "schedule": schedule}


def params_from_uqdm(
    tensors: Mapping[str, np.ndarray],
    template: PyTree,
    outputs: int = 2 * _CHANNELS,
    dropout: bool = False,
    source: str = "weights",
) -> PyTree:
    """Parameters of `models.vdm` from a state dict.

    Args:
        tensors: by name.
        template: shapes of our parameters.
        outputs: channels of the last layer, of which the first three are the noise.
        dropout: whether there is a layer of it, which moves the number of the next one.
        source: of the tensors, for messages.

    Raises:
        InputError: as of `check_tensors`.
    """
    leaves = flax.traverse_util.flatten_dict(template)
    names = {path: _their_name(path, dropout) for path in leaves}
    shapes = {name: _their_shape(name, leaves[path].shape, outputs) for path, name in names.items()}
    check_tensors(tensors, shapes, not_the_network(source))

    def leaf_of(name: str, shape: Shape) -> np.ndarray:
        array = tensors[name]
        if name.startswith("conv_out.2."):
            array = array[:_CHANNELS]
        elif name.endswith(_POINTWISE):
            array = array[..., 0, 0]
        elif name == "conv_in.weight":
            array = array[:, _fourier_order()]
        return flax_layout(array).reshape(shape)

    flat = {path: leaf_of(name, leaves[path].shape) for path, name in names.items()}
    return flax.traverse_util.unflatten_dict(flat)


def _their_name(path: tuple[str, ...], dropout: bool) -> str:
    *modules, leaf = path
    end = "bias" if leaf == "bias" else "weight"
    if tuple(modules) in _MODULES:
        return f"{_MODULES[tuple(modules)]}.{end}"
    block, module = modules
    if (block,) in _MODULES:
        front = _MODULES[block,]
    else:
        side, number = block.split("_")
        front = f"{side}_blocks.{number}.resnet_block"
    name = _BLOCK_MODULES[module]
    return f"{front}.{'net2.3' if dropout and name == 'net2.2' else name}.{end}"


def _their_shape(name: str, shape: Shape, outputs: int) -> Shape:
    theirs = torch_shape(shape)
    if name.startswith("conv_out.2."):
        return (outputs, *theirs[1:])
    return (*theirs, 1, 1) if name.endswith(_POINTWISE) else theirs


def _fourier_order() -> list[int]:
    """Their input channels in our order: z, then sines and cosines with the frequencies innermost.

    Theirs have the colours innermost.
    """
    waves = [
        _CHANNELS + (wave * len(_FOURIER) + i) * _CHANNELS + colour
        for wave in range(2)
        for colour in range(_CHANNELS)
        for i in range(len(_FOURIER))
    ]
    return [*range(_CHANNELS), *waves]
