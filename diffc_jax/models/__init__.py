"""Denoisers: all are `eps_hat(variables, z, gamma)`; see `base`."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from diffc_jax.models.base import Denoiser, Model, Variables
from diffc_jax.models.diffusers_unet import diffusers_unet_model
from diffc_jax.models.experts import experts_model
from diffc_jax.models.gaussian import gaussian_model
from diffc_jax.models.guided_diffusion import guided_diffusion_model
from diffc_jax.models.improved_diffusion import improved_diffusion_model
from diffc_jax.models.layers import build_from_fields
from diffc_jax.models.parameters import model_variables
from diffc_jax.models.unet import unet_model
from diffc_jax.models.vdm import vdm_model
from diffc_jax.typed import one_of

__all__ = [
    "MODELS",
    "Denoiser",
    "Model",
    "Variables",
    "build_model",
    "default_fields",
    "model_variables",
]

MODELS: dict[str, Callable[..., Model]] = {
    "diffusers_unet": diffusers_unet_model,
    "gaussian": gaussian_model,
    "guided_diffusion": guided_diffusion_model,
    "improved_diffusion": improved_diffusion_model,
    "unet": unet_model,
    "unet_experts": experts_model,
    "vdm": vdm_model,
}


def build_model(config: Mapping[str, Any], image_shape: tuple[int, int, int]) -> Model:
    """Makes the model called config["name"] with the other entries as its arguments.

    Raises:
        UsageError: unknown model, or fields that it does not have or cannot do without.
    """
    fields = dict(config)
    name = fields.pop("name", "")
    one_of("model.name", name, MODELS)
    return build_from_fields(MODELS[name], "model", name, fields, image_shape)


def default_fields(name: str) -> dict[str, Any]:
    """What the model of this name takes for fields that a config leaves out ("fine.heads" for experts).

    None of names that are not in `MODELS`.
    """
    networks: dict[str, Callable[..., Model]] = {"": MODELS[name]} if name in MODELS else {}
    if name == "unet_experts":
        networks = {"fine.": unet_model, "noisy.": unet_model}
    return {
        prefix + field: parameter.default
        for prefix, builder in networks.items()
        for field, parameter in inspect.signature(builder).parameters.items()
        if parameter.default is not inspect.Parameter.empty
        and field not in ("image_shape", "group")
    }
