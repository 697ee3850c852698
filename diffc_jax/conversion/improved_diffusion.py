"""Checkpoints of github.com/openai/improved-diffusion: state dicts of its unconditional U-Nets."""

import pathlib
from collections.abc import Mapping

import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffc_jax.conversion.checkpoint import not_the_network, params_template, write_converted
from diffc_jax.errors import UsageError
from diffc_jax.metrics.features.torch_files import read_torch_state_dict
from diffc_jax.runtime.tensor_checks import check_tensors
from diffc_jax.runtime.torch_layout import from_state_dict, torch_shapes

_ORIGIN = {"project": "https://github.com/openai/improved-diffusion"}


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
    check_tensors(state_dict, torch_shapes(template), not_the_network(source))
    return from_state_dict(state_dict, template)
