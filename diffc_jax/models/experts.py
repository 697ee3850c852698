"""Two U-Nets as one denoiser: one for the noise levels above a gamma, one for the others.

Much noise asks for another network than little noise; each expert has a shape, weights and statistics of its
own (eDiff-I, Balaji et al. 2022, arXiv 2211.01324; MEME, Lee et al. 2023, arXiv 2306.04990). That costs
storage, not time: a network runs only if an image of the batch needs it, and in sweeps, decoders and the
codec the images of a batch have about the same noise level. Batches of training and of the ELBO have all
levels and take the time of both networks. The way to train experts is therefore each alone, as a `unet` that
sees only the noise levels of its side; scripts/join_experts.py makes one model of the two.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from diffc_jax.errors import UsageError
from diffc_jax.models.base import Model, Variables
from diffc_jax.models.layers import GAMMA_RANGE, build_from_fields
from diffc_jax.models.unet import unet_model


def experts_model(
    image_shape: tuple[int, int, int], split_gamma: float, fine: Any, noisy: Any
) -> Model:
    """Two experts; variables["params"] and variables["fixed"] are {"fine": ..., "noisy": ...}.

    The result for an image is that of its own expert, whatever else is in the batch, and only its own expert
    gets a gradient from it.

    Args:
        image_shape: height, width and channels of 8-bit images.
        split_gamma: the noise level where the experts meet, which belongs to `fine`.
        fine: fields of `unet_model` for gamma <= split_gamma.
        noisy: fields of `unet_model` for gamma > split_gamma.

    Raises:
        UsageError: a field that cannot be used, named; at `init`, statistics of other images.
    """
    fields = {"fine": fine, "noisy": noisy}
    experts = {side: _expert(side, fields[side], image_shape) for side in fields}
    for side in fields:
        low, high = fields[side].get("gamma_range", GAMMA_RANGE)
        if not low <= split_gamma <= high:
            raise UsageError(
                f"{split_gamma} is not in model.{side}.gamma_range = ({low}, {high})",
                field="model.split_gamma",
            )

    def together(parts: Mapping[str, Variables]) -> Variables:
        return {name: {side: part[name] for side, part in parts.items()} for name in parts["fine"]}

    def alone(variables: Variables, side: str) -> Variables:
        return {name: part[side] for name, part in variables.items()}

    def init(key: Key[Array, ""], statistics: Any) -> Variables:
        keys = jax.random.split(key, len(experts))
        parts = {
            side: expert.init(own, statistics)
            for (side, expert), own in zip(experts.items(), keys, strict=True)
        }
        return together(parts)

    def denoise(
        variables: Variables,
        z: Float[Array, "b h w c"],
        gamma: Float[Array, " b"],
        dropout_key: Key[Array, ""] | None = None,
    ) -> Float[Array, "b h w c"]:
        def ask(side: str, is_its: Bool[Array, " b"]) -> Float[Array, "b h w c"]:
            own = alone(variables, side)
            return jax.lax.cond(
                _any_of_all_batches(is_its),
                lambda: experts[side].train_eps_hat(own, z, gamma, dropout_key),
                lambda: jnp.zeros_like(z),
            )

        is_noisy = gamma > split_gamma
        noisy_eps, fine_eps = ask("noisy", is_noisy), ask("fine", ~is_noisy)
        return jnp.where(is_noisy[:, None, None, None], noisy_eps, fine_eps)

    def prepare(variables: Variables) -> Variables:
        return together({side: experts[side].prepare(alone(variables, side)) for side in experts})

    return Model("unet_experts", init, denoise, denoise, experts["fine"].statistics, prepare)


def _expert(side: str, fields: Any, image_shape: tuple[int, int, int]) -> Model:
    if not isinstance(fields, Mapping):
        raise UsageError(f"{fields!r} is not a group of fields of unet", field=f"model.{side}")
    return build_from_fields(unet_model, f"model.{side}", "unet", fields, image_shape)


@jax.custom_batching.custom_vmap
def _any_of_all_batches(values: Bool[Array, " b"]) -> Bool[Array, ""]:
    """Whether any is true, also of the batches that `jax.vmap` runs side by side.

    One answer for all of them keeps a `cond` a branch; by answers of their own it would become a selection
    between results that are all computed. The codec decodes tiles under `jax.vmap`.
    """
    return jnp.any(values)


@_any_of_all_batches.def_vmap
def _vmap_any(
    axis_size: int, in_batched: list[bool], values: Bool[Array, "a b"]
) -> tuple[Bool[Array, ""], bool]:
    del axis_size, in_batched
    return _any_of_all_batches(values.reshape(-1)), False
