"""Checkpoints of github.com/openai/improved-diffusion: state dicts of its unconditional U-Nets."""

import pathlib
from collections.abc import Mapping

import flax.traverse_util
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffc_jax.conversion.checkpoint import check_tensors, params_template, write_converted
from diffc_jax.errors import UsageError
from diffc_jax.metrics.features.torch_files import read_torch_state_dict
from diffc_jax.runtime.tensor_checks import Shape

_ORIGIN = {"project": "https://github.com/openai/improved-diffusion"}
_TORCH_NAMES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def convert_improved_diffusion(
    config: ConfigDict, source: pathlib.Path, workdir: pathlib.Path | None
) -> None:
    """Converts a `.pt` file to W/params.safetensors with its card; if W is None, checks everything only.

    The model of the validated config is improved_diffusion with the checkpoint's sizes.

    Raises:
        UsageError: the config has another model, or a schedule that would have to be learned.
        InputError: the file cannot be read or holds another network, or W cannot be written.
    """
    if config.schedule.name != "linear":
        raise UsageError(
            f"{config.schedule.name!r} has parameters, which the checkpoint has not; use 'linear'",
            field="schedule.name",
        )
    template = params_template(config, "improved_diffusion")
    params = params_from_torch(read_torch_state_dict(source), template, str(source))
    write_converted(config, {"model": params, "schedule": {}}, _ORIGIN, source, workdir)


def params_from_torch(
    state_dict: Mapping[str, np.ndarray], template: PyTree, source: str = "weights"
) -> PyTree:
    """Parameters of `models.improved_diffusion` from a state dict; errors as of `check_tensors`."""
    leaves = flax.traverse_util.flatten_dict(template)
    names = {path: ".".join((*path[:-1], _TORCH_NAMES[path[-1]])) for path in leaves}
    check_tensors(
        state_dict,
        {names[path]: _torch_shape(leaf.shape) for path, leaf in leaves.items()},
        source,
    )
    return flax.traverse_util.unflatten_dict(
        {path: _flax_layout(state_dict[name]) for path, name in names.items()}
    )


def _torch_shape(shape: Shape) -> Shape:
    """PyTorch has (outputs, inputs, positions...) where Flax has (positions..., inputs, outputs)."""
    return (*shape[:-3:-1], *shape[:-2])


def _flax_layout(array: np.ndarray) -> np.ndarray:
    array = array.astype(np.float32)
    return array if array.ndim == 1 else np.moveaxis(array, (0, 1), (-1, -2))
