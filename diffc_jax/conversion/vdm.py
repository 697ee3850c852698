"""Checkpoints of github.com/google-research/vdm: Flax states as msgpack (`ckpt-N.flax`).

Its U-Net is that of `models.vdm`, up to names, queries, keys and values in three layers for our one, and an
input of the noise embedding for the kind of augmentation: 0 for real images, so that its weights drop out.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.serialization
import flax.traverse_util
import numpy as np
import scipy.special
from absl import logging
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffc_jax.conversion.checkpoint import not_the_network, params_template, write_converted
from diffc_jax.runtime.parsing import parsing
from diffc_jax.runtime.tensor_checks import Shape, check_tensors

_PROJECT = "https://github.com/google-research/vdm"
_NETWORK = "score_model/"
_EMBEDDING = ("GammaEmbedding_0", "Dense_0", "kernel")
_HIDDEN = 1024

# Our modules outside and inside residual blocks, and theirs.
_MODULES: dict[tuple[str, ...], tuple[str, ...]] = {
    ("GammaEmbedding_0", "Dense_0"): ("dense0",),
    ("GammaEmbedding_0", "Dense_1"): ("dense1",),
    ("stem",): ("conv_in",),
    ("GroupNorm_0",): ("mid.attn_1/GroupNorm_0",),
    ("SelfAttention_0", "Dense_0"): ("mid.attn_1/q", "mid.attn_1/k", "mid.attn_1/v"),
    ("SelfAttention_0", "Dense_1"): ("mid.attn_1/proj_out",),
    ("GroupNorm_1",): ("GroupNorm_0",),
    ("head",): ("conv_out",),
}
_BLOCK_MODULES = {
    "GroupNorm_0": "GroupNorm_0",
    "Conv_0": "conv1",
    "Dense_0": "cond_proj",
    "GroupNorm_1": "GroupNorm_1",
    "Conv_1": "conv2",
    "Dense_1": "nin_shortcut",
}
_SCHEDULES: dict[str, dict[str, Shape]] = {
    "linear": {},
    "learned_linear": {"gamma/w": (1,), "gamma/b": (1,)},
    "learned_network": {
        "gamma/l1/kernel": (1, 1),
        "gamma/l1/bias": (1,),
        "gamma/l2/kernel": (1, _HIDDEN),
        "gamma/l2/bias": (_HIDDEN,),
        "gamma/l3/kernel": (_HIDDEN, 1),
    },
}


def convert_vdm(config: ConfigDict, source: pathlib.Path, workdir: pathlib.Path | None) -> None:
    """Converts the averaged parameters of a `.flax` file to W/params.safetensors with its card.

    The model of the validated config is vdm with the checkpoint's sizes, and its schedule of the checkpoint's
    kind: learned_linear for theirs called learnable_scalar, learned_network for learnable_nnet, linear for
    fixed. If W is None, everything is checked and nothing is written.

    Raises:
        InputError: the file cannot be read or holds another network, or W cannot be written.
    """
    template = params_template(config)
    tensors, step = read_checkpoint(source)
    params = params_from_vdm(tensors, template, config.schedule.name, str(source))
    for name, value in params["schedule"].items():
        if value.ndim == 0:
            logging.info("learned schedule: %s = %.4f", name, value)
    origin = {"project": _PROJECT, "step": step}
    write_converted(config, params, origin, source, workdir)


def read_checkpoint(source: pathlib.Path) -> tuple[dict[str, np.ndarray], int]:
    """The averaged parameters in a checkpoint, names joined by "/", and its step.

    msgpack holds data only: reading it executes nothing.

    Raises:
        InputError: missing or damaged file, or another kind of file.
    """
    flaw = "is not a Flax checkpoint with 'ema_params' and 'step', or is damaged"
    with parsing(source, flaw):
        state = flax.serialization.msgpack_restore(source.read_bytes())
        tensors = flax.traverse_util.flatten_dict(state["ema_params"], sep="/")
        return {name: np.asarray(value) for name, value in tensors.items()}, int(state["step"])


def params_from_vdm(
    tensors: Mapping[str, np.ndarray], template: PyTree, schedule: str, source: str = "weights"
) -> dict[str, PyTree]:
    """Parameters of `models.vdm` and of a schedule, as {"model": ..., "schedule": ...}.

    `tensors` are called "score_model/..." and "gamma/..."; errors as of `check_tensors`.
    """
    leaves = flax.traverse_util.flatten_dict(template)
    names = {path: _vdm_names(path) for path in leaves}
    shapes = dict(_SCHEDULES[schedule])
    for path, leaf in leaves.items():
        *front, last = leaf.shape
        if path == _EMBEDDING:
            front[0] += 1
        shapes |= dict.fromkeys(names[path], (*front, last // len(names[path])))
    check_tensors(tensors, shapes, not_the_network(source))

    def leaf_of(path: tuple[str, ...]) -> np.ndarray:
        parts = [tensors[name].astype(np.float32) for name in names[path]]
        whole = np.concatenate(parts, axis=-1)
        return whole[:-1] if path == _EMBEDDING else whole

    gamma = {
        name.removeprefix("gamma/"): tensors[name].astype(np.float64)
        for name in _SCHEDULES[schedule]
    }
    return {
        "model": flax.traverse_util.unflatten_dict({path: leaf_of(path) for path in leaves}),
        "schedule": {
            name: np.asarray(value, np.float32)
            for name, value in _schedule_params(schedule, gamma).items()
        },
    }


def _vdm_names(path: tuple[str, ...]) -> tuple[str, ...]:
    """Their names for one leaf of ours: several that lie side by side on its last axis."""
    *modules, leaf = path
    if tuple(modules) in _MODULES:
        theirs = _MODULES[tuple(modules)]
    else:
        side, number = modules[0].split("_")
        block = {"middle": f"mid.block_{int(number) + 1}"}.get(side, f"{side}.block_{number}")
        theirs = (f"{block}/{_BLOCK_MODULES[modules[1]]}",)
    return tuple(f"{_NETWORK}{module}/{leaf}" for module in theirs)


def _schedule_params(schedule: str, gamma: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Our parameters for the same gamma(t), float64."""
    match schedule:
        case "learned_linear":  # b + |w| t
            return {"start": gamma["b"][0], "range": gamma["w"][0]}
        case "learned_network":
            # b1 + |w1| t + sum |w3| (2 sigmoid(|w2| (2 t - 1) + b2) - 1) / 1024. The constants do not
            # matter to ours, which normalises the network to [0, 1] between the ends.
            slope, bias = np.abs(gamma["l2/kernel"][0]), gamma["l2/bias"]
            out = 2.0 / _HIDDEN * np.abs(gamma["l3/kernel"][:, 0])
            linear = np.abs(gamma["l1/kernel"][0, 0])
            start, end = (
                gamma["l1/bias"][0]
                + linear * t
                + out @ (scipy.special.expit(slope * (2 * t - 1) + bias) - 0.5)
                for t in (0.0, 1.0)
            )
            return {
                "start": start,
                "range": end - start,
                "linear": linear,
                "in_scale": 2.0 * slope,
                "in_shift": bias - slope,
                "out_scale": out,
            }
    return {}
