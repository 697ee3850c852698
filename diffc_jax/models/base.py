"""What every denoiser looks like, exact or learned."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float, Key, PyTree

# {'params': trained by gradient, 'fixed': fitted to data once and never trained}; either may be absent.
Variables = Mapping[str, PyTree]

# eps_hat(variables, z, gamma): predicted noise. z is (b, h, w, c) and variance preserving,
# z = alpha x + sigma eps with x in [-1, 1]; gamma is (b,), the negative log signal-to-noise ratio.
Denoiser = Callable[
    [Variables, Float[Array, "b h w c"], Float[Array, " b"]], Float[Array, "b h w c"]
]


@dataclasses.dataclass(frozen=True)
class Model:
    """A denoiser and what is needed to make and train it.

    Attributes:
        name: short name for result tables ("unet", "vdm", "gaussian").
        init: `init(key, statistics) -> variables`. `statistics` is what `fit_statistics` returned,
            or None for models that do not need it.
        eps_hat: the deterministic denoiser used by every sweep, decoder and codec.
        train_eps_hat: `train_eps_hat(variables, z, gamma, key)`, with dropout if the model has any.
        statistics: shapes of the data's DCT statistics (`models.gaussian`), if `init` needs them.
        prepare: `prepare(variables)` adds what `eps_hat` would compute from the parameters at each call;
            for many calls with the same parameters, not for gradients or files.
    """

    name: str
    init: Callable[[Key[Array, ""], Any], Variables]
    eps_hat: Denoiser
    train_eps_hat: Callable[..., Float[Array, "b h w c"]]
    statistics: Mapping[str, jax.ShapeDtypeStruct] | None = None
    prepare: Callable[[Variables], Variables] = lambda variables: variables
