"""Denoisers: all are `eps_hat(variables, z, gamma)`; see `base`."""

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

__all__ = ["MODELS", "Denoiser", "Model", "Variables", "build_model", "model_variables"]

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
