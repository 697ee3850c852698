"""State dicts of the unconditional U-Nets of github.com/openai: improved-diffusion and guided-diffusion."""

import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffc_jax.conversion.checkpoint import (
    check_inputs,
    fixed_schedule,
    not_the_network,
    params_template,
    write_converted,
)
from diffc_jax.errors import InputError
from diffc_jax.metrics.features.torch_files import read_torch_state_dict
from diffc_jax.runtime.tensor_checks import check_tensors
from diffc_jax.runtime.torch_layout import from_state_dict, torch_shapes

_PROJECTS = {
    "improved_diffusion": "https://github.com/openai/improved-diffusion",
    "guided_diffusion": "https://github.com/openai/guided-diffusion",
}
_FIRST, _CLASSES = "input_blocks.0.0.weight", "label_emb.weight"


def convert_openai(config: ConfigDict, source: pathlib.Path, workdir: pathlib.Path | None) -> None:
    """Converts a `.pt` file to W/params.safetensors with its card; if W is None, checks everything only.

    The model of the validated config is improved_diffusion or guided_diffusion with the checkpoint's sizes.

    Raises:
        UsageError: the config has a schedule that would have to be learned.
        InputError: the file cannot be read or has another network, or W cannot be written.
    """
    fixed_schedule(config)
    template = params_template(config)
    params = params_from_torch(read_torch_state_dict(source), template, str(source))
    origin = {"project": _PROJECTS[config.model.name]}
    write_converted(config, {"model": params, "schedule": {}}, origin, source, workdir)


def params_from_torch(
    state_dict: Mapping[str, np.ndarray], template: PyTree, source: str = "weights"
) -> PyTree:
    """Parameters of a U-Net of `models.improved_diffusion` from a state dict.

    Raises:
        InputError: as of `check_tensors`; or the network has other inputs than one noisy image.
    """
    if _CLASSES in state_dict:
        raise InputError(
            f"{source}: is class-conditional (it has {_CLASSES!r}), and only unconditional networks"
            " can be used"
        )
    if _FIRST in state_dict and state_dict[_FIRST].ndim == 4:
        check_inputs(source, state_dict[_FIRST].shape[1])
    check_tensors(state_dict, torch_shapes(template), not_the_network(source))
    return from_state_dict(state_dict, template)
